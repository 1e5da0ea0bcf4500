//! Answers on their way to readers: none of them waits for ever, and all of them together take
//! bounded memory.
//!
//! Generation knows nothing of readers. What it made is handed to a [`Delivery`], which counts the
//! bytes that wait and the time they take. A reader that takes too long, or that stands still while
//! others need the memory, loses its answer: its HTTP/2 stream is reset, its HTTP/1 connection
//! closed. Of an answer whose last chunk HTTP/2 has taken, no stream is left to reset: it goes on being counted, and its
//! connection, which may carry others' answers, is closed only where the memory is needed.

mod body;
mod chunk;
mod events;
mod transport;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use self::{
    body::track,
    events::{Message, Outbox, is_stream},
    transport::{StreamExecutor, Transport},
};

/// Every answer that is on its way.
pub(crate) struct Deliveries {
    /// How long one answer may take from when all of it is there.
    timeout: Duration,
    /// Bytes of all of them.
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<u64, Open>,
    next_id: u64,
    bytes: usize,
}

/// An answer that is on its way.
struct Open {
    bytes: usize,
    /// When its reader last took something.
    progress: Instant,
    /// When it must be over; absent while more of it is being made.
    due: Option<Instant>,
    /// Absent where no connection carries it.
    transport: Option<Transport>,
}

impl Deliveries {
    pub(crate) fn new(timeout: Duration, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { timeout, max_bytes, state: Mutex::default() })
    }

    /// Begins a delivery, whose clock does not run yet.
    pub(crate) fn open(
        self: &Arc<Self>,
        transport: Option<Transport>,
        now: Instant,
    ) -> Arc<Delivery> {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.open.insert(id, Open { bytes: 0, progress: now, due: None, transport });
        Arc::new(Delivery { deliveries: self.clone(), id })
    }

    /// Ends the deliveries that take too long.
    pub(crate) fn end_overdue(&self, now: Instant) {
        let mut state = self.lock();
        let overdue = state.open.iter().filter(|(_, open)| {
            let is_tail = open.transport.as_ref().is_some_and(Transport::is_taken);
            open.due.is_some_and(|due| due <= now) && !is_tail
        });
        let overdue: Vec<u64> = overdue.map(|(id, _)| *id).collect();
        for id in overdue {
            state.end(id, "an answer was not read in time");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts the bytes of one delivery. Where all together are too many, those end that stand
    /// still for longest.
    fn count(&mut self, id: u64, bytes: usize, max_bytes: usize) {
        while self.bytes.saturating_add(bytes) > max_bytes {
            let others = self.open.iter().filter(|(other, open)| **other != id && open.bytes > 0);
            let Some((victim, _)) = others.min_by_key(|(_, open)| open.progress) else { break };
            self.end(*victim, "an unread answer made way for others");
        }
        if let Some(open) = self.open.get_mut(&id) {
            open.bytes += bytes;
            self.bytes += bytes;
        }
    }

    fn end(&mut self, id: u64, why: &'static str) {
        if let Some(open) = self.open.remove(&id) {
            self.bytes -= open.bytes;
            if let Some(transport) = open.transport {
                transport.close();
            }
            tracing::info!(why, "a delivery was ended");
        }
    }
}

/// One answer on its way, forgotten when dropped.
pub(crate) struct Delivery {
    deliveries: Arc<Deliveries>,
    id: u64,
}

impl Delivery {
    /// Counts so many bytes as waiting, until what is returned is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Room {
        self.deliveries.lock().count(self.id, bytes, self.deliveries.max_bytes);
        Room { delivery: self.clone(), bytes }
    }

    /// The reader took something.
    pub(crate) fn progressed(&self, now: Instant) {
        if let Some(open) = self.deliveries.lock().open.get_mut(&self.id) {
            open.progress = now;
        }
    }

    /// All of the answer is there: from now on its reader's time is counted.
    pub(crate) fn complete(&self, now: Instant) {
        if let Some(open) = self.deliveries.lock().open.get_mut(&self.id) {
            open.due = Some(now + self.deliveries.timeout);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let mut state = self.deliveries.lock();
        if let Some(open) = state.open.remove(&self.id) {
            state.bytes -= open.bytes;
        }
    }
}

/// Bytes that are counted.
pub(crate) struct Room {
    delivery: Arc<Delivery>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.delivery.deliveries.lock();
        // A delivery that was ended is not counted any more.
        if let Some(open) = state.open.get_mut(&self.delivery.id) {
            open.bytes -= self.bytes;
            state.bytes -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, secs: u64) -> Instant {
        start + Duration::from_secs(secs)
    }

    fn open_ids(deliveries: &Deliveries) -> Vec<u64> {
        let mut ids: Vec<u64> = deliveries.lock().open.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn who_stands_still_makes_way() {
        let start = Instant::now();
        let deliveries = Deliveries::new(Duration::from_secs(60), 100);
        let first = deliveries.open(None, start);
        let second = deliveries.open(None, at(start, 1));
        let _held = (first.hold(40), second.hold(40));
        first.progressed(at(start, 2));
        let third = deliveries.open(None, at(start, 3));
        let held = third.hold(50);
        assert_eq!(open_ids(&deliveries), [0, 2]);
        drop(held);
        assert_eq!(deliveries.lock().bytes, 40);
        // More than there is room for finds room alone.
        let _held = third.hold(150);
        assert_eq!(open_ids(&deliveries), [2]);
        assert_eq!(deliveries.lock().bytes, 150);
    }

    #[test]
    fn time_is_bounded_once_all_is_there() {
        let start = Instant::now();
        let deliveries = Deliveries::new(Duration::from_secs(60), 100);
        let made = deliveries.open(None, start);
        let being_made = deliveries.open(None, start);
        let held = made.hold(10);
        made.complete(at(start, 5));
        made.progressed(at(start, 64));
        deliveries.end_overdue(at(start, 64));
        assert_eq!(open_ids(&deliveries), [0, 1]);
        deliveries.end_overdue(at(start, 65));
        assert_eq!(open_ids(&deliveries), [1]);
        drop((held, made, being_made));
        assert_eq!((open_ids(&deliveries).len(), deliveries.lock().bytes), (0, 0));
    }
}
