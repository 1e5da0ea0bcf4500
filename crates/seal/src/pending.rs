//! A request that was opened, and is neither accepted nor refused yet.

use std::{fmt, sync::Arc};

use protocol::ConfidentialComputeResponse;
use zeroize::Zeroizing;

use crate::{
    acceptance::Acceptance,
    epoch::Epoch,
    error::{OpenError, SealError},
    exchange::Exchange,
    key_id::KeyId,
    replay::{Fingerprint, Opening},
    responder::Responder,
};

/// An opened request, to be accepted or refused once its plaintext was read.
///
/// Whoever is accepted costs the node work, and takes one of the places of its keys' replay cache for
/// as long as they serve; whoever is refused does neither. While this is there, copies of the request
/// are refused.
///
/// Dropped, it gives the request back: nothing was answered under its key, so the same envelope may be
/// sent once more. That is what becomes of a request that finds no room behind its opening, of one
/// whose client hangs up before it is answered, and of one that [`accept`](Self::accept) has no room for.
#[must_use = "dropped, the request can be sent again"]
pub struct Pending {
    opened: Opened,
    exchange: Exchange,
}

impl Pending {
    pub(crate) fn new(
        epoch: Arc<Epoch>,
        request: Fingerprint,
        exchange: Exchange,
    ) -> Result<Self, OpenError> {
        Ok(Self { opened: Opened::new(epoch, request)?, exchange })
    }

    /// The key the request was sealed to.
    pub fn key_id(&self) -> KeyId {
        self.opened.epoch.key_id()
    }

    /// Gives the one responder that can seal the request's response, and remembers the request for as
    /// long as its keys serve; but see [`Responder::unbegun`].
    ///
    /// # Errors
    /// [`OpenError::ReplayCacheFull`] where there is no room to remember it;
    /// [`OpenError::Replayed`] where a copy of it was accepted.
    pub fn accept(self) -> Result<Responder, OpenError> {
        let Self { opened, exchange } = self;
        opened.epoch.replays.accept(opened.request)?;
        let acceptance = Acceptance::new(&opened.epoch, opened.request);
        Ok(Responder::of_accepted(opened.epoch.signer.clone(), exchange, acceptance))
    }

    /// Seals why the request is refused; as [`Responder::seal`]. Its copies are refused from then on: the
    /// refusal itself, sent back, would open as one.
    ///
    /// # Errors
    /// As [`Responder::seal`].
    pub fn refuse(
        self,
        body: Zeroizing<Vec<u8>>,
        model_manifest: &[u8; 32],
    ) -> Result<ConfidentialComputeResponse, SealError> {
        let Self { opened, exchange } = self;
        let signer = opened.epoch.signer.clone();
        opened.keep();
        Responder::of_refused(signer, exchange).seal(body, model_manifest)
    }

    /// Uses the request up without an answer that is sealed: work may have been done for it, which its
    /// copies must not cause again.
    pub fn use_up(self) {
        self.opened.keep();
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// An opening, which its epoch remembers until it is dropped.
struct Opened {
    epoch: Arc<Epoch>,
    request: Fingerprint,
    opening: Opening,
    is_kept: bool,
}

impl Opened {
    fn new(epoch: Arc<Epoch>, request: Fingerprint) -> Result<Self, OpenError> {
        let opening = epoch.replays.open(request)?;
        Ok(Self { epoch, request, opening, is_kept: false })
    }

    /// The epoch goes on remembering it, among the latest.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !self.is_kept {
            self.epoch.replays.release(self.request, self.opening);
        }
    }
}
