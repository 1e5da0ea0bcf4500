//! Signatures that have paid for requests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::ConfidentialComputeRequest;
use sha2::{Digest, Sha256};

/// Sealings that one signature pays for within [`LIFETIME`]. Two clients who ask for the same have one signature: a
/// proxy signs a hash of the body alone, by a scheme without chance.
const SEALINGS: usize = 16;
/// How long a sealing is remembered.
const LIFETIME: Duration = Duration::from_secs(600);
/// Sealings that are remembered, some 200 bytes each; the oldest are forgotten first. Only those are that a trusted
/// signer paid for.
const CAPACITY: usize = 1 << 17;

type Hash = [u8; 32];

/// Remembers which requests a signature came with: without this one signature would pay for sealings of that body
/// without end.
pub(super) struct SpentSignatures {
    capacity: usize,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    /// The requests of each signature: one at least.
    requests: HashMap<Hash, Vec<Hash>>,
    /// When which signature came with which request, the oldest first.
    order: VecDeque<(Instant, Hash, Hash)>,
}

impl SpentSignatures {
    pub(super) fn new() -> Self {
        Self { capacity: CAPACITY, spent: Mutex::default() }
    }

    /// Whether this signature pays for this request: it has paid for few others of late, or has paid for the very
    /// same envelope.
    pub(super) fn spend(
        &self,
        signature: &[u8],
        envelope: &ConfidentialComputeRequest,
        now: Instant,
    ) -> bool {
        let signature = Sha256::digest(signature).into();
        let request = digest(envelope);
        let mut spent = self.lock();
        spent.forget_before(now.checked_sub(LIFETIME));
        let paid = spent.requests.get(&signature).map_or(&[][..], Vec::as_slice);
        if paid.contains(&request) {
            return true;
        }
        if paid.len() >= SEALINGS {
            return false;
        }
        if spent.order.len() >= self.capacity {
            spent.forget_oldest();
        }
        spent.requests.entry(signature).or_default().push(request);
        spent.order.push_back((now, signature, request));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn forget_before(&mut self, time: Option<Instant>) {
        while let (Some(time), Some((spent_at, ..))) = (time, self.order.front())
            && *spent_at < time
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, signature, request)) = self.order.pop_front() else { return };
        if let Some(requests) = self.requests.get_mut(&signature) {
            requests.retain(|other| *other != request);
            if requests.is_empty() {
                self.requests.remove(&signature);
            }
        }
    }
}

/// Of everything that makes a sealing this one. Lengths come first, so that no two have one digest.
fn digest(envelope: &ConfidentialComputeRequest) -> Hash {
    let ConfidentialComputeRequest {
        ciphertext,
        nonce,
        salt,
        client_dh_public_key,
        node_dh_public_key,
        plaintext_body_hash,
        ..
    } = envelope;
    let parts =
        [ciphertext, nonce, salt, client_dh_public_key, node_dh_public_key, plaintext_body_hash];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(salt: &str) -> ConfidentialComputeRequest {
        ConfidentialComputeRequest {
            ciphertext: "c".to_owned(),
            client_dh_public_key: "k".to_owned(),
            model_name: String::new(),
            node_dh_public_key: "k".to_owned(),
            nonce: "n".to_owned(),
            num_compute_units: None,
            plaintext_body_hash: "h".to_owned(),
            salt: salt.to_owned(),
            stack_small_id: 0,
            stream: None,
        }
    }

    #[test]
    fn a_signature_pays_for_few_requests_at_a_time() {
        let spent = SpentSignatures::new();
        let start = Instant::now();
        let pays = |salt: usize, at| spent.spend(b"first", &envelope(&salt.to_string()), at);
        for salt in 0..SEALINGS {
            assert!(pays(salt, start + Duration::from_secs(salt as u64)));
        }
        assert!(!pays(SEALINGS, start));
        assert!(pays(0, start), "it may be sent again");
        assert!(spent.spend(b"second", &envelope("b"), start));
        // One is forgotten, and makes room for one.
        let later = start + LIFETIME + Duration::from_millis(500);
        assert!(pays(SEALINGS, later));
        assert!(!pays(SEALINGS + 1, later));
        let much_later = later + LIFETIME + Duration::from_secs(60);
        assert!(pays(0, much_later));
        assert_eq!(spent.lock().requests.len(), 1);
        assert_eq!(spent.lock().order.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let spent = SpentSignatures { capacity: 2, ..SpentSignatures::new() };
        for salt in ["a", "b", "c"] {
            assert!(spent.spend(salt.as_bytes(), &envelope(salt), Instant::now()));
        }
        let spent = spent.lock();
        assert_eq!([spent.order.len(), spent.requests.len()], [2, 2]);
    }
}
