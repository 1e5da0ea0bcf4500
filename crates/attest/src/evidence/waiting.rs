//! The queue of verifiers that wait for a quote: bounded, and shared fairly between sources.

use std::collections::HashMap;

use super::{
    EvidenceError, Source,
    question::{Answer, Subject},
};
use crate::binding::Digest32;

/// Where an answer goes. Whoever asked may have left.
pub(super) type Reply = Box<dyn FnOnce(Answer) + Send>;

/// One verifier.
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) subject: Subject,
    pub(super) reply: Reply,
}

/// All of them, oldest first.
pub(super) struct Waiting {
    waiters: Vec<Waiter>,
    capacity: usize,
    next_id: u64,
}

impl Waiting {
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiters: Vec::new(), capacity, next_id: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Lets a verifier wait, and gives its id. Where the queue is full, the source that holds most of
    /// it makes room for one that holds less: its newest verifier is given back, to be told so.
    pub(super) fn push(
        &mut self,
        subject: Subject,
        reply: Reply,
    ) -> Result<(u64, Option<Waiter>), EvidenceError> {
        let evicted = match self.waiters.len() < self.capacity {
            true => None,
            false => Some(self.make_room(subject.source).ok_or(EvidenceError::Busy)?),
        };
        let id = self.next_id;
        self.next_id += 1;
        self.waiters.push(Waiter { id, subject, reply });
        Ok((id, evicted))
    }

    fn make_room(&mut self, newcomer: Option<Source>) -> Option<Waiter> {
        let mut held: HashMap<_, usize> = HashMap::new();
        for waiter in &self.waiters {
            *held.entry(waiter.subject.source).or_default() += 1;
        }
        let own = held.get(&newcomer).copied().unwrap_or(0);
        let (&heaviest, &most) = held.iter().max_by_key(|(_, held)| **held)?;
        // Of two with the same, neither makes room for the other.
        if most <= own + 1 {
            return None;
        }
        let newest = self.waiters.iter().rposition(|one| one.subject.source == heaviest)?;
        Some(self.waiters.remove(newest))
    }

    /// Forgets a verifier that no longer waits.
    pub(super) fn remove(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// Takes those that one quote can answer: all who ask about the keyset of the oldest.
    pub(super) fn take_batch(&mut self) -> Vec<Waiter> {
        let keyset = |waiter: &Waiter| -> Digest32 { waiter.subject.keyset.keyset.digest() };
        let Some(first) = self.waiters.first().map(keyset) else { return Vec::new() };
        self.waiters.extract_if(.., |waiter| keyset(waiter) == first).collect()
    }

    /// Takes those that `is_answered` finds an answer for.
    pub(super) fn take_answered<T>(
        &mut self,
        mut find: impl FnMut(&Subject) -> Option<T>,
    ) -> Vec<(Waiter, T)> {
        let mut answered = Vec::new();
        for waiter in std::mem::take(&mut self.waiters) {
            match find(&waiter.subject) {
                Some(answer) => answered.push((waiter, answer)),
                None => self.waiters.push(waiter),
            }
        }
        answered
    }

    /// Drops them all; their replies go unsaid.
    pub(super) fn clear(&mut self) {
        self.waiters.clear();
    }
}
