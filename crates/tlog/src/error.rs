//! Errors of a log, its proofs and its witnesses.

use std::io;

use thiserror::Error;

/// Each refuses.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlogError {
    /// A key.
    #[error(
        "a verifier's key is NAME+HASH+BASE64, of an Ed25519 log or witness, with the hash that follows from the rest"
    )]
    VerifierKey,
    /// A key.
    #[error(
        "a secret key is PRIVATE+KEY+NAME+HASH+BASE64, with the hash that follows from the rest"
    )]
    SecretKey,
    /// A key's name.
    #[error("a key's name is 1 to 100 printable ASCII characters without spaces and `+`")]
    Name,
    /// A signed text.
    #[error(
        "a signed note is a text, an empty line, and lines that each begin with a dash and a name"
    )]
    Note,
    /// The publisher's signature.
    #[error("`{name}` did not sign this")]
    Unsigned {
        /// Whose signature is missing or wrong.
        name: String,
    },
    /// Witnesses.
    #[error("{found} of the witnesses that are trusted signed this, and {quorum} must have")]
    TooFewWitnesses {
        /// How many did.
        found: usize,
        /// How many must.
        quorum: usize,
    },
    /// A signed root.
    #[error("a checkpoint is three lines: its origin, the number of entries, the root")]
    Checkpoint,
    /// A checkpoint that names another log than the one that was asked for.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    OtherLog {
        /// Whose it says it is.
        found: String,
        /// Whose it must be.
        expected: String,
    },
    /// A proof's form.
    #[error("this is no proof of the form c2sp.org/tlog-proof@v1")]
    Proof,
    /// The entry is not where the proof says.
    #[error("the proof does not lead from this entry to the log's root")]
    NotIncluded,
    /// An older root is not continued.
    #[error(
        "the log does not continue the one of {size} entries that was seen before: it forked, or was rewritten"
    )]
    Forked {
        /// How many entries the log had that was seen before.
        size: u64,
    },
    /// An older log than was seen.
    #[error("the log has {size} entries, fewer than the {seen} that were seen before")]
    Shrunk {
        /// Now.
        size: u64,
        /// Before.
        seen: u64,
    },
    /// An entry's name.
    #[error("an entry's name is 1 to 100 characters of a-z, A-Z, 0-9, `.`, `_` and `-`")]
    EntryName,
    /// Not in the log.
    #[error("the log has no such entry")]
    NoEntry,
    /// There already.
    #[error("the log has this entry already, at {index}")]
    Again {
        /// Where.
        index: u64,
    },
    /// Beyond what is read.
    #[error("a log of more than {max} entries is not read")]
    TooLarge {
        /// The most.
        max: usize,
    },
    /// What lies in the log's directory.
    #[error("{path}: not what the checkpoint is over")]
    Damaged {
        /// Which file.
        path: String,
    },
    /// Two that write at once would each sign what the other does not know.
    #[error("{path}: another process writes this log")]
    Busy {
        /// The log's directory.
        path: String,
    },
    /// Trusted keys.
    #[error(
        "line {line}: must be `log KEY`, `witness KEY` or `quorum N`, with one log, and a quorum of at most the witnesses"
    )]
    Trust {
        /// From 1; 0 is all of it.
        line: usize,
    },
    /// A witness's memory.
    #[error(
        "what a witness has seen is its log's name, a number of entries and a root, a line each"
    )]
    Seen,
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
