//! A request that was opened, and is neither accepted nor refused yet.

use std::{fmt, sync::Arc};

use protocol::ConfidentialComputeResponse;
use zeroize::Zeroizing;

use crate::{
    epoch::Epoch,
    error::{OpenError, SealError},
    exchange::Exchange,
    key_id::KeyId,
    replay::Fingerprint,
    responder::Responder,
};

/// An opened request, to be accepted or refused once its plaintext was read.
///
/// Whoever is accepted costs the node work, and takes one of the places of its keys' replay cache for
/// as long as they serve; whoever is refused does neither.
pub struct Pending {
    epoch: Arc<Epoch>,
    fingerprint: Fingerprint,
    exchange: Exchange,
}

impl Pending {
    pub(crate) fn new(epoch: Arc<Epoch>, fingerprint: Fingerprint, exchange: Exchange) -> Self {
        Self { epoch, fingerprint, exchange }
    }

    /// The key the request was sealed to.
    pub fn key_id(&self) -> KeyId {
        self.epoch.key_id()
    }

    /// Gives the one responder that can seal the request's response, and remembers the request for as
    /// long as its keys serve.
    ///
    /// # Errors
    /// [`OpenError::ReplayCacheFull`] where there is no room to remember it;
    /// [`OpenError::Replayed`] where a copy of it was accepted.
    pub fn accept(self) -> Result<Responder, OpenError> {
        self.epoch.replays.accept(self.fingerprint)?;
        Ok(Responder::new(self.epoch.signer.clone(), self.exchange))
    }

    /// Seals why the request is refused; as [`Responder::seal`].
    ///
    /// # Errors
    /// As [`Responder::seal`].
    pub fn refuse(
        self,
        body: Zeroizing<Vec<u8>>,
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        Responder::new(self.epoch.signer.clone(), self.exchange).seal(body, model_manifest)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}
