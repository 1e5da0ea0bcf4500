//! What becomes of a request that was accepted.

use std::sync::{Arc, OnceLock, Weak};

use crate::{epoch::Epoch, replay::Fingerprint};

/// An accepted request, which its epoch remembers for good once its fate is [`Fate::TakenUp`].
pub(crate) struct Acceptance {
    /// Weak: an answer that is slow to be taken must not keep the key that opens requests.
    epoch: Weak<Epoch>,
    request: Fingerprint,
    /// Whichever comes first, and then for good.
    fate: OnceLock<Fate>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Work was begun for it, or something was sealed under its key.
    TakenUp,
    /// It may be sent again, and nothing can be sealed any more by what was handed out before.
    GivenBack,
}

impl Acceptance {
    pub(crate) fn new(epoch: &Arc<Epoch>, request: Fingerprint) -> Arc<Self> {
        Arc::new(Self { epoch: Arc::downgrade(epoch), request, fate: OnceLock::new() })
    }

    /// Keeps the request from ever being given back; `false` where it was before.
    pub(crate) fn take_up(&self) -> bool {
        *self.fate.get_or_init(|| Fate::TakenUp) == Fate::TakenUp
    }

    fn give_back(&self) {
        // Once: by the next time another copy of the request may have been accepted.
        if self.fate.set(Fate::GivenBack).is_ok()
            && let Some(epoch) = self.epoch.upgrade()
        {
            epoch.replays.give_back(self.request);
        }
    }
}

/// An accepted request for which no work was begun yet. Dropped before [`begin`](Self::begin), it gives the request
/// back: it takes no room any more, and may be sent again. If something was sealed under its key by then, it stays.
#[must_use = "dropped, the request can be sent again"]
pub struct Unbegun(Arc<Acceptance>);

impl Unbegun {
    pub(crate) fn new(acceptance: Arc<Acceptance>) -> Self {
        Self(acceptance)
    }

    /// Work begins, which copies of the request must not cause again.
    pub fn begin(self) {
        self.0.take_up();
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
