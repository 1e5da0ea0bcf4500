//! Which keys serve at a given time.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{epoch::Epoch, error::OpenError, keys::KeyId};

/// The current epoch, and the one before it for a bounded time after a rotation.
///
/// Opening a request is [`Keyring::open`].
pub struct Keyring {
    serving: Mutex<Serving>,
    limits: KeyringLimits,
}

/// Bounds that hold for every epoch of a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyringLimits {
    /// How long an epoch opens requests after it was rotated away. A client that fetched the key
    /// just before must have time to use it; longer only delays the wiping of the old key.
    pub grace: Duration,
    /// The longest ciphertext, tag included, that is decoded at all.
    pub max_ciphertext_bytes: usize,
}

struct Serving {
    current: Arc<Epoch>,
    previous: Option<Previous>,
}

struct Previous {
    epoch: Arc<Epoch>,
    /// When the grace period began. Its end is never computed: the sum could overflow.
    rotated_at: Instant,
}

impl Keyring {
    /// A keyring with its first epoch.
    pub fn new(first: Epoch, limits: KeyringLimits) -> Self {
        let serving = Serving { current: Arc::new(first), previous: None };
        Self { serving: Mutex::new(serving), limits }
    }

    /// The epoch that new clients are to use.
    pub fn current(&self) -> Arc<Epoch> {
        Arc::clone(&self.lock().current)
    }

    /// Makes `next` current. The epoch before it still opens requests until `now` plus the grace
    /// period, and the one before that stops at once.
    ///
    /// An epoch's keys are wiped when it stops and the last request it opened is answered.
    pub fn rotate(&self, next: Epoch, now: Instant) {
        let mut serving = self.lock();
        let epoch = std::mem::replace(&mut serving.current, Arc::new(next));
        serving.previous = Some(Previous { epoch, rotated_at: now });
    }

    /// Lets go of the previous epoch if its time is over. Opening does so too; a node without
    /// requests calls this when the grace period ends, or the old keys stay in memory.
    pub fn expire(&self, now: Instant) {
        self.lock().expire(now, self.limits.grace);
    }

    pub(crate) fn max_ciphertext_bytes(&self) -> usize {
        self.limits.max_ciphertext_bytes
    }

    /// The epoch whose public key is exactly this one, if it serves now.
    pub(crate) fn epoch_of(
        &self,
        node_public: &[u8; 32],
        now: Instant,
    ) -> Result<Arc<Epoch>, OpenError> {
        let mut serving = self.lock();
        serving.expire(now, self.limits.grace);
        let previous = serving.previous.iter().map(|previous| &previous.epoch);
        std::iter::once(&serving.current)
            .chain(previous)
            .find(|epoch| epoch.exchange_public() == *node_public)
            .map(Arc::clone)
            .ok_or(OpenError::StaleKey { current_key_id: serving.current.key_id() })
    }

    fn lock(&self) -> MutexGuard<'_, Serving> {
        // Every change under the lock is one assignment: a panic leaves nothing half done.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    fn expire(&mut self, now: Instant, grace: Duration) {
        let is_over =
            |previous: &Previous| now.saturating_duration_since(previous.rotated_at) >= grace;
        if self.previous.as_ref().is_some_and(is_over) {
            self.previous = None;
        }
    }

    fn key_ids(&self) -> (KeyId, Option<KeyId>) {
        (self.current.key_id(), self.previous.as_ref().map(|previous| previous.epoch.key_id()))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (current, previous) = self.lock().key_ids();
        f.debug_struct("Keyring")
            .field("current", &current)
            .field("previous", &previous)
            .finish_non_exhaustive()
    }
}
