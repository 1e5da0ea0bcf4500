//! Report data: how a quote binds this node's keys, this model and the verifier's nonce.
//!
//! ```text
//! keyset_digest = SHA-256(keyset JSON, byte for byte as it travels)
//! nonce_root    = the root over the nonces of all who waited           (see nonces.rs)
//! gpu_nonce     = SHA-256("obscura/gpu-nonce/v2\0" ‖ nonce_root ‖ keyset_digest)
//! REPORT_DATA   = SHA-512("obscura/report-data/v2\0" ‖ nonce_root ‖ keyset_digest
//!                         ‖ SHA-256(model manifest) ‖ SHA-256(device evidence))
//! possession    = Ed25519("obscura/keyset/v1\0" ‖ keyset JSON)      (RFC 8032 §5.1.6)
//! ```
//! Version 1 bound one nonce where the root stands now, so that each verifier took a quote of its
//! own. Reports of version 1 are refused as unsupported. Every input of a hash has a fixed length, so that no two tuples of inputs share an encoding. The
//! byte-exact vectors of `tests/fixtures/attestation/binding.json` come from another implementation.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use thiserror::Error;

use crate::encoding::{hex, unhex_array};

/// SHA-256 of something.
pub type Digest32 = [u8; 32];

/// What a report says of how it binds. There is one way; a later one has another name.
pub const BINDING: &str = "obscura/report-data/v2";

const GPU_NONCE_DOMAIN: &[u8] = b"obscura/gpu-nonce/v2\0";
const REPORT_DATA_DOMAIN: &[u8] = b"obscura/report-data/v2\0";
const POSSESSION_DOMAIN: &[u8] = b"obscura/keyset/v1\0";

/// A verifier's challenge: 32 bytes of its own choosing, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// What is bound where no verifier sent a nonce. No text parses into it.
    pub const ABSENT: Self = Self([0; 32]);

    /// A challenge of these bytes.
    ///
    /// # Errors
    /// Where they are all zero: that is no choice, and stands for [`Nonce::ABSENT`].
    pub fn new(bytes: [u8; 32]) -> Result<Self, InvalidNonce> {
        if bytes == Self::ABSENT.0 { Err(InvalidNonce) } else { Ok(Self(bytes)) }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Nonce {
    type Err = InvalidNonce;

    fn from_str(text: &str) -> Result<Self, InvalidNonce> {
        Self::new(unhex_array(text).ok_or(InvalidNonce)?)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

/// Not a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a nonce is 64 lower-case hexadecimal digits, not all of them 0")]
pub struct InvalidNonce;

/// The keys a node answers with, for how long, and by which build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// SHA-256 of the key that the node's TLS ends at, hex: of its SubjectPublicKeyInfo in DER (RFC 5280
    /// §4.1.2.7). Absent where TLS does not end in the node, so that such a keyset has the bytes, and the
    /// digest, that it had before there was this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_spki_sha256: Option<String>,
    /// SHA-256 of the node's configuration as a text, hex: of what in it can change who reads a prompt. The
    /// node tells the text at `/v1/attestation/configuration`. Absent in keysets of before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_sha256: Option<String>,
    /// SHA-256 of the key that signs the manifests of its images (C2PA), hex: of its SubjectPublicKeyInfo in
    /// DER. Absent where the node signs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c2pa_spki_sha256: Option<String>,
}

impl KeysetBody {
    /// The X25519 public key, where it is one.
    #[must_use]
    pub fn exchange_key(&self) -> Option<[u8; 32]> {
        unhex_array(&self.x25519)
    }

    /// The Ed25519 public key, where it is one.
    #[must_use]
    pub fn signing_key(&self) -> Option<[u8; 32]> {
        unhex_array(&self.ed25519)
    }

    /// The digest of the configuration, where one is named and it is a digest.
    #[must_use]
    pub fn configuration(&self) -> Option<Digest32> {
        unhex_array(self.configuration_sha256.as_deref()?)
    }

    /// The digest of the key that signs manifests, where one is named and it is a digest.
    #[must_use]
    pub fn c2pa_key(&self) -> Option<Digest32> {
        unhex_array(self.c2pa_spki_sha256.as_deref()?)
    }

    /// The digest of the TLS key, where one is named and it is a digest.
    #[must_use]
    pub fn tls_key(&self) -> Option<Digest32> {
        unhex_array(self.tls_spki_sha256.as_deref()?)
    }
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
        sha256(&self.json)
    }

    /// Proves that whoever publishes this keyset holds its Ed25519 key: `sign` makes that key's
    /// signature over the message it is given.
    #[must_use]
    pub fn prove_possession(self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> SignedKeyset {
        let possession = sign(&possession_message(&self.json));
        SignedKeyset { keyset: self, possession }
    }
}

/// A keyset, and the proof that its publisher holds its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedKeyset {
    /// What is signed.
    pub keyset: Keyset,
    /// By the keyset's own Ed25519 key.
    pub possession: [u8; 64],
}

/// Whether `signature` proves possession of `signing_key`, for a keyset of these JSON bytes. Strict:
/// keys of small order and signatures with more than one encoding do not count.
#[must_use]
pub(crate) fn possession_holds(
    keyset: &[u8],
    signing_key: &[u8; 32],
    signature: &[u8; 64],
) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(signing_key)
        .and_then(|key| key.verify_strict(&possession_message(keyset), &signature))
        .is_ok()
}

/// What a report binds.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The root over the verifiers' challenges: [`NoncePath::root`](crate::nonces::NoncePath::root).
    pub nonce_root: Digest32,
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
            .chain_update(self.nonce_root)
            .chain_update(self.keyset)
            .chain_update(self.model_manifest)
            .chain_update(sha256(self.device_evidence))
            .finalize()
            .into()
    }
}

/// The 32 bytes that the GPU is challenged with.
#[must_use]
pub(crate) fn gpu_nonce(nonce_root: Digest32, keyset: Digest32) -> Digest32 {
    Sha256::new()
        .chain_update(GPU_NONCE_DOMAIN)
        .chain_update(nonce_root)
        .chain_update(keyset)
        .finalize()
        .into()
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest32 {
    Sha256::digest(bytes).into()
}

fn possession_message(keyset: &[u8]) -> Vec<u8> {
    [POSSESSION_DOMAIN, keyset].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: Nonce = Nonce([1; 32]);

    #[test]
    fn every_input_changes_the_report_data() {
        let bound = Bound {
            nonce_root: [1; 32],
            keyset: [2; 32],
            model_manifest: [3; 32],
            device_evidence: b"gpu",
        };
        let base = bound.report_data();
        assert_ne!(base, Bound { nonce_root: [9; 32], ..bound }.report_data());
        assert_ne!(base, Bound { keyset: [9; 32], ..bound }.report_data());
        assert_ne!(base, Bound { model_manifest: [9; 32], ..bound }.report_data());
        assert_ne!(base, Bound { device_evidence: b"", ..bound }.report_data());
        assert_ne!(gpu_nonce([1; 32], [2; 32]), gpu_nonce([2; 32], [1; 32]));
    }

    #[test]
    fn a_nonce_is_64_lower_case_digits_and_not_zero() {
        assert_eq!(ONES.to_string().parse(), Ok(ONES));
        for text in ["", &"0".repeat(64), &"A".repeat(64), &"1".repeat(63), &"1".repeat(65)] {
            assert_eq!(text.parse::<Nonce>(), Err(InvalidNonce), "{text}");
        }
    }
}
