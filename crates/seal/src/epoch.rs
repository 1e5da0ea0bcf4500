//! An epoch: one set of node keys while it serves.

use std::{fmt, sync::Arc};

use ed25519_dalek::{Signer as _, SigningKey};
use x25519_dalek::StaticSecret;

use crate::{error::SealError, key_id::KeyId, keys::NodeKeys, locked::Locked, replay::ReplayCache};

/// A node's keys, the attestation that speaks for them, and the requests they have opened.
///
/// The replay cache belongs to the keys: once they are gone no copy of a request opens, so the
/// cache may go with them.
pub struct Epoch {
    pub(crate) exchange: Locked<StaticSecret>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) replays: ReplayCache,
    exchange_public: [u8; 32],
}

/// The half of an epoch that answers need. They may outlive it: a stream that is still being sent
/// must not keep the key alive that opens requests.
pub(crate) struct Signer {
    pub(crate) key: Locked<SigningKey>,
    pub(crate) keyset_digest: [u8; 32],
    pub(crate) key_id: KeyId,
}

impl Epoch {
    /// `keyset_digest` is the digest of the keyset document that the attestation binds;
    /// `replay_capacity` is after how many accepted requests these keys are worn out (20 to 40 bytes
    /// each, taken as they come). All epochs of a keyring together remember as many as
    /// [`Keyring::MAX_EPOCHS`](crate::Keyring::MAX_EPOCHS) times that, and accept no more.
    pub fn new(keys: NodeKeys, keyset_digest: [u8; 32], replay_capacity: usize) -> Self {
        let exchange_public = keys.exchange_public();
        let key_id = KeyId::of(&exchange_public);
        Self {
            exchange: keys.exchange,
            signer: Arc::new(Signer { key: keys.signing, keyset_digest, key_id }),
            replays: ReplayCache::new(replay_capacity),
            exchange_public,
        }
    }

    /// A short name for the X25519 key.
    pub fn key_id(&self) -> KeyId {
        self.signer.key_id
    }

    /// The X25519 public key, to which clients seal.
    pub fn exchange_public(&self) -> [u8; 32] {
        self.exchange_public
    }

    /// The Ed25519 public key, under which responses and receipts are signed.
    pub fn signing_public(&self) -> [u8; 32] {
        self.signer.key.verifying_key().to_bytes()
    }

    /// The digest of the keyset in the attestation.
    pub fn keyset_digest(&self) -> [u8; 32] {
        self.signer.keyset_digest
    }

    /// The key that signs answers, for statements that are read apart from any.
    pub fn statement_signer(&self) -> StatementSigner {
        StatementSigner(self.signer.clone())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// What COSE signs begins with this (RFC 9052 §4.4): an array of four, whose first is "Signature1".
const SIG_STRUCTURE: &[u8] = b"\x84\x6aSignature1";

/// The key that signs answers, for statements in COSE. It may outlive its epoch, as what answers a
/// request does.
pub struct StatementSigner(pub(crate) Arc<Signer>);

impl StatementSigner {
    /// The Ed25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.key.verifying_key().to_bytes()
    }

    /// The digest of the keyset that names it.
    pub fn keyset_digest(&self) -> [u8; 32] {
        self.0.keyset_digest
    }

    /// Ed25519 over COSE's Sig_structure. Nothing else that this key signs begins as that does, or is as
    /// long: response hashes have 32 bytes, receipts and keysets begin with their domains.
    ///
    /// # Errors
    /// [`SealError::NotCose`] where the message is no Sig_structure.
    pub fn sign_cose(&self, sig_structure: &[u8]) -> Result<[u8; 64], SealError> {
        if !sig_structure.starts_with(SIG_STRUCTURE) || sig_structure.len() <= 48 {
            return Err(SealError::NotCose);
        }
        Ok(wipe::stack(|| self.0.key.sign(sig_structure).to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Epoch, NodeKeys, SealError};

    #[test]
    fn only_cose_is_signed() {
        let signer = Epoch::new(NodeKeys::generate().unwrap(), [1; 32], 1).statement_signer();
        let message = [&b"\x84\x6aSignature1"[..], &[0; 64]].concat();
        assert!(signer.sign_cose(&message).is_ok());
        for other in [&[0; 32][..], b"obscura receipt\0", &message[1..], &message[..32]] {
            assert_eq!(signer.sign_cose(other), Err(SealError::NotCose));
        }
    }
}
