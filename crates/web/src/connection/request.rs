//! One request of a connection, as its activity sees it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{activity::Phase, limiter::Slot};

/// A request, from its head until its answer is handed over.
pub(super) struct Request {
    slot: Arc<Slot>,
    id: u64,
}

impl Request {
    /// Its body is still to come.
    pub(super) fn begin(slot: Arc<Slot>) -> Arc<Self> {
        let id = slot.activity().begin(Instant::now());
        Arc::new(Self { slot, id })
    }

    /// So many bytes of its body are here.
    pub(super) fn brought(&self, bytes: usize) {
        self.slot.activity().brought(self.id, bytes, Instant::now());
    }

    /// The whole body is here.
    pub(super) fn received(&self) {
        self.set(Phase::Working);
    }

    /// Nobody wants the rest of the body.
    pub(super) fn body_dropped(&self) {
        self.slot.activity().body_dropped();
    }

    /// The answer's next piece is being made.
    pub(super) fn working(&self) {
        self.set(Phase::Working);
    }

    /// A piece of the answer is there to be taken.
    pub(super) fn waiting(&self) {
        self.set(Phase::Waiting { since: Instant::now() });
    }

    fn set(&self, phase: Phase) {
        self.slot.activity().set(self.id, phase);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.slot.activity().end(self.id, Instant::now());
    }
}
