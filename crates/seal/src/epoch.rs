//! One set of node keys while it serves.

use std::fmt;

use crate::{
    keys::{KeyId, NodeKeys},
    replay::ReplayCache,
};

/// A node's keys, the attestation that speaks for them, and the requests they have opened.
///
/// The replay cache belongs to the keys: once they are gone no copy of a request opens, so the
/// cache may go with them.
pub struct Epoch {
    pub(crate) keys: NodeKeys,
    pub(crate) replays: ReplayCache,
    exchange_public: [u8; 32],
    keyset_digest: [u8; 32],
    key_id: KeyId,
}

impl Epoch {
    /// `keyset_digest` is the digest of the keyset document that the attestation binds;
    /// `replay_capacity` is how many requests these keys may open in all (20 to 40 bytes each, taken
    /// as they come).
    pub fn new(keys: NodeKeys, keyset_digest: [u8; 32], replay_capacity: usize) -> Self {
        let exchange_public = keys.exchange_public();
        Self {
            key_id: KeyId::of(&exchange_public),
            replays: ReplayCache::new(replay_capacity),
            exchange_public,
            keyset_digest,
            keys,
        }
    }

    /// A short name for the X25519 key.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The X25519 public key, to which clients seal.
    pub fn exchange_public(&self) -> [u8; 32] {
        self.exchange_public
    }

    /// The Ed25519 public key, under which responses and receipts are signed.
    pub fn signing_public(&self) -> [u8; 32] {
        self.keys.signing_public()
    }

    /// The digest of the keyset in the attestation.
    pub fn keyset_digest(&self) -> [u8; 32] {
        self.keyset_digest
    }

    /// How full the replay cache is, from 0 to 1. At 1 every request is refused until the next
    /// epoch, so a node rotates early.
    pub fn replay_fill_ratio(&self) -> f64 {
        self.replays.fill_ratio()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}
