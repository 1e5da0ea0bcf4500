//! Log entries: the digest of a release, a model's manifest or a policy, with its kind and name.
//!
//! ```text
//! obscura/log-entry/v1
//! policy
//! staging.toml
//! SHA-256 in hex
//! ```

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::TlogError;

const HEAD: &str = "obscura/log-entry/v1";
const MAX_NAME_CHARS: usize = 100;

/// What an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reference measurements: `attestation/reference/VERSION.toml`.
    Release,
    /// The files of a model.
    ModelManifest,
    /// What a verifier trusts.
    Policy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Release, Self::ModelManifest, Self::Policy];

    /// Its name in an entry.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::ModelManifest => "model-manifest",
            Self::Policy => "policy",
        }
    }
}

/// One line of the log's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    name: String,
    sha256: [u8; 32],
}

impl Entry {
    /// Of these bytes, under this name.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn of(kind: Kind, name: &str, bytes: &[u8]) -> Result<Self, TlogError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(plain);
        let sha256 = Sha256::digest(bytes).into();
        fits.then(|| Self { kind, name: name.to_owned(), sha256 }).ok_or(TlogError::EntryName)
    }

    /// The bytes that are hashed into the tree.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha256 = hex::encode(self.sha256);
        writeln!(f, "{HEAD}\n{}\n{}\n{sha256}", self.kind.name(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_kind_its_name_and_its_bytes() {
        let entry = |kind, name, bytes| Entry::of(kind, name, bytes).unwrap().to_bytes();
        let one = entry(Kind::Policy, "a.toml", b"x");
        let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(one, format!("obscura/log-entry/v1\npolicy\na.toml\n{sha256}\n").as_bytes());
        for other in [
            entry(Kind::Release, "a.toml", b"x"),
            entry(Kind::Policy, "b.toml", b"x"),
            entry(Kind::Policy, "a.toml", b"y"),
        ] {
            assert_ne!(one, other);
        }
        for name in ["", "a\nb", "a b", "../a", "ä"] {
            assert!(Entry::of(Kind::Policy, name, b"x").is_err(), "{name}");
        }
    }
}
