//! A log as static files (C2SP `tlog-tiles`), to be put behind any web server.
//!
//! ```text
//! checkpoint                the signed root
//! tile/entries/N[.p/W]      256 entries, each after its length as two bytes, big-endian; or W, at the end
//! tile/L/N[.p/W]            hashes: of entries where L is 0, else of whole tiles of L - 1
//! N is 000, or x001/234: three digits a folder
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    ops::Deref,
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::Checkpoint,
    entry::Entry,
    error::TlogError,
    note::{Note, SecretKey, VerifierKey},
    proof::Proof,
    tree::{Hash, consistency, inclusion, leaf_hash, root},
    witness::Seen,
};

/// The most entries that a log is read with. A release has a handful.
pub const MAX_ENTRIES: usize = 1 << 16;

const TILE: usize = 256;
const CHECKPOINT: &str = "checkpoint";
/// An entry has some 200 bytes; more than this is none of ours.
const MAX_ENTRY_BYTES: usize = 1024;
const MAX_CHECKPOINT_BYTES: u64 = 16 * 1024;

/// A log that lies in a directory, to be read.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    entries: Vec<Vec<u8>>,
    checkpoint: Option<Note>,
}

impl Log {
    /// Reads a log, every entry of it: they must be what the checkpoint is over, and the log must have signed
    /// it. A directory without a checkpoint is a log without entries.
    ///
    /// # Errors
    /// Where a file is missing, or is not what it should be.
    pub fn open(directory: &Path, key: &VerifierKey) -> Result<Self, TlogError> {
        let mut log =
            Self { directory: directory.to_owned(), entries: Vec::new(), checkpoint: None };
        let path = directory.join(CHECKPOINT);
        // Nothing else means that there is none: a link that leads nowhere, or a folder that cannot be looked into,
        // would let a log begin anew, which is a fork.
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
            Err(source) => return Err(at(&path, source)),
            Ok(_) => {}
        }
        let note = Note::parse(&String::from_utf8_lossy(&read(&path, MAX_CHECKPOINT_BYTES)?))?;
        let checkpoint = Checkpoint::parse(note.signed_by(key)?.0)?;
        if checkpoint.origin != key.name() {
            let expected = key.name().to_owned();
            return Err(TlogError::OtherLog { found: checkpoint.origin, expected });
        }
        let size = usize::try_from(checkpoint.size).ok().filter(|size| *size <= MAX_ENTRIES);
        let size = size.ok_or(TlogError::TooLarge { max: MAX_ENTRIES })?;
        for (index, width) in tiles(size) {
            let path = directory.join("tile/entries").join(tile_name(index, width));
            let bytes = read(&path, (TILE * (MAX_ENTRY_BYTES + 2)) as u64)?;
            let damaged = || TlogError::Damaged { path: path.display().to_string() };
            log.entries.extend(bundle(&bytes, width).ok_or_else(damaged)?);
        }
        if root(&log.leaves()) != checkpoint.root {
            return Err(TlogError::Damaged { path: path.display().to_string() });
        }
        log.checkpoint = Some(note);
        Ok(log)
    }

    /// How many entries there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// The signed root, once there is an entry.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Note> {
        self.checkpoint.as_ref()
    }

    /// That an entry is in it.
    ///
    /// # Errors
    /// Where it is not.
    pub fn prove(&self, entry: &Entry) -> Result<Proof, TlogError> {
        let index = self.find(entry).ok_or(TlogError::NoEntry)?;
        let path = inclusion(index, &self.leaves()).ok_or(TlogError::NoEntry)?;
        let checkpoint = self.checkpoint.clone().ok_or(TlogError::NoEntry)?;
        Ok(Proof::new(index as u64, path, checkpoint))
    }

    /// What shows a witness that the log continues what it saw; nothing where that cannot be shown.
    #[must_use]
    pub fn continues(&self, seen: &Seen) -> Vec<Hash> {
        let size = usize::try_from(seen.size).unwrap_or(usize::MAX);
        consistency(size, &self.leaves()).unwrap_or_default()
    }

    fn append(&mut self, entry: &Entry, key: &SecretKey) -> Result<u64, TlogError> {
        if let Some(index) = self.find(entry) {
            return Err(TlogError::Again { index: index as u64 });
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(TlogError::TooLarge { max: MAX_ENTRIES });
        }
        self.entries.push(entry.to_bytes());
        let leaves = self.leaves();
        for (index, width) in tiles(leaves.len()).skip((leaves.len() - 1) / TILE) {
            let entries = &self.entries[index * TILE..index * TILE + width];
            self.write(&format!("tile/entries/{}", tile_name(index, width)), &framed(entries))?;
        }
        let mut level = leaves.clone();
        for height in 0.. {
            for (index, width) in tiles(level.len()) {
                let hashes = level[index * TILE..index * TILE + width].concat();
                self.write(&format!("tile/{height}/{}", tile_name(index, width)), &hashes)?;
            }
            level = level.chunks_exact(TILE).map(root).collect();
            if level.is_empty() {
                break;
            }
        }
        let origin = key.public().name().to_owned();
        let size = leaves.len() as u64;
        let checkpoint = Checkpoint { origin, size, root: root(&leaves) };
        self.publish(Note::sign(&checkpoint.to_string(), key, 0)?)?;
        Ok(size - 1)
    }

    fn publish(&mut self, checkpoint: Note) -> Result<(), TlogError> {
        self.write(CHECKPOINT, checkpoint.as_str().as_bytes())?;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn find(&self, entry: &Entry) -> Option<usize> {
        let bytes = entry.to_bytes();
        self.entries.iter().position(|known| *known == bytes)
    }

    fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|entry| leaf_hash(entry)).collect()
    }

    /// A file is whole or not there: another takes its place. It and the folders that name it are on the disk when
    /// this returns: a checkpoint that is given away must not outlive what it is over.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TlogError> {
        let path = self.directory.join(name);
        let part = path.with_extension("part");
        let written = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            let folders = path.ancestors().skip(1);
            let mut folders = folders.take_while(|folder| folder.starts_with(&self.directory));
            folders.try_for_each(|folder| File::open(folder)?.sync_all())
        };
        written().map_err(|source| at(&path, source))
    }
}

/// A log that this process alone writes, from the first file that it reads to the last that it replaces: two
/// who append at once would each sign a root without the other's entry, which is a fork.
#[derive(Debug)]
pub struct Writer {
    log: Log,
    /// On the directory. Goes with the process, whichever way that ends.
    _lock: File,
}

impl Writer {
    /// As [`Log::open`], of a directory that is made where it is not there.
    ///
    /// # Errors
    /// As [`Log::open`], and [`TlogError::Busy`] while another process has it.
    pub fn open(directory: &Path, key: &VerifierKey) -> Result<Self, TlogError> {
        let opened = fs::create_dir_all(directory).and_then(|()| File::open(directory));
        let lock = opened.map_err(|source| at(directory, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { log: Log::open(directory, key)?, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(TlogError::Busy { path: directory.display().to_string() })
            }
            Err(TryLockError::Error(source)) => Err(at(directory, source)),
        }
    }

    /// Adds an entry, signs, and writes every file that is new. The checkpoint comes last.
    ///
    /// # Errors
    /// Where the entry is there already, or a file cannot be written.
    pub fn append(&mut self, entry: &Entry, key: &SecretKey) -> Result<u64, TlogError> {
        self.log.append(entry, key)
    }

    /// Replaces the checkpoint by the same, signed by one more.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn publish(&mut self, checkpoint: Note) -> Result<(), TlogError> {
        self.log.publish(checkpoint)
    }
}

impl Deref for Writer {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

/// Index and width of each tile over so many hashes.
fn tiles(hashes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hashes.div_ceil(TILE)).map(move |index| (index, (hashes - index * TILE).min(TILE)))
}

fn tile_name(index: usize, width: usize) -> String {
    let mut name = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    if width < TILE { format!("{name}.p/{width}") } else { name }
}

fn framed(entries: &[Vec<u8>]) -> Vec<u8> {
    let framed = |entry: &Vec<u8>| {
        let length = u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&length, entry.as_slice()].concat()
    };
    entries.iter().flat_map(framed).collect()
}

/// So many entries, and nothing after them.
fn bundle(mut bytes: &[u8], count: usize) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(entries)
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, TlogError> {
    use io::Read;
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    read.map_err(|source| at(path, source))?;
    match bytes.len() as u64 <= max_bytes {
        true => Ok(bytes),
        false => Err(TlogError::Damaged { path: path.display().to_string() }),
    }
}

fn at(path: &Path, source: io::Error) -> TlogError {
    TlogError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{entry::Kind, note::Algorithm, trust::Trust, witness::Witness};

    fn entry(number: usize) -> Entry {
        Entry::of(Kind::Release, &format!("0.{number}.toml"), &number.to_le_bytes()).unwrap()
    }

    fn log_key() -> SecretKey {
        SecretKey::new("log.example/obscura", Algorithm::Log, &[1; 32]).unwrap()
    }

    fn witness_key() -> SecretKey {
        SecretKey::new("witness.example", Algorithm::Witness, &[2; 32]).unwrap()
    }

    fn trust(quorum: usize) -> Trust {
        let (log, witness) = (log_key(), witness_key());
        let text = format!("log {}\nwitness {}\nquorum {quorum}\n", log.public(), witness.public());
        text.parse().unwrap()
    }

    fn filled(directory: &Path, entries: impl Iterator<Item = usize>) -> Writer {
        let key = log_key();
        let mut log = Writer::open(directory, key.public()).unwrap();
        for number in entries {
            log.append(&entry(number), &key).unwrap();
        }
        log
    }

    #[test]
    fn an_entry_is_proven_offline_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 0..5);
        let log = Log::open(folder.path(), log_key().public()).unwrap();
        let proof = Proof::parse(&log.prove(&entry(3)).unwrap().to_string()).unwrap();
        let included = proof.verify(&entry(3), &trust(0)).unwrap();
        assert_eq!((included.index, included.size), (3, 5));
        assert!(matches!(proof.verify(&entry(4), &trust(0)), Err(TlogError::NotIncluded)));
        assert!(matches!(log.prove(&entry(9)), Err(TlogError::NoEntry)));
        // One witness must have signed, and none did.
        let lonely = proof.verify(&entry(3), &trust(1));
        assert!(matches!(lonely, Err(TlogError::TooFewWitnesses { found: 0, quorum: 1 })));
        let other = SecretKey::new("log.example/obscura", Algorithm::Log, &[9; 32]).unwrap();
        let others: Trust = format!("log {}\nquorum 0", other.public()).parse().unwrap();
        assert!(matches!(proof.verify(&entry(3), &others), Err(TlogError::Unsigned { .. })));
    }

    #[test]
    fn every_byte_of_a_proof_counts() {
        let folder = tempfile::tempdir().unwrap();
        let text = filled(folder.path(), 0..6).prove(&entry(2)).unwrap().to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let proof = String::from_utf8(bytes).ok().and_then(|text| Proof::parse(&text).ok());
            let held = proof.is_some_and(|proof| proof.verify(&entry(2), &trust(0)).is_ok());
            assert!(!held, "byte {at}");
        }
    }

    /// Two logs that share two entries and then say different things: a witness signs the one that it saw.
    #[test]
    fn a_forked_log_is_caught() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut shown = filled(one.path(), 0..2);
        let (key, log) = (witness_key(), log_key());
        let witness = Witness { key: &key, log: log.public() };
        let nothing = Seen::nothing(log.public());
        let first = shown.checkpoint().unwrap();
        let (_, seen) = witness.cosign(&nothing, first, &[], 100).unwrap();
        assert_eq!(seen.to_string().parse::<Seen>().unwrap(), seen);

        shown.append(&entry(2), &log).unwrap();
        let hidden = filled(two.path(), [0, 1, 7, 8].into_iter());
        let before = seen.clone();
        let proof = shown.continues(&seen);
        let (signed, seen) =
            witness.cosign(&seen, shown.checkpoint().unwrap(), &proof, 200).unwrap();
        // The other continues what was seen first, but not what is seen now.
        let proof = hidden.continues(&seen);
        let refused = witness.cosign(&seen, hidden.checkpoint().unwrap(), &proof, 300);
        assert!(matches!(refused, Err(TlogError::Forked { size: 3 })), "{refused:?}");
        let older = Log::open(two.path(), log.public()).unwrap();
        assert_eq!(older.size(), 4);
        let shrunk = witness.cosign(&seen, first_of(&before, &log), &[], 300);
        assert!(matches!(shrunk, Err(TlogError::Shrunk { size: 2, seen: 3 })));

        // A verifier believes the one that was witnessed.
        shown.publish(signed).unwrap();
        let witnessed = shown.prove(&entry(2)).unwrap().verify(&entry(2), &trust(1)).unwrap();
        assert_eq!(witnessed.witnesses, [("witness.example".to_owned(), 200)]);
        let unseen = hidden.prove(&entry(7)).unwrap().verify(&entry(7), &trust(1));
        assert!(matches!(unseen, Err(TlogError::TooFewWitnesses { .. })));
    }

    fn first_of(seen: &Seen, key: &SecretKey) -> &'static Note {
        let text = seen.to_string();
        Box::leak(Box::new(Note::sign(&text, key, 0).unwrap()))
    }

    #[test]
    fn a_log_that_was_changed_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 0..3);
        let path = folder.path().join("tile/entries/000.p/3");
        let mut bytes = fs::read(&path).unwrap();
        bytes[10] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let opened = Log::open(folder.path(), log_key().public());
        assert!(matches!(opened, Err(TlogError::Damaged { .. })));
        bytes.push(0);
        fs::write(&path, &bytes).unwrap();
        assert!(Log::open(folder.path(), log_key().public()).is_err());
        fs::remove_file(&path).unwrap();
        assert!(matches!(Log::open(folder.path(), log_key().public()), Err(TlogError::Io { .. })));
    }

    /// Only where there is no checkpoint does a log begin.
    #[test]
    fn a_checkpoint_that_cannot_be_read_is_not_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CHECKPOINT);
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &path).unwrap();
        let opened = Writer::open(folder.path(), log_key().public());
        assert!(matches!(opened, Err(TlogError::Io { .. })), "{opened:?}");
        fs::remove_file(&path).unwrap();
        filled(folder.path(), 0..1);
    }

    /// Whoever comes second would sign a root without what the first one appends.
    #[test]
    fn one_process_at_a_time_writes() {
        let folder = tempfile::tempdir().unwrap();
        let first = filled(folder.path(), 0..2);
        let second = Writer::open(folder.path(), log_key().public());
        assert!(matches!(second, Err(TlogError::Busy { .. })), "{second:?}");
        // Who only reads is in nobody's way.
        assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 2);
        drop(first);
        filled(folder.path(), 2..3);
        assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 3);
    }

    #[test]
    fn more_than_a_tile_is_written_as_others_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Writer::open(folder.path(), log_key().public()).unwrap();
        // Not one by one: each that is appended is waited for until it is on the disk.
        log.log.entries = (0..255).map(|number| entry(number).to_bytes()).collect();
        for number in 255..258 {
            log.append(&entry(number), &log_key()).unwrap();
        }
        assert!(matches!(log.append(&entry(7), &log_key()), Err(TlogError::Again { index: 7 })));
        let leaves = log.leaves();
        let tile = |name: &str| fs::read(folder.path().join("tile").join(name)).unwrap();
        assert_eq!(tile("0/000"), leaves[..256].concat());
        assert_eq!(tile("0/001.p/2"), leaves[256..].concat());
        assert_eq!(tile("1/000.p/1"), root(&leaves[..256]));
        assert_eq!(bundle(&tile("entries/001.p/2"), 2).unwrap()[1], entry(257).to_bytes());
        assert_eq!(Log::open(folder.path(), log_key().public()).unwrap().size(), 258);
        assert_eq!(tile_name(1_234_067, 256), "x001/x234/067");
        assert_eq!(tile_name(70, 8), "070.p/8");
    }
}
