//! A fair queue: clients are served in turns.

use std::collections::{HashMap, hash_map};

use crate::{ClientId, Sharers};

/// What waits, by whom. [`pop`](Self::pop) takes one entry of each group in turn, and of a group one of each client in
/// turn, the oldest first: who asks often waits for itself, and not others for it.
pub struct FairQueue<T> {
    /// The oldest first.
    entries: Vec<(Sharers, T)>,
    /// Of groups and of clients. Nobody stands here without entries.
    waiting: HashMap<ClientId, Waiting>,
    next_turn: u64,
}

/// A group or a client that waits.
struct Waiting {
    /// Who has the least is next.
    turn: u64,
    entries: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), waiting: HashMap::new(), next_turn: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Puts an entry behind the client's others; who has none gets the last turn.
    pub fn push(&mut self, sharers: impl Into<Sharers>, entry: T) {
        let sharers = sharers.into();
        for id in sharers.iter() {
            let turn = self.last_turn();
            self.waiting.entry(id).or_insert(Waiting { turn, entries: 0 }).entries += 1;
        }
        self.entries.push((sharers, entry));
    }

    /// Takes the oldest entry of the client whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let next = (0..self.entries.len()).min_by_key(|at| self.rank(*at))?;
        let (sharers, entry) = self.entries.remove(next);
        self.leaves(sharers);
        for id in sharers.iter() {
            let turn = self.last_turn();
            self.waiting.entry(id).and_modify(|waiting| waiting.turn = turn);
        }
        Some(entry)
    }

    /// Takes every entry that `wanted` says yes to, in the order of turns and then of age.
    pub fn take_where(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by_key(|at| self.rank(*at));
        order.retain(|at| wanted(&self.entries[*at].1));
        let mut entries: Vec<_> = self.entries.drain(..).map(Some).collect();
        let taken: Vec<_> = order.into_iter().filter_map(|at| entries[at].take()).collect();
        self.entries = entries.into_iter().flatten().collect();
        taken
            .into_iter()
            .map(|(sharers, entry)| {
                self.leaves(sharers);
                entry
            })
            .collect()
    }

    /// By the turn of its group, then of its client, then by age.
    fn rank(&self, at: usize) -> (u64, u64, usize) {
        let sharers = self.entries[at].0;
        let turn = |id| self.waiting.get(&id).map_or(0, |waiting| waiting.turn);
        (turn(sharers.group()), turn(sharers.client()), at)
    }

    fn last_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// One entry of theirs is gone.
    fn leaves(&mut self, sharers: Sharers) {
        for id in sharers.iter() {
            if let hash_map::Entry::Occupied(mut waiting) = self.waiting.entry(id) {
                waiting.get_mut().entries -= 1;
                if waiting.get().entries == 0 {
                    waiting.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientId {
        ClientId::new([n; 32])
    }

    fn order(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn clients_take_turns() {
        let mut queue = FairQueue::default();
        for entry in ["a1", "a2", "a3", "a4"] {
            queue.push(client(1), entry);
        }
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(client(2), "b1");
        queue.push(client(2), "b2");
        queue.push(client(3), "c1");
        assert_eq!(order(&mut queue), ["a2", "b1", "c1", "a3", "b2", "a4"]);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn to_come_again_at_once_gains_nothing() {
        let mut queue = FairQueue::default();
        queue.push(client(1), "a1");
        queue.push(client(2), "b1");
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(client(1), "a2");
        assert_eq!(order(&mut queue), ["b1", "a2"]);
    }

    #[test]
    fn what_is_taken_out_keeps_the_order_of_the_rest() {
        let mut queue = FairQueue::default();
        queue.push(client(1), "a1");
        queue.push(client(1), "a2");
        queue.push(client(2), "b1");
        queue.push(client(2), "b2");
        assert_eq!(queue.take_where(|entry| entry.ends_with('1')), ["a1", "b1"]);
        assert_eq!(queue.take_where(|entry| *entry == "a2"), ["a2"]);
        assert_eq!(order(&mut queue), ["b2"]);
    }

    #[test]
    fn the_clients_of_a_group_take_turns_within_its_own() {
        let mut queue = FairQueue::default();
        let in_group = |group, n| Sharers::in_group(client(group), client(n));
        for (sharers, entry) in [
            (in_group(1, 11), "a1"),
            (in_group(1, 11), "a2"),
            (in_group(1, 12), "b1"),
            (in_group(1, 13), "c1"),
            (in_group(2, 21), "d1"),
            (in_group(2, 21), "d2"),
            (client(3).into(), "e1"),
        ] {
            queue.push(sharers, entry);
        }
        assert_eq!(order(&mut queue), ["a1", "d1", "e1", "b1", "d2", "c1", "a2"]);
        assert!(queue.waiting.is_empty());
    }
}
