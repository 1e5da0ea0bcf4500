//! What a connection is doing, and since when it makes no progress.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::body_rate::Lateness;

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
    Receiving { late: Lateness },
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

    /// For how long the connection has made no progress; of a body on its way, how far that is late. `None` while
    /// the service works for it, it takes its answers, or a body keeps its rate.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        let since = |since: Instant| now.saturating_duration_since(since);
        let unread = |at: Instant| Some(since(at)).filter(|idle| *idle >= READER_GRACE);
        if let Some(at) = self.blocked_since {
            return unread(at);
        }
        let requests = self.requests.values().map(|phase| match *phase {
            Phase::Receiving { late } => Some(late.at(now)).filter(|late| !late.is_zero()),
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
        self.set(id, Phase::Receiving { late: Lateness::new(now) });
        id
    }

    /// A request has come so far.
    pub(super) fn set(&mut self, id: u64, phase: Phase) {
        self.requests.insert(id, phase);
    }

    /// So many bytes of a request's body have come.
    pub(super) fn brought(&mut self, id: u64, bytes: usize, now: Instant) {
        // An answer may be on its way before the body has ended, and is what counts then.
        if let Some(Phase::Receiving { late }) = self.requests.get_mut(&id) {
            late.brought(bytes, now);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body_rate::LEAST_BYTES_PER_SEC;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_is_progress_as_far_as_it_keeps_the_rate() {
        let begun = Instant::now();
        let mut activity = Activity::new(begun);
        let [steady, drips] = [(); 2].map(|()| activity.begin(begun));
        for second in 1..=300 {
            let now = begun + second * SECOND;
            activity.brought(steady, LEAST_BYTES_PER_SEC, now);
            activity.brought(drips, 1, now);
            assert_eq!(activity.idle_for(now), None);
        }
        let now = begun + 300 * SECOND;
        activity.end(steady, now);
        assert!(activity.idle_for(now) > Some(299 * SECOND));
        // What still comes of a body takes nothing back.
        activity.set(drips, Phase::Working);
        activity.brought(drips, 1, now);
        assert_eq!(activity.idle_for(now), None);
    }
}
