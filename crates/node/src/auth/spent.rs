//! Signatures that have paid for a request.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::ConfidentialComputeRequest;
use sha2::{Digest, Sha256};

/// Signatures that are remembered, some 120 bytes each; the oldest are forgotten first. Only trusted
/// signers' are.
const CAPACITY: usize = 1 << 17;
/// For how long.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

type Hash = [u8; 32];

/// Remembers which request a signature came with first. A proxy signs a hash of the body alone, so
/// without this one signature would pay for every sealing of that body.
pub(super) struct SpentSignatures {
    capacity: usize,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    /// The request of each signature.
    requests: HashMap<Hash, Hash>,
    /// The oldest first.
    order: VecDeque<(Instant, Hash)>,
}

impl SpentSignatures {
    pub(super) fn new() -> Self {
        Self { capacity: CAPACITY, spent: Mutex::default() }
    }

    /// Whether this signature pays for this request: it comes for the first time, or came with the
    /// very same envelope.
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
        if let Some(first) = spent.requests.get(&signature) {
            return *first == request;
        }
        if spent.order.len() >= self.capacity {
            spent.forget_oldest();
        }
        spent.requests.insert(signature, request);
        spent.order.push_back((now, signature));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn forget_before(&mut self, time: Option<Instant>) {
        while let (Some(time), Some((spent_at, _))) = (time, self.order.front())
            && *spent_at < time
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, signature)) = self.order.pop_front() {
            self.requests.remove(&signature);
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
    fn a_signature_pays_for_one_request() {
        let spent = SpentSignatures { capacity: 2, ..SpentSignatures::new() };
        let start = Instant::now();
        assert!(spent.spend(b"first", &envelope("a"), start));
        assert!(spent.spend(b"first", &envelope("a"), start), "it may be sent again");
        assert!(!spent.spend(b"first", &envelope("b"), start));
        assert!(spent.spend(b"second", &envelope("b"), start));
        // Memory is bounded: the oldest is forgotten.
        assert!(spent.spend(b"third", &envelope("c"), start));
        assert!(!spent.spend(b"third", &envelope("b"), start));
        assert_eq!(spent.lock().order.len(), 2);
        // And so is time.
        assert!(spent.spend(b"third", &envelope("b"), start + LIFETIME + Duration::from_secs(1)));
        assert_eq!(spent.lock().requests.len(), 1);
    }
}
