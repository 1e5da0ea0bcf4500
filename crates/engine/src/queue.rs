//! What waits for an engine: first come, first served, but for what goes with what is taken.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::engine::QueueEntry;

/// Its bound is the number of permits that the engine gives out: who has a entry here has one.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<QueueEntry>,
    closed: bool,
}

impl Queue {
    /// Puts a entry behind all others.
    pub(crate) fn push(&self, entry: QueueEntry) {
        self.lock().waiting.push_back(entry);
        self.changed.notify_one();
    }

    /// From now on, whoever finds nothing waiting is told that nothing will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for work: the entry that has waited longest, and those that go with it, wherever they stand,
    /// while all together ask for no more pictures than `together` says for the first. Who is passed over
    /// waits for several instead of one, and has fewer before it. `None` where the queue is closed and
    /// empty.
    pub(crate) fn take(&self, together: impl Fn(&QueueEntry) -> usize) -> Option<Vec<QueueEntry>> {
        let mut state = self.lock();
        let first = loop {
            match state.waiting.pop_front() {
                Some(first) => break first,
                None if state.closed => return None,
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let mut room = together(&first).saturating_sub(first.request.count.get());
        let mut taken = vec![first];
        let mut at = 0;
        while room > 0
            && let Some(next) = state.waiting.get(at)
        {
            let count = next.request.count.get();
            if count > room || !next.is_batchable_with(&taken[0]) {
                at += 1;
                continue;
            }
            room -= count;
            taken.extend(state.waiting.remove(at));
        }
        Some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
