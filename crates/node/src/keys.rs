//! Key rotation: when fresh keys take over, and where they come from.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use attest::binding::{Keyset, KeysetBody, SignedKeyset};
use seal::{Epoch, KeyId, Keyring, KeyringLimits, NodeKeys, TooManyEpochs};
use thiserror::Error;

use crate::{clock::unix_now, config::Config, limits::MAX_EDIT_CIPHERTEXT_BYTES};

/// Keys are valid since a while before they are made: clocks of those who verify may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The node's keys, and when the current ones were made.
pub(crate) struct Keys {
    ring: Keyring,
    lifetime: Duration,
    grace: Duration,
    replay_capacity: usize,
    /// In every keyset.
    named: Named,
    newest: Mutex<Newest>,
}

/// What keysets name beside keys: it lives as long as the process.
#[derive(Clone)]
struct Named {
    tls_spki_sha256: Option<String>,
    c2pa_spki_sha256: Option<String>,
    configuration_sha256: String,
}

struct Newest {
    epoch: u64,
    made: Instant,
    keyset: Arc<SignedKeyset>,
}

impl Keys {
    /// The first keys, of a node whose TLS ends at a key of this digest, and whose manifests one of that
    /// digest signs, if any.
    pub(crate) fn new(
        config: &Config,
        tls_spki_sha256: Option<String>,
        c2pa_spki_sha256: Option<String>,
    ) -> Result<Self, KeyError> {
        let lifetime = Duration::from_secs(config.key_lifetime_secs);
        let grace = Duration::from_secs(config.key_grace_secs);
        let valid = validity(lifetime, grace);
        let configuration_sha256 = config.evidence_sha256();
        let named = Named { tls_spki_sha256, c2pa_spki_sha256, configuration_sha256 };
        let (first, keyset) = fresh(0, valid, config.replay_capacity, named.clone())?;
        let limits = KeyringLimits { grace, max_ciphertext_bytes: MAX_EDIT_CIPHERTEXT_BYTES };
        Ok(Self {
            ring: Keyring::new(first, limits),
            lifetime,
            grace,
            replay_capacity: config.replay_capacity,
            named,
            newest: Mutex::new(Newest { epoch: 0, made: Instant::now(), keyset }),
        })
    }

    pub(crate) fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// The keyset of the current keys: what evidence binds.
    pub(crate) fn keyset(&self) -> Arc<SignedKeyset> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).keyset.clone()
    }

    /// Lets fresh keys take over where they are due ([`Keyring::is_rotation_due`]); and forgets the ones
    /// before, each once its own grace is over.
    pub(crate) fn rotate_if_due(&self, now: Instant) -> Result<(), KeyError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ring.is_rotation_due(newest.made, self.lifetime, now) {
            let epoch = newest.epoch + 1;
            let valid = validity(self.lifetime, self.grace);
            let (next, keyset) = fresh(epoch, valid, self.replay_capacity, self.named.clone())?;
            let key_id = next.key_id();
            // Nobody else rotates: this lock is held.
            self.ring.rotate(next, now)?;
            tracing::info!(%key_id, epoch, "fresh keys take over");
            *newest = Newest { epoch, made: now, keyset };
        }
        Ok(())
    }
}

/// How long after its making a key may serve. It is rotated away when its lifetime is over; or, where
/// as many keys serve as may, when the grace period of the oldest ends, which began no later than this
/// key was made. Then comes its own grace period.
fn validity(lifetime: Duration, grace: Duration) -> Duration {
    lifetime.max(grace).saturating_add(grace)
}

/// Fresh keys, bound to the keyset that names them.
fn fresh(
    epoch: u64,
    valid: Duration,
    replay_capacity: usize,
    named: Named,
) -> Result<(Epoch, Arc<SignedKeyset>), KeyError> {
    let keys = NodeKeys::generate()?;
    if !keys.are_locked() {
        tracing::warn!("the system does not lock keys into memory (RLIMIT_MEMLOCK); keep swap off");
    }
    let now = unix_now();
    let keyset = Keyset::new(&KeysetBody {
        x25519: hex::encode(keys.exchange_public()),
        ed25519: hex::encode(keys.signing_public()),
        key_id: KeyId::of(&keys.exchange_public()).to_string(),
        epoch,
        not_before: now.saturating_sub(CLOCK_SKEW.as_secs()),
        not_after: now.saturating_add(valid.as_secs()),
        build_id: concat!("obscura/", env!("CARGO_PKG_VERSION")).to_owned(),
        tls_spki_sha256: named.tls_spki_sha256,
        configuration_sha256: Some(named.configuration_sha256),
        c2pa_spki_sha256: named.c2pa_spki_sha256,
    });
    let digest = keyset.digest();
    let signed = keyset.prove_possession(|message| keys.prove_possession(message));
    Ok((Epoch::new(keys, digest, replay_capacity), Arc::new(signed)))
}

/// No keys.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The system gives no randomness.
    #[error("keys could not be made")]
    Generation(#[from] seal::SealError),
    /// As many keys serve as may.
    #[error("keys could not be rotated")]
    Rotation(#[from] TooManyEpochs),
}
