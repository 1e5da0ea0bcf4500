//! A fair queue: clients are served in turns.

use std::collections::VecDeque;

use crate::ClientId;

/// What waits, by client. [`pop`](Self::pop) takes one entry of each client in turn, the oldest
/// first: a client that asks often waits for itself, and not others for it.
pub struct FairQueue<T> {
    /// Whose turn is next stands first. No client stands here without entries.
    clients: VecDeque<(ClientId, VecDeque<T>)>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { clients: VecDeque::new() }
    }
}

impl<T> FairQueue<T> {
    /// Puts an entry behind the client's others; a client without any gets the last turn.
    pub fn push(&mut self, client: ClientId, entry: T) {
        match self.clients.iter_mut().find(|(id, _)| *id == client) {
            Some((_, entries)) => entries.push_back(entry),
            None => self.clients.push_back((client, VecDeque::from([entry]))),
        }
    }

    /// Takes the oldest entry of the client whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (client, mut entries) = self.clients.pop_front()?;
        let entry = entries.pop_front();
        if !entries.is_empty() {
            self.clients.push_back((client, entries));
        }
        entry
    }

    /// Takes every entry that `wanted` says yes to, in the order of turns and then of age.
    pub fn take_where(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for (_, entries) in &mut self.clients {
            let mut at = 0;
            while let Some(entry) = entries.get(at) {
                if wanted(entry) {
                    taken.extend(entries.remove(at));
                } else {
                    at += 1;
                }
            }
        }
        self.clients.retain(|(_, entries)| !entries.is_empty());
        taken
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
}
