//! Report data: how a quote binds this node's keys, this model and the verifier's nonce.
//!
//! ```text
//! keyset_digest = SHA-256(keyset JSON, byte for byte as it travels)
//! gpu_nonce     = SHA-256("obscura/gpu-nonce/v1\0" ‖ nonce ‖ keyset_digest)
//! REPORT_DATA   = SHA-512("obscura/report-data/v1\0" ‖ nonce ‖ keyset_digest
//!                         ‖ model_manifest_digest ‖ SHA-256(device evidence))
//! ```
//! Every input has a fixed length, so that no two tuples of inputs share an encoding.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

/// SHA-256 of something.
pub type Digest32 = [u8; 32];

const GPU_NONCE_DOMAIN: &[u8] = b"obscura/gpu-nonce/v1\0";
const REPORT_DATA_DOMAIN: &[u8] = b"obscura/report-data/v1\0";

/// A verifier's challenge: 32 bytes of its own choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

/// The keys a node answers with, for how long, and by which build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysetBody {
    /// X25519 public key that requests are sealed to, hex.
    pub x25519: String,
    /// Ed25519 public key that responses are signed by, hex.
    pub ed25519: String,
    /// The name of this pair.
    pub key_id: String,
    /// How many keysets this process had before.
    pub epoch: u64,
    /// Seconds since 1970 from which it serves.
    pub not_before: u64,
    /// Seconds since 1970 until which a verifier may rely on it.
    pub not_after: u64,
    /// The build that made it.
    pub build_id: String,
}

/// A keyset as it travels: its JSON bytes are what is hashed, and nothing is ever re-serialised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyset {
    json: Vec<u8>,
}

impl Keyset {
    /// Fixes the bytes.
    #[must_use]
    pub fn new(body: &KeysetBody) -> Self {
        let json = serde_json::to_vec(body).expect("strings and numbers always serialise");
        Self { json }
    }

    /// The JSON bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.json
    }

    /// SHA-256 of the JSON bytes.
    #[must_use]
    pub fn digest(&self) -> Digest32 {
        Sha256::digest(&self.json).into()
    }
}

/// What a report binds.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The verifier's challenge.
    pub nonce: Nonce,
    /// [`Keyset::digest`].
    pub keyset: Digest32,
    /// Digest of the model manifest: which bytes were loaded.
    pub model_manifest: Digest32,
    /// The GPU's evidence as it travels; empty where there is none.
    pub device_evidence: &'a [u8],
}

impl Bound<'_> {
    /// The 64 bytes that go into the quote.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        Sha512::new()
            .chain_update(REPORT_DATA_DOMAIN)
            .chain_update(self.nonce.0)
            .chain_update(self.keyset)
            .chain_update(self.model_manifest)
            .chain_update(Sha256::digest(self.device_evidence))
            .finalize()
            .into()
    }
}

/// The 32 bytes that the GPU is challenged with.
#[must_use]
pub fn gpu_nonce(nonce: Nonce, keyset: Digest32) -> Digest32 {
    Sha256::new()
        .chain_update(GPU_NONCE_DOMAIN)
        .chain_update(nonce.0)
        .chain_update(keyset)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_the_report_data() {
        let bound = Bound {
            nonce: Nonce([1; 32]),
            keyset: [2; 32],
            model_manifest: [3; 32],
            device_evidence: b"gpu",
        };
        let base = bound.report_data();
        assert_ne!(base, Bound { nonce: Nonce([9; 32]), ..bound }.report_data());
        assert_ne!(base, Bound { keyset: [9; 32], ..bound }.report_data());
        assert_ne!(base, Bound { model_manifest: [9; 32], ..bound }.report_data());
        assert_ne!(base, Bound { device_evidence: b"", ..bound }.report_data());
        assert_ne!(gpu_nonce(Nonce([1; 32]), [2; 32]), gpu_nonce(Nonce([2; 32]), [1; 32]));
    }
}
