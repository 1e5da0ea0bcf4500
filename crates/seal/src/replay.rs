//! Which requests an epoch has opened.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::error::OpenError;

/// A bounded set of requests, by the key and nonce they were sealed with.
///
/// The name is that of the *derived* key, which the client's public key and the salt determine, not
/// of the public key itself: X25519 gives several public keys one shared secret (a point, and the
/// same point plus one of small order), so a carrier could rename the client's key in a copy that
/// still opens. Key and nonce are also the pair that AES-GCM must never see twice.
pub(crate) struct ReplayCache {
    seen: Mutex<HashSet<[u8; 16]>>,
    capacity: usize,
}

impl ReplayCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { seen: Mutex::new(HashSet::new()), capacity }
    }

    /// Remembers a request, unless it is known or there is no room. Looking and remembering are one
    /// step: of two copies at once, one is refused.
    pub(crate) fn record(&self, fingerprint: [u8; 16]) -> Result<(), OpenError> {
        let mut seen = self.lock();
        if seen.contains(&fingerprint) {
            return Err(OpenError::Replayed);
        }
        if seen.len() >= self.capacity {
            return Err(OpenError::ReplayCacheFull);
        }
        seen.insert(fingerprint);
        Ok(())
    }

    /// From 0 (empty) to 1 (full). A cache without capacity is full.
    pub(crate) fn fill_ratio(&self) -> f64 {
        if self.capacity == 0 {
            return 1.0;
        }
        self.lock().len() as f64 / self.capacity as f64
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<[u8; 16]>> {
        // Only a failed allocation could panic under the lock, before anything is inserted.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
