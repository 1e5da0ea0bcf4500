//! Where the files of a model lie: in a folder, or in this program.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    regular_file::{open_regular, regular_file_bytes},
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

    /// The names of files in a folder of the model, sorted; empty for the model's own folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Folder(root) => fs::read_dir(root.join(folder))
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| is_plain_name(name))
                .collect(),
            Self::BuiltIn(files) => files
                .iter()
                .filter_map(|(name, _)| name.strip_prefix(folder))
                .map(|name| name.trim_start_matches('/').to_owned())
                .filter(|name| is_plain_name(name))
                .collect(),
        };
        names.sort_unstable();
        names
    }

    fn built_in(&self, files: &[(&str, &'static [u8])], name: &str) -> Result<&'static [u8]> {
        let found = files.iter().find(|(file, _)| *file == name);
        let missing =
            || Error::Read { path: self.path(name), source: io::ErrorKind::NotFound.into() };
        found.map(|(_, content)| *content).ok_or_else(missing)
    }
}

/// Whether a file name stays in its folder and can be printed: it is told in errors.
pub(super) fn is_plain_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    name.len() <= 255 && name.bytes().all(is_plain) && !["", ".", ".."].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert!(is_plain_name("diffusion_pytorch_model-00001-of-00003.safetensors"));
        for name in ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\u{1b}[2J", "a\\b", "a\0"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
