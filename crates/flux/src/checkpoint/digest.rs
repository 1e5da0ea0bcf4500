//! One digest for a whole model.

use sha2::{Digest, Sha256};

/// The files a model was loaded from.
///
/// Only bytes that were also parsed are hashed: no file is read a second time, so what the digest
/// names is what computes.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    files: Vec<FileDigest>,
}

/// One file of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileDigest {
    /// Relative to the model directory, with forward slashes.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
}

impl Manifest {
    pub(crate) fn add(&mut self, file: FileDigest) {
        self.files.push(file);
    }

    /// SHA-256 over one line a file, sorted by name: `{sha256 in hex}  {bytes}  {name}\n`.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut files: Vec<&FileDigest> = self.files.iter().collect();
        files.sort();
        let mut hash = Sha256::new();
        for file in files {
            for byte in file.sha256 {
                hash.update(format!("{byte:02x}"));
            }
            hash.update(format!("  {}  {}\n", file.bytes, file.name));
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: u64) -> FileDigest {
        FileDigest { name: name.to_owned(), bytes, sha256: [7; 32] }
    }

    #[test]
    fn order_of_reading_does_not_matter() {
        let mut one = Manifest::default();
        one.add(file("vae/config.json", 3));
        one.add(file("model_index.json", 2));
        let mut other = Manifest::default();
        other.add(file("model_index.json", 2));
        other.add(file("vae/config.json", 3));
        assert_eq!(one.digest(), other.digest());

        other.add(file("scheduler/scheduler_config.json", 1));
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn is_the_sha256_of_the_listing() {
        let mut manifest = Manifest::default();
        manifest.add(file("a", 5));
        let line = format!("{}  5  a\n", "07".repeat(32));
        let expected: [u8; 32] = Sha256::digest(line).into();
        assert_eq!(manifest.digest(), expected);
    }
}
