//! All of a node's memory tried as keys against what was recorded of its traffic.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use tests::key_search::{Recorded, aes_keys, x25519_secrets};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{client::Exchange, scan::Memory};

/// Where the secret of this key is on pages that are kept out of swap.
pub(crate) fn locked_secrets(memory: &Memory, public: [u8; 32]) -> usize {
    let locked = memory.regions().into_iter().filter(|region| region.is_locked);
    locked
        .map(|region| memory.read(region.start, region.end - region.start))
        .map(|bytes| x25519_secrets(&bytes, &[public]).len())
        .sum()
}

/// Fails where some window of memory opens one of these, or is the secret of the key that they were
/// sealed to.
pub(crate) fn expect_no_key(memory: &Memory, when: &str, exchanges: &[Exchange], public: [u8; 32]) {
    let recorded: Vec<_> = exchanges.iter().map(recorded).collect();
    let held = memory.held();
    for (start, bytes) in &held {
        let keys = aes_keys(bytes, &recorded);
        assert!(keys.is_empty(), "{when}: an AES key at {start:#x} + {keys:?}");
        let secrets = x25519_secrets(bytes, &[public]);
        assert!(secrets.is_empty(), "{when}: an X25519 secret at {start:#x} + {secrets:?}");
    }
    let bytes: usize = held.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(bytes > 1 << 20, "{bytes} bytes are not a node's memory");
    eprintln!("{when}: no window of {} MiB is a key", bytes >> 20);
}

fn recorded(exchange: &Exchange) -> Recorded {
    let field = |name: &str| BASE64_STANDARD.decode(exchange.envelope[name].as_str().unwrap());
    Recorded::new(&field("nonce").unwrap(), &field("ciphertext").unwrap(), &exchange.plaintext)
}

/// In this very process, whose memory holds them as a node's must not.
#[test]
fn keys_that_are_there_are_found() {
    let memory = Memory::of(std::process::id()).unwrap();
    let secret: [u8; 32] = std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ 0x5a);
    let public = PublicKey::from(&StaticSecret::from(secret)).to_bytes();
    let exchange = Exchange::seal(&public, &json!({"prompt": "x"}));
    let mut planted = vec![0_u8; 1 << 20];
    let (first, last) = (planted.as_ptr().addr(), planted.as_ptr_range().end.addr());
    // An AES key may lie anywhere; a secret where 8 divides the address.
    let key_at = first + 300_001;
    let secret_at = (first + 600_000).next_multiple_of(8);
    for (at, bytes) in [(key_at, exchange.key), (secret_at, secret)] {
        planted[at - first..][..32].copy_from_slice(&bytes);
    }
    let mut found = Vec::new();
    for (start, bytes) in memory.held() {
        // Its neighbours are this test's business, and much.
        let from = first.saturating_sub(start as usize) / 8 * 8;
        let to = last.saturating_sub(start as usize).min(bytes.len());
        let bytes = bytes.get(from..to).unwrap_or_default();
        let keys = aes_keys(bytes, &[recorded(&exchange)]);
        let secrets = x25519_secrets(bytes, &[public]);
        found.extend(keys.into_iter().chain(secrets).map(|at| start as usize + from + at));
    }
    assert_eq!(found, [key_at, secret_at], "{} bytes", planted.len());
}
