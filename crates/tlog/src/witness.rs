//! A witness, who signs a log only as long as it continues what they signed before (C2SP `tlog-witness`,
//! without its HTTP interface).

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::{
    checkpoint::Checkpoint,
    error::TlogError,
    note::{Note, SecretKey, VerifierKey},
    tree::{Hash, verify_consistency},
};

/// What a witness saw last of a log: three lines that it must keep, and keep from going back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The log's name.
    pub log: String,
    /// Entries; none before the first checkpoint.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

impl Seen {
    /// Nothing yet of this log.
    #[must_use]
    pub fn nothing(log: &VerifierKey) -> Self {
        Self { log: log.name().to_owned(), size: 0, root: [0; 32] }
    }
}

impl FromStr for Seen {
    type Err = TlogError;

    fn from_str(text: &str) -> Result<Self, TlogError> {
        let seen = Checkpoint::parse(text).map_err(|_| TlogError::Seen)?;
        Ok(Self { log: seen.origin, size: seen.size, root: seen.root })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, size, root } = self;
        writeln!(f, "{log}\n{size}\n{}", BASE64.encode(root))
    }
}

/// A key, and the log that it watches.
pub struct Witness<'a> {
    /// Its own.
    pub key: &'a SecretKey,
    /// The log's.
    pub log: &'a VerifierKey,
}

impl Witness<'_> {
    /// Signs a checkpoint that continues what was seen. Gives it, and what is seen now, which must be kept before
    /// the signature is given away.
    ///
    /// # Errors
    /// Where the log did not sign it, or it does not continue what was seen.
    pub fn cosign(
        &self,
        seen: &Seen,
        checkpoint: &Note,
        proof: &[Hash],
        now_secs: u64,
    ) -> Result<(Note, Seen), TlogError> {
        let (text, _) = checkpoint.signed_by(self.log)?;
        let found = Checkpoint::parse(text)?;
        if found.origin != self.log.name() || seen.log != found.origin {
            return Err(TlogError::OtherLog { found: found.origin, expected: seen.log.clone() });
        }
        if found.size < seen.size {
            return Err(TlogError::Shrunk { size: found.size, seen: seen.size });
        }
        let older = (seen.size, &seen.root);
        let continued =
            seen.size == 0 || verify_consistency(older, (found.size, &found.root), proof);
        if !continued {
            return Err(TlogError::Forked { size: seen.size });
        }
        let signed = checkpoint.cosign(self.key, now_secs)?;
        Ok((signed, Seen { log: found.origin, size: found.size, root: found.root }))
    }
}
