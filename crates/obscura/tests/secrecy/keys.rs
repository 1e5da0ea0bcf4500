//! All of a node's memory tried as keys against what was recorded of its traffic.
//!
//! `OBSCURA_SCAN=all` tries every page (`scripts/memory_scan.sh`: minutes). Otherwise pages that have not
//! changed since the node became ready are left out: they are its model's weights.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use tests::key_search::{Recorded, aes_keys, x25519_secrets};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    client::Exchange,
    scan::{Memory, Snapshot},
};

/// What was recorded, and of when memory is known.
pub(crate) struct KeySearch {
    since: Option<Snapshot>,
    node_public: [u8; 32],
}

impl KeySearch {
    /// To be made before anything is sent.
    pub(crate) fn new(memory: &Memory, node_public: [u8; 32]) -> Self {
        let is_whole = std::env::var_os("OBSCURA_SCAN").is_some_and(|what| what == "all");
        let since = (!is_whole).then(|| memory.snapshot());
        let this = Self { since, node_public };
        // The node still has its secret: a search that did not find it would find nothing.
        let locked = memory.regions().into_iter().filter(|region| region.is_locked);
        let found = locked.flat_map(|region| {
            x25519_secrets(&memory.read(region.start, region.end - region.start), &[node_public])
        });
        assert!(found.count() > 0, "the search does not find the secret that the node holds");
        this
    }

    /// Fails where some window of memory opens one of these.
    pub(crate) fn expect_no_aes_key(&self, memory: &Memory, when: &str, exchanges: &[Exchange]) {
        let recorded: Vec<_> = exchanges.iter().map(recorded).collect();
        self.expect_none(memory, when, |bytes| aes_keys(bytes, &recorded));
    }

    /// Fails where some window of memory is the secret of the key that requests were sealed to.
    pub(crate) fn expect_no_node_secret(&self, memory: &Memory, when: &str) {
        self.expect_none(memory, when, |bytes| x25519_secrets(bytes, &[self.node_public]));
    }

    fn expect_none(&self, memory: &Memory, when: &str, find: impl Fn(&[u8]) -> Vec<usize>) {
        let pages = memory.changed(self.since.as_ref());
        let mib = pages.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >> 20;
        for (start, bytes) in pages {
            let found = find(&bytes);
            assert!(found.is_empty(), "{when}: a key at {start:#x} + {found:?}");
        }
        eprintln!("{when}: no window of {mib} MiB is a key");
    }
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
    let (first, last) = (planted.as_ptr().addr() as u64, planted.as_ptr_range().end.addr() as u64);
    let before = memory.snapshot();
    // An AES key may lie anywhere; a secret where 8 divides the address.
    let key_at = first + 300_001;
    let secret_at = (first + 600_000).next_multiple_of(8);
    for (at, bytes) in [(key_at, exchange.key), (secret_at, secret)] {
        planted[(at - first) as usize..][..32].copy_from_slice(&bytes);
    }
    let mut found = Vec::new();
    for (start, bytes) in memory.changed(Some(&before)) {
        if start < last && first < start + bytes.len() as u64 {
            let keys = aes_keys(&bytes, &[recorded(&exchange)]);
            let secrets = x25519_secrets(&bytes, &[public]);
            found.extend(keys.into_iter().chain(secrets).map(|at| start + at as u64));
        }
    }
    assert_eq!(found, [key_at, secret_at], "{} bytes", planted.len());
}
