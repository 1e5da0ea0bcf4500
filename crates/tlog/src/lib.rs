//! A transparency log: what was published, in an order that nobody can change unseen.
//!
//! Whoever trusts a release, a model or a policy wants to know that everybody else was shown the same one. So
//! the digest of each is an entry of a Merkle tree (RFC 6962, 2.1) that only grows; its publisher signs the root
//! ([`Checkpoint`]); a witness signs it too, after seeing that it continues the one it signed before
//! ([`Witness`]); and a [`Proof`] of a few lines shows, without the network, that an entry is in it.
//!
//! A publisher that shows one log to some and another to others needs a witness that signs both, and the honest
//! one signs one. Forms are those of C2SP: `signed-note`, `tlog-checkpoint`, `tlog-tiles`, `tlog-cosignature`,
//! `tlog-proof` (c2sp.org). Nothing here reads a clock or the network; [`Log`] alone reads files, and [`Writer`] writes
//! them.

mod checkpoint;
mod entry;
mod error;
mod layout;
mod log;
mod note;
mod proof;
#[cfg(test)]
mod tests;
mod tree;
mod trust;
mod witness;
mod writer;

pub use checkpoint::Checkpoint;
pub use entry::{Entry, Kind};
pub use error::TlogError;
pub use log::{Log, MAX_ENTRIES};
pub use note::{Algorithm, Note, SecretKey, VerifierKey};
pub use proof::{Included, MAX_PROOF_BYTES, Proof};
pub use tree::{
    Hash, consistency, inclusion, leaf_hash, root, verify_consistency, verify_inclusion,
};
pub use trust::Trust;
pub use witness::{Seen, Witness};
pub use writer::Writer;
