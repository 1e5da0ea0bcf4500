//! Replay protection: which requests an epoch has opened.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::error::OpenError;

/// Epochs that share their room.
pub(crate) const MAX_EPOCHS: usize = 8;

/// Opened requests that are remembered although nothing was made of them.
const RECENT: usize = 1 << 14;

/// The exchanges an epoch knows, by their derived key: every request is sealed under one of its own
/// (the client draws a salt for each), so whatever else arrives under it is a copy of the request, or
/// one of the node's own answers sent back to it.
///
/// The name is that of the *derived* key, which the client's public key and the salt determine, not
/// of the public key itself: X25519 gives several public keys one shared secret (a point, and the
/// same point plus one of small order), so a carrier could rename the client's key in a copy that
/// still opens.
///
/// What was accepted, to be answered with images, is never forgotten once that has begun. Its room is shared by all
/// epochs of a keyring, so nobody fills the one that others sealed to without filling all of them. What
/// was merely opened is free to send, so it must not take that room: of it, the latest are
/// remembered. A copy of what was forgotten is refused again for the reason it was refused for.
///
/// What was opened and not answered at all is forgotten at once ([`ReplayCache::release`]), and so is what was
/// accepted and given back before work for it began ([`ReplayCache::give_back`]): its client may send it again. Only
/// what is accepted is answered with images, and that once.
pub(crate) struct ReplayCache {
    seen: Mutex<Seen>,
    /// Requests after which keys are worn out.
    capacity: usize,
    room: Arc<Room>,
}

/// How many accepted requests all epochs of a keyring remember together.
pub(crate) struct Room {
    taken: AtomicUsize,
    most: usize,
}

#[derive(Default)]
struct Seen {
    accepted: HashSet<Fingerprint>,
    /// What was opened, and by which opening.
    recent: HashMap<Fingerprint, Opening>,
    /// `recent`, the oldest first; also openings that were accepted or released since.
    order: VecDeque<(Opening, Fingerprint)>,
    next: Opening,
}

/// The number of an opening. A copy of a request that was forgotten has another one.
pub(crate) type Opening = u64;

/// See [`SessionKey::fingerprint`](crate::cipher::SessionKey::fingerprint).
pub(crate) type Fingerprint = [u8; 16];

impl ReplayCache {
    pub(crate) fn new(capacity: usize) -> Self {
        let most = capacity.saturating_mul(MAX_EPOCHS);
        let room = Arc::new(Room { taken: AtomicUsize::new(0), most });
        Self { seen: Mutex::default(), capacity, room }
    }

    /// Where epochs share it.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// From now on shares the room of other epochs. Nothing was accepted yet.
    pub(crate) fn share(&mut self, room: &Arc<Room>) {
        self.room = Arc::clone(room);
    }

    /// Remembers that a request was opened, unless it is known. Looking and remembering are one step:
    /// of two copies at once, one is refused.
    pub(crate) fn open(&self, request: Fingerprint) -> Result<Opening, OpenError> {
        let mut seen = self.lock();
        if seen.accepted.contains(&request) || seen.recent.contains_key(&request) {
            return Err(OpenError::Replayed);
        }
        let opening = seen.next;
        seen.next += 1;
        seen.recent.insert(request, opening);
        seen.order.push_back((opening, request));
        if seen.order.len() > RECENT
            && let Some((opening, oldest)) = seen.order.pop_front()
        {
            seen.forget(oldest, opening);
        }
        Ok(opening)
    }

    /// Forgets an opening that nothing was answered to, so that the request can be sent again. What was
    /// accepted stays, and what another copy opened since.
    pub(crate) fn release(&self, request: Fingerprint, opening: Opening) {
        self.lock().forget(request, opening);
    }

    /// Remembers an opened request for good, unless it is known or there is no room.
    pub(crate) fn accept(&self, request: Fingerprint) -> Result<(), OpenError> {
        let mut seen = self.lock();
        if seen.accepted.contains(&request) {
            return Err(OpenError::Replayed);
        }
        if !self.room.take() {
            return Err(OpenError::ReplayCacheFull);
        }
        seen.accepted.insert(request);
        seen.recent.remove(&request);
        Ok(())
    }

    /// Forgets an accepted request that nothing was made of, so that it can be sent again.
    pub(crate) fn give_back(&self, request: Fingerprint) {
        if self.lock().accepted.remove(&request) {
            self.room.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// From 0 (empty) to 1 (worn out), and beyond. A cache without capacity is worn out.
    pub(crate) fn fill_ratio(&self) -> f64 {
        if self.capacity == 0 {
            return 1.0;
        }
        self.lock().accepted.len() as f64 / self.capacity as f64
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Only a failed allocation could panic under the lock, and then nothing is forgotten.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn forget(&mut self, request: Fingerprint, opening: Opening) {
        if self.recent.get(&request) == Some(&opening) {
            self.recent.remove(&request);
        }
    }
}

impl Drop for ReplayCache {
    fn drop(&mut self) {
        let accepted = self.lock().accepted.len();
        self.room.taken.fetch_sub(accepted, Ordering::Relaxed);
    }
}

impl Room {
    /// Takes a place, where there is one.
    fn take(&self) -> bool {
        let one_more = |taken: usize| (taken < self.most).then(|| taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nth(n: usize) -> Fingerprint {
        (n as u128).to_le_bytes()
    }

    #[test]
    fn what_is_only_opened_takes_bounded_room_and_none_of_the_accepted() {
        let cache = ReplayCache::new(2);
        cache.open(nth(0)).unwrap();
        cache.accept(nth(0)).unwrap();
        for n in 1..=3 * RECENT {
            cache.open(nth(n)).unwrap();
        }
        let seen = cache.lock();
        assert_eq!((seen.recent.len(), seen.order.len()), (RECENT, RECENT));
        drop(seen);
        assert_eq!(cache.fill_ratio(), 0.5);
        assert_eq!(cache.open(nth(3 * RECENT)), Err(OpenError::Replayed));
        assert!(cache.open(nth(1)).is_ok(), "forgotten");
        assert_eq!(cache.open(nth(0)), Err(OpenError::Replayed), "accepted, and never forgotten");
    }

    #[test]
    fn a_copy_opened_after_the_first_was_forgotten_is_not_accepted_twice() {
        let cache = ReplayCache::new(10);
        cache.open(nth(0)).unwrap();
        for n in 1..=RECENT {
            cache.open(nth(n)).unwrap();
        }
        cache.open(nth(0)).unwrap();
        assert_eq!(cache.accept(nth(0)), Ok(()));
        assert_eq!(cache.accept(nth(0)), Err(OpenError::Replayed));
    }

    #[test]
    fn a_release_forgets_its_own_opening_and_nothing_else() {
        let cache = ReplayCache::new(10);
        let first = cache.open(nth(0)).unwrap();
        cache.release(nth(0), first);
        let second = cache.open(nth(0)).expect("released");
        // Late, and of an opening that is over.
        cache.release(nth(0), first);
        assert_eq!(cache.open(nth(0)), Err(OpenError::Replayed));
        cache.accept(nth(0)).unwrap();
        cache.release(nth(0), second);
        assert_eq!(cache.open(nth(0)), Err(OpenError::Replayed), "accepted, and never forgotten");
        // What is left of a released opening does not shorten the memory of the one after it.
        let released = cache.open(nth(1)).unwrap();
        cache.release(nth(1), released);
        cache.open(nth(1)).unwrap();
        for n in 2..RECENT {
            cache.open(nth(n)).unwrap();
        }
        assert_eq!(cache.open(nth(1)), Err(OpenError::Replayed));
        assert_eq!(cache.fill_ratio(), 0.1);
    }
}
