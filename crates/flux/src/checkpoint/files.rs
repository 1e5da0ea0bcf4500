//! Where the files of a model lie: in a folder, or in this program.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

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

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(name).is_file(),
            Self::BuiltIn(files) => files.iter().any(|(file, _)| *file == name),
        }
    }

    /// In bytes.
    pub(super) fn length(&self, name: &str) -> io::Result<u64> {
        match self {
            Self::Folder(root) => Ok(fs::metadata(root.join(name))?.len()),
            Self::BuiltIn(files) => Ok(content(files, name)?.len() as u64),
        }
    }

    pub(super) fn open(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Self::Folder(root) => Ok(Box::new(File::open(root.join(name))?)),
            Self::BuiltIn(files) => Ok(Box::new(content(files, name)?)),
        }
    }

    /// The first by name of those in the folder itself that begin with `stem` and end with `ending`.
    pub(super) fn first_like(&self, stem: &str, ending: &str) -> Option<String> {
        let names: Vec<String> = match self {
            Self::Folder(root) => fs::read_dir(root)
                .ok()?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect(),
            Self::BuiltIn(files) => files.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        names.into_iter().filter(|name| name.starts_with(stem) && name.ends_with(ending)).min()
    }
}

fn content(files: &[(&str, &'static [u8])], name: &str) -> io::Result<&'static [u8]> {
    let found = files.iter().find(|(file, _)| *file == name);
    found.map(|(_, content)| *content).ok_or_else(|| io::ErrorKind::NotFound.into())
}
