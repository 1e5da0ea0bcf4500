//! A node's keys: one to agree with clients, one to sign responses.

use ed25519_dalek::{Signer, SigningKey};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{error::SealError, locked::Locked, random};

/// X25519 and Ed25519 keys, made together and attested together.
///
/// They never leave: no `Clone`, no `Debug`, no accessor. Each lies on a memory page of its own, which
/// is wiped when it is dropped, and whatever computes with one wipes the stack it did so on.
pub struct NodeKeys {
    pub(crate) exchange: Locked<StaticSecret>,
    pub(crate) signing: Locked<SigningKey>,
    exchange_public: [u8; 32],
}

impl NodeKeys {
    /// Fresh keys from the operating system.
    pub fn generate() -> Result<Self, SealError> {
        wipe::stack(|| {
            let (exchange, signing) = (random::secret()?, random::secret()?);
            Ok(Self::from_secrets(&exchange, &signing))
        })
    }

    /// The X25519 public key, to which clients seal (RFC 7748 §6.1).
    pub fn exchange_public(&self) -> [u8; 32] {
        self.exchange_public
    }

    /// The Ed25519 public key, under which responses and receipts are signed (RFC 8032 §5.1.5).
    pub fn signing_public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// Ed25519 over a message that shows whose keys these are. It must begin with a domain of its
    /// own: this key also signs bare 32-byte hashes of responses, and receipts under theirs.
    pub fn prove_possession(&self, message: &[u8]) -> [u8; 64] {
        debug_assert_ne!(message.len(), 32, "a response's hash is not a message of this kind");
        wipe::stack(|| self.signing.sign(message).to_bytes())
    }

    /// Whether the system keeps both secrets out of swap.
    pub fn are_locked(&self) -> bool {
        self.exchange.is_locked() && self.signing.is_locked()
    }

    /// The caller wipes the stack.
    pub(crate) fn from_secrets(exchange: &[u8; 32], signing: &[u8; 32]) -> Self {
        let exchange = Locked::new(StaticSecret::from(*exchange));
        let signing = Locked::new(SigningKey::from_bytes(signing));
        let exchange_public = PublicKey::from(&*exchange).to_bytes();
        Self { exchange, signing, exchange_public }
    }
}
