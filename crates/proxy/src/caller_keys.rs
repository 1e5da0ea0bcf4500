//! The keys that callers seal to. No evidence speaks for them: they hide nothing from this machine.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use seal::{Epoch, Keyring, KeyringLimits, NodeKeys, SealError};

use crate::config::MAX_BODY_BYTES;

const LIFETIME: Duration = Duration::from_secs(60 * 60);
const GRACE: Duration = Duration::from_secs(10 * 60);
/// Requests of one key; fresh keys take over before.
const REPLAY_CAPACITY: usize = 100_000;

/// Keys, and when the current ones were made.
pub(crate) struct CallerKeys {
    ring: Keyring,
    made: Mutex<Instant>,
}

impl CallerKeys {
    pub(crate) fn new() -> Result<Self, SealError> {
        let limits = KeyringLimits { grace: GRACE, max_ciphertext_bytes: MAX_BODY_BYTES };
        Ok(Self { ring: Keyring::new(epoch()?, limits), made: Mutex::new(Instant::now()) })
    }

    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    pub(crate) fn current_public(&self) -> [u8; 32] {
        self.ring.current().exchange_public()
    }

    /// Lets fresh keys take over where it is time.
    pub(crate) fn rotate_if_due(&self, now: Instant) -> Result<(), SealError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ring.is_rotation_due(*made, LIFETIME, now)
            && self.ring.rotate(epoch()?, now).is_ok()
        {
            *made = now;
        }
        Ok(())
    }
}

/// Fresh keys, of no keyset.
fn epoch() -> Result<Epoch, SealError> {
    Ok(Epoch::new(NodeKeys::generate()?, [0; 32], REPLAY_CAPACITY))
}
