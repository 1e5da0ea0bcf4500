//! What a connection is doing, and since when it makes no progress.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::limiter::Slot;

/// How long a reader may take nothing of an answer before its connection counts as idle.
const READER_GRACE: Duration = Duration::from_secs(5);

/// What a connection is doing.
pub(super) struct Activity {
    next: u64,
    requests: BTreeMap<u64, Phase>,
    /// Since when there is no request.
    quiet_since: Instant,
    /// Since when the socket takes no bytes.
    blocked_since: Option<Instant>,
    /// Whether a request was answered before its body had arrived.
    body_unread: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Its body is on the way.
    Receiving { since: Instant },
    /// The node works on it, or its answer is being taken.
    Working,
    /// A piece of its answer waits to be taken.
    Waiting { since: Instant },
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: 0,
            requests: BTreeMap::new(),
            quiet_since: now,
            blocked_since: None,
            body_unread: false,
        }
    }

    /// For how long the connection has made no progress. `None` while the node works for it, or it
    /// takes its answers.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = |since: Instant| now.saturating_duration_since(since);
        let unread = |at: Instant| Some(since(at)).filter(|idle| *idle >= READER_GRACE);
        if let Some(at) = self.blocked_since {
            return unread(at);
        }
        let requests = self.requests.values().map(|phase| match *phase {
            Phase::Receiving { since: at } => Some(since(at)),
            Phase::Working => None,
            Phase::Waiting { since: at } => unread(at),
        });
        // The request that has come furthest decides.
        let idle = requests.collect::<Option<Vec<Duration>>>()?;
        Some(idle.into_iter().min().unwrap_or_else(|| since(self.quiet_since)))
    }

    /// The socket takes no bytes, or takes them again.
    pub(super) fn socket_blocked(&mut self, since: Option<Instant>) {
        self.blocked_since = since;
    }

    pub(super) fn body_unread(&self) -> bool {
        self.body_unread
    }
}

/// A request, from its head until its answer is handed over.
pub(super) struct Request {
    slot: Arc<Slot>,
    id: u64,
}

impl Request {
    /// Its body is still to come.
    pub(super) fn begin(slot: Arc<Slot>) -> Arc<Self> {
        let mut activity = slot.activity();
        let id = activity.next;
        activity.next += 1;
        activity.requests.insert(id, Phase::Receiving { since: Instant::now() });
        drop(activity);
        Arc::new(Self { slot, id })
    }

    /// The whole body is here.
    pub(super) fn received(&self) {
        self.set(Phase::Working);
    }

    /// Nobody wants the rest of the body.
    pub(super) fn body_dropped(&self) {
        self.slot.activity().body_unread = true;
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
        self.slot.activity().requests.insert(self.id, phase);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut activity = self.slot.activity();
        activity.requests.remove(&self.id);
        if activity.requests.is_empty() {
            activity.quiet_since = Instant::now();
        }
    }
}
