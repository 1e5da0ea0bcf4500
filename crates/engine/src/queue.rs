//! What waits for an engine: clients in turns, and with each entry those that can be batched with
//! it.

use std::{
    iter,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{entry::QueueEntry, fair::FairQueue};

/// It holds no more entries than there are places: every entry belongs to one, and leaves with it.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: FairQueue<QueueEntry>,
    next_id: u64,
    /// Takes nothing more.
    refuses: bool,
    /// Nobody is left who could put anything in.
    closed: bool,
}

impl Queue {
    /// Puts an entry behind its client's others, and gives its number. `None` where nothing is taken
    /// any more.
    pub(crate) fn push(&self, mut entry: QueueEntry) -> Option<u64> {
        let mut state = self.lock();
        if state.refuses {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        entry.id = id;
        state.waiting.push(entry.sharers, entry);
        drop(state);
        self.changed.notify_one();
        Some(id)
    }

    /// Forgets an entry, where it still waits.
    pub(crate) fn remove(&self, id: u64) {
        let removed = self.lock().waiting.take_where(|entry| entry.id == id);
        drop(removed);
    }

    /// Takes nothing from now on, and gives up everything that waits.
    pub(crate) fn refuse(&self) -> Vec<QueueEntry> {
        let mut state = self.lock();
        state.refuses = true;
        state.waiting.take_where(|_| true)
    }

    /// From now on, whoever finds nothing waiting is told that nothing will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for work: the entry whose turn it is, and those that can be batched with it, wherever
    /// they stand, while all together ask for no more images than `batch_size` says for the first.
    /// An entry that is passed over waits for several instead of one, and has fewer before it.
    /// `None` where the queue is closed and empty.
    pub(crate) fn take(
        &self,
        batch_size: impl Fn(&QueueEntry) -> usize,
    ) -> Option<Vec<QueueEntry>> {
        let mut state = self.lock();
        let first = loop {
            match state.waiting.pop() {
                Some(first) => break first,
                None if state.closed => return None,
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let mut room = batch_size(&first).saturating_sub(first.request.count.get());
        let others = state.waiting.take_where(|next| {
            let count = next.request.count.get();
            let taken = count <= room && next.is_batchable_with(&first);
            if taken {
                room -= count;
            }
            taken
        });
        Some(iter::once(first).chain(others).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
