//! Receipts: signatures that tie a response to its request, the keyset and the model.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::hash::blake2b_256_of;

const DOMAIN: &[u8; 16] = b"obscura receipt\0";
const VERSION: u8 = 1;

/// The statement that a node with this attested keyset answered this request of this client with
/// this response, by this model.
///
/// ```text
/// digest  = BLAKE2b-256(0x01 ‖ request_hash ‖ response_hash ‖ client_public ‖ node_public
///                            ‖ model_manifest ‖ keyset_digest)          1 + 6 × 32 bytes
/// message = "obscura receipt" ‖ 0x00 ‖ digest                          16 + 32 bytes
/// receipt = base64(Ed25519(signing key, message))                      64 bytes
/// ```
///
/// The same key signs bare 32-byte response hashes, so the domain stands before the digest and not
/// only inside it: a message of 48 bytes is never one of 32, whatever was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// BLAKE2b-256 of the request's plaintext, which is its `plaintext_body_hash`.
    pub request_hash: [u8; 32],
    /// BLAKE2b-256 of the response's plaintext, which is its `response_hash`.
    pub response_hash: [u8; 32],
    /// The X25519 key the client made for this request.
    pub client_public: [u8; 32],
    /// The node's X25519 key.
    pub node_public: [u8; 32],
    /// The digest of the manifest of the model that answered.
    pub model_manifest: [u8; 32],
    /// The digest of the keyset in the node's attestation.
    pub keyset_digest: [u8; 32],
}

impl Receipt {
    /// Whether `signature` is `signing_key`'s over this statement, by RFC 8032's strict rules.
    pub fn is_signed_by(&self, signing_key: &[u8; 32], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(signing_key).is_ok_and(|key| {
            key.verify_strict(&self.message(), &Signature::from_bytes(signature)).is_ok()
        })
    }

    pub(crate) fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(&self.message()).to_bytes()
    }

    fn message(&self) -> [u8; 48] {
        let digest = blake2b_256_of(&[
            &[VERSION],
            &self.request_hash,
            &self.response_hash,
            &self.client_public,
            &self.node_public,
            &self.model_manifest,
            &self.keyset_digest,
        ]);
        let mut message = [0; 48];
        message[..16].copy_from_slice(DOMAIN);
        message[16..].copy_from_slice(&digest);
        message
    }
}
