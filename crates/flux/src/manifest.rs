//! Which bytes make a model: every file that loading reads, with its length and SHA-256.
//!
//! A manifest is a TOML file; see `models/flux1-schnell.toml`. Its [digest](Manifest::digest) is
//! that of its files alone, so that a comment or a licence note does not change what a verifier is
//! told.

use std::{
    fmt::Write as _,
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, ManifestError},
    file_digest::FileDigest,
    lora_choice::LoraWeight,
    regular_file::read_regular,
};

/// The files of a model, and where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Who publishes the files: `owner/name` of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Which commit of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Under which licence, as an SPDX expression where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The files, sorted by path.
    #[serde(default, rename = "file")]
    pub files: Vec<ManifestFile>,
    /// What the model is merged with, in this order. Where there are none, only the files are pinned, and whoever
    /// loads the model may choose LoRAs; the model's digest names them all the same.
    #[serde(default, rename = "lora", skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<ManifestLora>,
}

/// One LoRA of a [`Manifest`]. It has no path: whoever loads the model says where the file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestLora {
    /// Of its file.
    pub sha256: FileDigest,
    /// Its file's length.
    pub bytes: u64,
    /// How much of it is merged.
    pub weight: LoraWeight,
}

/// One file of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Relative to the model directory, with forward slashes.
    pub path: String,
    /// Its length, where somebody publishes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its digest, where somebody publishes it. Where nobody does, the operator
    /// pins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<FileDigest>,
}

/// What loading insists on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pins {
    /// Nothing: whatever the directory holds is loaded, and its digest told.
    None,
    /// Exactly these files with exactly these bytes.
    Exactly(Manifest),
}

/// The longest manifest file that is read: FLUX.1-schnell's has 4 kB.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

impl Manifest {
    /// Reads a manifest file: a regular one, of a megabyte at most.
    ///
    /// # Errors
    /// Where it cannot be read, or as [`Manifest::parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read_regular(path, MAX_MANIFEST_BYTES)?;
        let text = str::from_utf8(&bytes).map_err(|_| ManifestError::NotText)?;
        Ok(Self::parse(text)?)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is not one, or names a file outside the model directory, or one file twice.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        // A parser's message quotes the line that it is about, and goes to a terminal.
        if text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c)) {
            return Err(ManifestError::NotText);
        }
        let manifest: Self = toml::from_str(text)?;
        let mut paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        if let Some(twice) = paths.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ManifestError::Twice { path: twice[0].to_owned() });
        }
        let inside = |path: &str| {
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
                && !path.chars().any(char::is_control)
        };
        match paths.into_iter().find(|path| path.is_empty() || !inside(path)) {
            Some(path) => Err(ManifestError::Outside { path: path.to_owned() }),
            None => Ok(manifest),
        }
    }

    /// Writes a manifest.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings and numbers always serialise")
    }

    /// SHA-256 of [`Manifest::listing`]. This is what a loaded model is known by; receipts and
    /// evidence bind it.
    ///
    /// # Errors
    /// Where a file is not pinned.
    pub fn digest(&self) -> Result<[u8; 32], ManifestError> {
        Ok(Sha256::digest(self.listing()?).into())
    }

    /// One line a file, sorted by path: `{sha256 in hex}  {bytes}  {path}\n`. Then one a LoRA, in their order:
    /// `lora {weight}  {sha256 in hex}  {bytes}\n`, which is no file's line, as it begins with no digest.
    ///
    /// # Errors
    /// Where a file is not pinned.
    pub fn listing(&self) -> Result<String, ManifestError> {
        let mut files: Vec<&ManifestFile> = self.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut listing = String::new();
        for file in files {
            let (Some(bytes), Some(sha256)) = (file.bytes, file.sha256) else {
                return Err(ManifestError::Unpinned { path: file.path.clone() });
            };
            // Writing to a string never fails.
            let _ = writeln!(listing, "{sha256}  {bytes}  {}", file.path);
        }
        for ManifestLora { sha256, bytes, weight } in &self.loras {
            let _ = writeln!(listing, "lora {weight}  {sha256}  {bytes}");
        }
        Ok(listing)
    }

    /// Refuses other LoRAs than these, where there are any.
    ///
    /// # Errors
    /// [`Error::PinnedLoras`]
    pub(crate) fn check_loras(&self, found: &[ManifestLora]) -> Result<(), Error> {
        if self.loras.is_empty() || self.loras == found {
            return Ok(());
        }
        Err(Error::PinnedLoras { expected: self.loras.len(), found: found.len() })
    }

    /// The entry of a file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> ManifestFile {
        ManifestFile {
            path: path.to_owned(),
            bytes: Some(bytes),
            sha256: Some(FileDigest([7; 32])),
        }
    }

    #[test]
    fn the_digest_is_of_the_sorted_listing() {
        let manifest = Manifest { files: vec![file("b", 6), file("a", 5)], ..Manifest::default() };
        let seven = "07".repeat(32);
        let expected: [u8; 32] = Sha256::digest(format!("{seven}  5  a\n{seven}  6  b\n")).into();
        assert_eq!(manifest.digest().unwrap(), expected);

        let lora = |weight| ManifestLora {
            sha256: FileDigest([8; 32]),
            bytes: 9,
            weight: LoraWeight::new(weight).unwrap(),
        };
        let merged = Manifest { loras: vec![lora(0.5), lora(1.0)], ..manifest.clone() };
        let eight = "08".repeat(32);
        let lines = format!("lora 0.5  {eight}  9\nlora 1  {eight}  9\n");
        assert_eq!(merged.listing().unwrap(), manifest.listing().unwrap() + &lines);
        assert_eq!(Manifest::parse(&merged.to_toml()).unwrap(), merged);

        let noted = Manifest { licence: Some("Apache-2.0".to_owned()), ..manifest.clone() };
        assert_eq!(noted.digest().unwrap(), expected);
    }

    #[test]
    fn reads_what_it_writes() {
        let manifest = Manifest {
            repository: Some("owner/name".to_owned()),
            files: vec![file("transformer/config.json", 378)],
            ..Manifest::default()
        };
        assert_eq!(Manifest::parse(&manifest.to_toml()).unwrap(), manifest);
    }

    #[test]
    fn refuses_paths_that_leave_and_files_told_twice() {
        for path in ["../x", "/etc/passwd", "", "a/../b", "./a"] {
            let text = format!("[[file]]\npath = {path:?}\n");
            let refused = Manifest::parse(&text);
            assert!(matches!(refused, Err(ManifestError::Outside { .. })), "{path}: {refused:?}");
        }
        let twice = "[[file]]\npath = \"a\"\n[[file]]\npath = \"a\"\n";
        assert!(matches!(Manifest::parse(twice), Err(ManifestError::Twice { .. })));
        let short = "[[file]]\npath = \"a\"\nsha256 = \"07\"\n";
        assert!(matches!(Manifest::parse(short), Err(ManifestError::Toml(_))));
    }

    #[test]
    fn an_unpinned_file_has_no_digest() {
        let manifest = Manifest::parse("[[file]]\npath = \"a\"\nbytes = 3\n").unwrap();
        assert!(matches!(manifest.digest(), Err(ManifestError::Unpinned { .. })));
    }

    #[test]
    fn the_published_manifest_is_sound() {
        let text = include_str!("../../../models/flux1-schnell.toml");
        let manifest = Manifest::parse(text).unwrap();
        let transformer = manifest.file("flux1-schnell.safetensors").unwrap();
        assert_eq!(transformer.bytes, Some(23_782_506_688));
        assert!(transformer.sha256.is_some());
    }
}
