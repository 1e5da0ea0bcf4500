//! The protocol as a whole, from both ends.

mod conformance;
mod exchange;
mod replay;
mod rotation;
mod secrecy;
mod sui;
mod tampering;
mod vectors;
mod wycheproof;

use std::time::{Duration, Instant};

use protocol::{ConfidentialComputeRequest, ConfidentialComputeResponse};

use crate::{
    Attested, Epoch, Keyring, KeyringLimits, Opener, Zeroizing, blake2b_256, dangerous,
    seal_request,
};

const KEYSET_DIGEST: [u8; 32] = [0xa7; 32];
const MODEL_MANIFEST: [u8; 32] = [0xb8; 32];
const GRACE: Duration = Duration::from_secs(60);
const MAX_CIPHERTEXT_BYTES: usize = 8192;
const LIMITS: KeyringLimits =
    KeyringLimits { grace: GRACE, max_ciphertext_bytes: MAX_CIPHERTEXT_BYTES };

const REQUEST: &[u8] = br#"{"model":"m","prompt":"a cat"}"#;
const RESPONSE: &[u8] = br#"{"created":1700000000,"data":[]}"#;

/// An epoch with known keys; different numbers have different keys.
fn epoch(number: u8) -> Epoch {
    epoch_with_room_for(number, 1000)
}

fn epoch_with_room_for(number: u8, replay_capacity: usize) -> Epoch {
    let keys = dangerous::node_keys([number; 32], [number ^ 0x80; 32]);
    Epoch::new(keys, KEYSET_DIGEST, replay_capacity)
}

fn node() -> Keyring {
    Keyring::new(epoch(1), LIMITS)
}

fn attested(node: &Keyring) -> Attested {
    Attested {
        signing_key: node.current().signing_public(),
        keyset_digest: KEYSET_DIGEST,
        model_manifest: MODEL_MANIFEST,
    }
}

fn sealed_to(node: &Keyring) -> (ConfidentialComputeRequest, Opener) {
    let node_public = node.current().exchange_public();
    seal_request(&node_public, Zeroizing::new(REQUEST.to_vec())).unwrap()
}

fn body(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

fn now() -> Instant {
    Instant::now()
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|n| byte(2 * n))
}

/// The same with the hash of other bytes.
fn with_hash_of(request: &ConfidentialComputeRequest, bytes: &[u8]) -> ConfidentialComputeRequest {
    let plaintext_body_hash = crate::encoding::encode(blake2b_256(bytes));
    ConfidentialComputeRequest { plaintext_body_hash, ..request.clone() }
}
