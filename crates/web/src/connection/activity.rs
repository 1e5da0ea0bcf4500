//! What a connection is doing, and since when it makes no progress.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

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

/// How far a request has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// Its body is on the way.
    Receiving { since: Instant },
    /// The service works on it, or its answer is being taken.
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

    /// For how long the connection has made no progress. `None` while the service works for it, or it
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

    /// One more request, whose body is still to come; by the number it is called by.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.set(id, Phase::Receiving { since: now });
        id
    }

    /// A request has come so far.
    pub(super) fn set(&mut self, id: u64, phase: Phase) {
        self.requests.insert(id, phase);
    }

    /// A request is over.
    pub(super) fn end(&mut self, id: u64, now: Instant) {
        self.requests.remove(&id);
        if self.requests.is_empty() {
            self.quiet_since = now;
        }
    }

    /// Nobody wants the rest of a body.
    pub(super) fn body_dropped(&mut self) {
        self.body_unread = true;
    }

    /// The socket takes no bytes, or takes them again.
    pub(super) fn socket_blocked(&mut self, since: Option<Instant>) {
        self.blocked_since = since;
    }

    pub(super) fn body_unread(&self) -> bool {
        self.body_unread
    }
}
