//! A log that grows: what is new is on the disk before the checkpoint that is over it.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    ops::Deref,
    path::Path,
};

use crate::{
    checkpoint::Checkpoint,
    entry::Entry,
    error::TlogError,
    layout::{CHECKPOINT, TILE, framed, tile_name, tiles},
    log::{Log, MAX_ENTRIES, at},
    note::{Note, SecretKey, VerifierKey},
    tree::root,
};

/// A log that this process alone writes, from the first file that it reads to the last that it replaces: two
/// who append at once would each sign a root without the other's entry, which is a fork.
#[derive(Debug)]
pub struct Writer {
    pub(crate) log: Log,
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
        if let Some(index) = self.find(entry) {
            return Err(TlogError::Again { index: index as u64 });
        }
        if self.size() >= MAX_ENTRIES {
            return Err(TlogError::TooLarge { max: MAX_ENTRIES });
        }
        self.log.entries.push(entry.to_bytes());
        let leaves = self.leaves();
        for (index, width) in tiles(leaves.len()).skip((leaves.len() - 1) / TILE) {
            let entries = &self.log.entries[index * TILE..index * TILE + width];
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

    /// Replaces the checkpoint by the same, signed by one more.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn publish(&mut self, checkpoint: Note) -> Result<(), TlogError> {
        self.write(CHECKPOINT, checkpoint.as_str().as_bytes())?;
        self.log.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// A file is whole or not there: another takes its place. It and the folders that name it are on the disk when
    /// this returns: a checkpoint that is given away must not outlive what it is over.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TlogError> {
        let path = self.log.directory.join(name);
        let part = path.with_extension("part");
        let written = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            let folders = path.ancestors().skip(1);
            let mut folders = folders.take_while(|folder| folder.starts_with(&self.log.directory));
            folders.try_for_each(|folder| File::open(folder)?.sync_all())
        };
        written().map_err(|source| at(&path, source))
    }
}

impl Deref for Writer {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}
