//! The keyring: the epochs whose keys open requests at a given time.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    epoch::Epoch,
    error::{OpenError, TooManyEpochs},
    key_id::KeyId,
    replay::{self, Room},
};

/// The share of its replay cache after which a key is worn out: fresh keys take over while the old
/// one can still serve its grace period.
const WORN_OUT: f64 = 0.75;

/// The current epoch, and those before it, each for a bounded time after it was rotated away.
///
/// However often keys are rotated, who sealed to a key just before can have the request opened until
/// that key's grace period ends: rotations are bounded ([`Keyring::MAX_EPOCHS`]), not grace periods.
///
/// Opening a request is [`Keyring::open`].
pub struct Keyring {
    serving: Mutex<Serving>,
    /// What the epochs remember of requests, as many as there may be of the first one's capacity.
    room: Arc<Room>,
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
    /// The oldest first.
    previous: VecDeque<Previous>,
}

struct Previous {
    epoch: Arc<Epoch>,
    /// When the grace period began. Its end is never computed: the sum could overflow.
    rotated_at: Instant,
}

impl Keyring {
    /// How many epochs serve at once, the current one included. It bounds what replay caches take.
    pub const MAX_EPOCHS: usize = replay::MAX_EPOCHS;

    /// A keyring with its first epoch.
    pub fn new(first: Epoch, limits: KeyringLimits) -> Self {
        let room = Arc::clone(first.replays.room());
        let serving = Serving { current: Arc::new(first), previous: VecDeque::new() };
        Self { serving: Mutex::new(serving), room, limits }
    }

    /// The epoch that new clients are to use.
    pub fn current(&self) -> Arc<Epoch> {
        Arc::clone(&self.lock().current)
    }

    /// Makes `next` current. The epoch before it still opens requests until `now` plus the grace
    /// period, whatever is rotated meanwhile. Its X25519 secret is wiped then, its signing key with the
    /// last answer to a request it opened.
    ///
    /// # Errors
    /// Where [`Keyring::MAX_EPOCHS`] epochs serve: the current one stays so until the oldest one's
    /// grace period ends.
    pub fn rotate(&self, mut next: Epoch, now: Instant) -> Result<(), TooManyEpochs> {
        let mut serving = self.lock();
        serving.expire(now, self.limits.grace);
        if !serving.has_room() {
            return Err(TooManyEpochs);
        }
        next.replays.share(&self.room);
        let epoch = std::mem::replace(&mut serving.current, Arc::new(next));
        serving.previous.push_back(Previous { epoch, rotated_at: now });
        Ok(())
    }

    /// Whether fresh keys are to take over at `now`, and may: the current ones, made at `made`, have
    /// served for `lifetime`, or accepted nearly as many requests as they may; and less than
    /// [`Keyring::MAX_EPOCHS`] serve. Until then the current ones stay: nobody loses a grace period to
    /// a rotation that was forced. Lets go of the epochs whose time is over, too.
    pub fn is_rotation_due(&self, made: Instant, lifetime: Duration, now: Instant) -> bool {
        let mut serving = self.lock();
        serving.expire(now, self.limits.grace);
        let is_old = now.saturating_duration_since(made) >= lifetime;
        let is_worn_out = serving.current.replays.fill_ratio() >= WORN_OUT;
        (is_old || is_worn_out) && serving.has_room()
    }

    /// Lets go of the epochs whose time is over. Opening does so too; a node without requests calls
    /// this when a grace period ends, or old keys stay in memory.
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
        serving
            .epochs()
            .find(|epoch| epoch.exchange_public() == *node_public)
            .map(Arc::clone)
            .ok_or(OpenError::StaleKey { current_key_id: serving.current.key_id() })
    }

    fn lock(&self) -> MutexGuard<'_, Serving> {
        // A panic between two changes under the lock could only leave an epoch out, and none is made
        // current before it is whole.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    fn expire(&mut self, now: Instant, grace: Duration) {
        self.previous.retain(|previous| now.saturating_duration_since(previous.rotated_at) < grace);
    }

    fn has_room(&self) -> bool {
        self.previous.len() + 1 < Keyring::MAX_EPOCHS
    }

    /// The newest first.
    fn epochs(&self) -> impl Iterator<Item = &Arc<Epoch>> {
        std::iter::once(&self.current).chain(self.previous.iter().rev().map(|it| &it.epoch))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_ids: Vec<KeyId> = self.lock().epochs().map(|epoch| epoch.key_id()).collect();
        f.debug_struct("Keyring").field("key_ids", &key_ids).finish_non_exhaustive()
    }
}
