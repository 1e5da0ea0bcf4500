//! Where the files of a model lie: in a folder, or in this program.
//!
//! A folder may come from anybody. Only regular files are read: a pipe or a device in the place of one
//! would be waited for, or answer without end. A symbolic link is followed, since download caches are
//! made of them, and what it leads to must be a regular file.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use super::shards::is_plain_name;
use crate::{Error, Result};

/// A model's files by name.
#[derive(Debug, Clone)]
pub(crate) enum Files {
    /// Under this folder.
    Folder(PathBuf),
    /// Built in: name, with forward slashes, and content.
    BuiltIn(&'static [(&'static str, &'static [u8])]),
}

impl Files {
    /// What messages call a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(root) => root.join(name),
            Self::BuiltIn(_) => Path::new("built-in").join(name),
        }
    }

    /// Whether there is anything of this name. What is no file is there too: opening it then says what is
    /// wrong, where passing it over would load another model than the directory seems to hold.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(name).symlink_metadata().is_ok(),
            Self::BuiltIn(files) => files.iter().any(|(file, _)| *file == name),
        }
    }

    /// In bytes.
    ///
    /// # Errors
    /// Where it is not there, or no regular file.
    pub(super) fn length(&self, name: &str) -> Result<u64> {
        match self {
            Self::Folder(root) => regular_file_bytes(&root.join(name)),
            Self::BuiltIn(files) => Ok(self.built_in(files, name)?.len() as u64),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Where it is not there, or no regular file.
    pub(super) fn open(&self, name: &str) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::Folder(root) => Ok(Box::new(open_regular(&root.join(name))?)),
            Self::BuiltIn(files) => Ok(Box::new(self.built_in(files, name)?)),
        }
    }

    /// The first by name of those in the folder itself that begin with `stem` and end with `ending`.
    pub(super) fn first_like(&self, stem: &str, ending: &str) -> Option<String> {
        let is_like =
            |name: &String| name.starts_with(stem) && name.ends_with(ending) && is_plain_name(name);
        match self {
            Self::Folder(root) => fs::read_dir(root)
                .ok()?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(is_like)
                .min(),
            Self::BuiltIn(files) => {
                files.iter().map(|(name, _)| (*name).to_owned()).filter(is_like).min()
            }
        }
    }

    fn built_in(&self, files: &[(&str, &'static [u8])], name: &str) -> Result<&'static [u8]> {
        let found = files.iter().find(|(file, _)| *file == name);
        let missing =
            || Error::Read { path: self.path(name), source: io::ErrorKind::NotFound.into() };
        found.map(|(_, content)| *content).ok_or_else(missing)
    }
}

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
pub(super) fn read_within(file: impl Read, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit_bytes {
        return Err(Error::TooLong { path: path.to_owned(), limit_bytes });
    }
    Ok(bytes)
}

fn regular_file_bytes(path: &Path) -> Result<u64> {
    let metadata =
        fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(Error::NotAFile { path: path.to_owned() })
    }
}
