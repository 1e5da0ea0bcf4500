//! A proof that an entry is in a log, to be checked offline (C2SP `tlog-proof`).
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 3
//! BASE64 of each sibling, from the entry up
//!
//! the signed checkpoint
//! ```

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use crate::{
    checkpoint::number,
    entry::Entry,
    error::TlogError,
    note::Note,
    tree::{Hash, leaf_hash, verify_inclusion},
    trust::Trust,
};

/// The longest proof that is read.
pub const MAX_PROOF_BYTES: usize = 24 * 1024;

const HEAD: &str = "c2sp.org/tlog-proof@v1";

/// A path, and the checkpoint that it leads to. Nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    index: u64,
    path: Vec<Hash>,
    checkpoint: Note,
}

/// What a proof showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// The name of the log that has the entry.
    pub log: String,
    /// The entry's place in the log, from 0.
    pub index: u64,
    /// How many entries there were.
    pub size: u64,
    /// Who saw that the log continues what it was, and when, in seconds since 1970.
    pub witnesses: Vec<(String, u64)>,
}

impl Proof {
    /// From a log.
    #[must_use]
    pub fn new(index: u64, path: Vec<Hash>, checkpoint: Note) -> Self {
        Self { index, path, checkpoint }
    }

    /// Reads one. Extra data, which no signature covers, is refused.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, TlogError> {
        let read = || {
            let (head, note) = text.split_once("\n\n").filter(|_| text.len() <= MAX_PROOF_BYTES)?;
            let mut lines = head.split('\n');
            if lines.next()? != HEAD {
                return None;
            }
            let index = number(lines.next()?.strip_prefix("index ")?)?;
            let path = lines.map(|line| BASE64.decode(line).ok()?.try_into().ok());
            let path = path.collect::<Option<_>>()?;
            Some(Self { index, path, checkpoint: Note::parse(note).ok()? })
        };
        read().ok_or(TlogError::Proof)
    }

    /// Whether the entry is in a log that is believed.
    ///
    /// # Errors
    /// What is missing.
    pub fn verify(&self, entry: &Entry, trust: &Trust) -> Result<Included, TlogError> {
        let believed = trust.believe(&self.checkpoint)?;
        let (checkpoint, leaf) = (believed.checkpoint, leaf_hash(&entry.to_bytes()));
        if !verify_inclusion(&leaf, self.index, checkpoint.size, &self.path, &checkpoint.root) {
            return Err(TlogError::NotIncluded);
        }
        Ok(Included {
            log: checkpoint.origin,
            index: self.index,
            size: checkpoint.size,
            witnesses: believed.witnesses,
        })
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nindex {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint.as_str())
    }
}

impl fmt::Display for Included {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of {} in {}", self.index, self.size, self.log)?;
        for (name, _) in &self.witnesses {
            write!(f, ", witnessed by {name}")?;
        }
        Ok(())
    }
}
