//! Where edits are read: beside the threads that answer, and few at a time.
//!
//! Reading one takes tens of megabytes of body, of plaintext and of files, and hundreds of megabytes of pixels while an
//! image is decoded, for seconds where somebody chose the image for it. So clients take turns, and each has few edits on
//! their way. What has been read waits in little: a few megabytes a request, and there are only as many as places in
//! the queue.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::{ClientId, FairQueue, InputImage};
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout};

use crate::{body::Waiting, error::ApiError};

/// Edits that are read at once.
const AT_ONCE: usize = InputImage::DECODED_AT_ONCE;

/// Reads edits, of each client in turn.
pub(crate) struct EditReader {
    /// Of one client, on their way at once.
    per_client: usize,
    /// How long one waits for its turn.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turns: usize,
    /// Empty while a turn is to be had.
    waiting: FairQueue<oneshot::Sender<Turn>>,
    /// No client stands here without edits.
    on_their_way: HashMap<ClientId, usize>,
}

impl EditReader {
    pub(crate) fn new(per_client: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { per_client: per_client.max(AT_ONCE), patience, state: Mutex::default() })
    }

    /// One more edit of this client, whose body is yet to come: on its way until it is read, or dropped.
    ///
    /// # Errors
    /// Where the client has as many as it may.
    pub(crate) fn expect(self: &Arc<Self>, client: ClientId) -> Result<Edit, ApiError> {
        let mut state = self.lock();
        let count = state.on_their_way.entry(client).or_default();
        if *count >= self.per_client {
            return Err(ApiError::QueueShareFull { retry_after_secs: 1 });
        }
        *count += 1;
        Ok(Edit { reader: self.clone(), client })
    }

    /// Resolves when it is the turn of this client's edit.
    async fn turn(self: &Arc<Self>, client: ClientId) -> Result<Turn, ApiError> {
        let comes = {
            let mut state = self.lock();
            if state.turns < AT_ONCE {
                state.turns += 1;
                return Ok(Turn(self.clone()));
            }
            let (sender, comes) = oneshot::channel();
            // Of those who have gone nothing is kept.
            drop(state.waiting.take_where(oneshot::Sender::is_closed));
            state.waiting.push(client, sender);
            comes
        };
        match timeout(self.patience, comes).await {
            Ok(turn) => turn.map_err(|_| ApiError::Internal),
            Err(_) => Err(ApiError::BodiesBusy),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An edit on its way.
pub(crate) struct Edit {
    reader: Arc<EditReader>,
    client: ClientId,
}

impl Edit {
    /// Runs `work` on its body when its turn comes, and wipes the stack that it ran on.
    ///
    /// # Errors
    /// Where its turn does not come, others need its body's memory before, or it panics.
    pub(crate) async fn read<B: Send + 'static, T: Send + 'static>(
        self,
        body: Waiting<B>,
        work: impl FnOnce(B) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (body, turn) = body.until(self.reader.turn(self.client)).await?;
        let read = spawn_blocking(move || {
            let read = wipe::deep_stack(|| work(body));
            // Here, so that work whose client has gone counts until it ends.
            drop((turn, self));
            read
        });
        read.await.map_err(|_| {
            tracing::error!("reading an edit panicked");
            ApiError::Internal
        })
    }
}

impl Drop for Edit {
    fn drop(&mut self) {
        let mut state = self.reader.lock();
        if let Some(count) = state.on_their_way.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                state.on_their_way.remove(&self.client);
            }
        }
    }
}

/// To read an edit; the next client's when dropped.
struct Turn(Arc<EditReader>);

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            let is_there = |sender: &oneshot::Sender<_>| !sender.is_closed();
            let next = std::iter::from_fn(|| state.waiting.pop()).find(is_there);
            if next.is_none() {
                state.turns -= 1;
            }
            next
        };
        if let Some(next) = next {
            // Whoever has gone meanwhile lets it fall, and so on to the next.
            drop(next.send(Self(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientId {
        ClientId::new([n; 32])
    }

    #[tokio::test]
    async fn clients_take_turns_and_who_has_gone_takes_none() {
        let reader = EditReader::new(4, Duration::from_secs(60));
        let mut held = vec![reader.turn(client(1)).await.ok(), reader.turn(client(1)).await.ok()];
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for (name, n) in [("a", 1), ("gone", 1), ("b", 1), ("c", 2)] {
            let (reader, order) = (reader.clone(), order.clone());
            let mut waits = Box::pin(async move {
                let turn = reader.turn(client(n)).await.ok();
                order.lock().unwrap().push(name);
                drop(turn);
            });
            assert!(timeout(Duration::ZERO, &mut waits).await.is_err());
            waiting.push(waits);
        }
        drop(waiting.remove(1));
        held.clear();
        for waits in waiting {
            waits.await;
        }
        assert_eq!(*order.lock().unwrap(), ["a", "b", "c"], "as they were awaited");
        let state = reader.lock();
        assert_eq!(state.turns, 0);
    }

    #[tokio::test]
    async fn the_turn_goes_to_the_other_client() {
        let reader = EditReader::new(4, Duration::from_secs(60));
        let first = reader.turn(client(1)).await.ok();
        let second = reader.turn(client(1)).await.ok();
        let mut own = Box::pin(reader.turn(client(1)));
        let mut own_too = Box::pin(reader.turn(client(1)));
        let mut other = Box::pin(reader.turn(client(2)));
        for waits in [&mut own, &mut own_too, &mut other] {
            assert!(timeout(Duration::ZERO, waits).await.is_err());
        }
        drop(first);
        let own = timeout(Duration::ZERO, own).await.ok();
        assert!(own.is_some());
        drop(second);
        assert!(timeout(Duration::ZERO, other).await.is_ok());
    }

    #[tokio::test]
    async fn a_client_has_few_edits_on_their_way() {
        let reader = EditReader::new(2, Duration::from_secs(60));
        let edits = [reader.expect(client(1)).ok(), reader.expect(client(1)).ok()];
        assert!(matches!(reader.expect(client(1)), Err(ApiError::QueueShareFull { .. })));
        assert!(reader.expect(client(2)).is_ok());
        drop(edits);
        assert!(reader.expect(client(1)).is_ok());
        assert!(reader.lock().on_their_way.is_empty());
    }

    #[tokio::test]
    async fn patience_has_an_end() {
        let reader = EditReader::new(2, Duration::ZERO);
        let _held = [reader.turn(client(1)).await.ok(), reader.turn(client(1)).await.ok()];
        assert!(matches!(reader.turn(client(2)).await, Err(ApiError::BodiesBusy)));
    }
}
