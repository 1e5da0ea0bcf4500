//! A log that lies in a directory, read whole and believed where its checkpoint is over what lies there.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::Checkpoint,
    entry::Entry,
    error::TlogError,
    layout::{CHECKPOINT, TILE, bundle, tile_name, tiles},
    note::{Note, VerifierKey},
    proof::Proof,
    tree::{Hash, consistency, inclusion, leaf_hash, root},
    witness::Seen,
};

/// The most entries that a log is read with. A release has a handful.
pub const MAX_ENTRIES: usize = 1 << 16;

/// An entry has some 200 bytes; more than this is none of ours.
const MAX_ENTRY_BYTES: usize = 1024;
const MAX_CHECKPOINT_BYTES: u64 = 16 * 1024;

/// A log that lies in a directory, to be read.
#[derive(Debug)]
pub struct Log {
    pub(crate) directory: PathBuf,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) checkpoint: Option<Note>,
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

    pub(crate) fn find(&self, entry: &Entry) -> Option<usize> {
        let bytes = entry.to_bytes();
        self.entries.iter().position(|known| *known == bytes)
    }

    pub(crate) fn leaves(&self) -> Vec<Hash> {
        self.entries.iter().map(|entry| leaf_hash(entry)).collect()
    }
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, TlogError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
    read.map_err(|source| at(path, source))?;
    match bytes.len() as u64 <= max_bytes {
        true => Ok(bytes),
        false => Err(TlogError::Damaged { path: path.display().to_string() }),
    }
}

pub(crate) fn at(path: &Path, source: io::Error) -> TlogError {
    TlogError::Io { path: path.display().to_string(), source }
}
