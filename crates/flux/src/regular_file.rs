//! Opens regular files alone: a model directory may come from anybody.
//!
//! Only regular files are read: a pipe or a device in the place of one would be waited for, or answer without
//! end. A symbolic link is followed, since download caches are made of them, and what it leads to must be a
//! regular file.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

/// Opens what must be a regular file, or a link to one.
///
/// # Errors
/// Where it is not there, or something else.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let error = |source: io::Error| Error::Read { path: path.to_owned(), source };
    // Before it is opened: opening a device can do something to it.
    regular_file_bytes(path)?;
    // Should the file have been exchanged since: no pipe is waited for, no terminal taken over.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|found| error(found.into()))?;
    let file = File::from(file);
    if !file.metadata().map_err(error)?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    Ok(file)
}

/// Reads a whole file of at most `limit_bytes` bytes.
///
/// # Errors
/// Where it is not there, no regular file, or longer.
pub(crate) fn read_regular(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    read_within(open_regular(path)?, path, limit_bytes)
}

/// Reads all of `file`, whatever length it claims to have.
///
/// # Errors
/// Where it is longer than `limit_bytes`.
pub(crate) fn read_within(file: impl Read, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::TooLong { path: path.to_owned(), limit_bytes });
    }
    Ok(bytes)
}

/// The length of what must be a regular file.
///
/// # Errors
/// Where it is not there, or something else.
pub(crate) fn regular_file_bytes(path: &Path) -> Result<u64> {
    let metadata =
        fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(Error::NotAFile { path: path.to_owned() })
    }
}
