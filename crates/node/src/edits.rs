//! Where edits are read: beside the threads that answer, and few at a time.
//!
//! Reading one takes tens of megabytes of body, of plaintext and of files, and hundreds of megabytes of pixels while an
//! image is decoded, for seconds where somebody chose the image for it. So clients take turns, and each has few edits on
//! their way; one that does not arrive as it should makes way for the next of the same client. What has been read waits
//! in little: a few megabytes a request, and there are only as many as places in the queue.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
};
use engine::{FairQueue, InputImage, Sharers};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
    time::{self, Instant},
};
use web::body_rate::Lateness;

use crate::{body::Waiting, error::ApiError};

/// Edits that are read at once.
const AT_ONCE: usize = InputImage::DECODED_AT_ONCE;
/// How late an edit's body may be before another edit of its client's takes its place.
const GRACE: Duration = Duration::from_secs(1);

/// Reads edits, of each client in turn.
pub(crate) struct EditReader {
    /// Of one client, on their way at once.
    per_client: usize,
    /// How long one waits for its turn.
    timeout: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turns: usize,
    /// Empty while a turn is to be had.
    waiting: FairQueue<oneshot::Sender<Turn>>,
    next_id: u64,
    /// The oldest stands first.
    on_their_way: BTreeMap<u64, OnItsWay>,
}

struct OnItsWay {
    whose: Sharers,
    /// `None` once its body is whole.
    late: Option<Lateness>,
    /// How it is told to make way.
    evict: Arc<Notify>,
}

impl EditReader {
    pub(crate) fn new(per_client: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self { per_client: per_client.max(AT_ONCE), timeout, state: Mutex::default() })
    }

    /// One more edit of this client, whose body is yet to come: on its way until it is read, or dropped.
    ///
    /// # Errors
    /// Where the client has as many as it may, and all of them arrive as they should or have arrived.
    pub(crate) fn expect(self: &Arc<Self>, whose: Sharers) -> Result<Edit, ApiError> {
        let mut state = self.lock();
        let now = Instant::now();
        if !state.make_room(whose, self.per_client, now) {
            return Err(SHARE_FULL);
        }
        let id = state.next_id;
        state.next_id += 1;
        let (late, evict) = (Some(Lateness::new(now)), Arc::new(Notify::new()));
        state.on_their_way.insert(id, OnItsWay { whose, late, evict: evict.clone() });
        Ok(Edit { reader: self.clone(), whose, id, evict })
    }

    /// Resolves when it is the turn of this client's edit.
    async fn turn(self: &Arc<Self>, whose: Sharers) -> Result<Turn, ApiError> {
        let comes = {
            let mut state = self.lock();
            if state.turns < AT_ONCE {
                state.turns += 1;
                return Ok(Turn(self.clone()));
            }
            let (sender, comes) = oneshot::channel();
            // Of those who have gone nothing is kept.
            drop(state.waiting.take_where(oneshot::Sender::is_closed));
            state.waiting.push(whose, sender);
            comes
        };
        match time::timeout(self.timeout, comes).await {
            Ok(turn) => turn.map_err(|_| ApiError::Internal),
            Err(_) => Err(ApiError::BodiesBusy),
        }
    }

    fn note(&self, id: u64, change: impl FnOnce(&mut OnItsWay)) {
        if let Some(edit) = self.lock().on_their_way.get_mut(&id) {
            change(edit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is room for one more of theirs, once what is late of theirs has made way.
    fn make_room(&mut self, whose: Sharers, per_client: usize, now: Instant) -> bool {
        let mut leaving = Vec::new();
        for share in whose.iter() {
            let stays =
                |id: &u64, edit: &OnItsWay| edit.whose.include(share) && !leaving.contains(id);
            let mut staying = self.on_their_way.iter().filter(|(id, edit)| stays(id, edit));
            if staying.clone().count() < per_client {
                continue;
            }
            let late = |edit: &OnItsWay| edit.late.is_some_and(|late| late.at(now) >= GRACE);
            let Some((id, _)) = staying.find(|(_, edit)| late(edit)) else { return false };
            leaving.push(*id);
        }
        for edit in leaving.iter().filter_map(|id| self.on_their_way.remove(id)) {
            edit.evict.notify_one();
        }
        true
    }
}

const SHARE_FULL: ApiError = ApiError::QueueShareFull { retry_after_secs: 1 };

/// An edit on its way.
pub(crate) struct Edit {
    reader: Arc<EditReader>,
    whose: Sharers,
    id: u64,
    evict: Arc<Notify>,
}

impl Edit {
    /// Its body, when all of it is here.
    ///
    /// # Errors
    /// The body's; and where it is late, and its client sends another edit that finds no room.
    pub(crate) async fn body<B, S: Send + Sync>(
        &self,
        request: Request,
        state: &S,
    ) -> Result<Waiting<B>, ApiError>
    where
        Waiting<B>: FromRequest<S, Rejection = ApiError>,
    {
        let (reader, id) = (self.reader.clone(), self.id);
        let note_progress = move |frame: &Frame<Bytes>| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let brought = |late: &mut Lateness| late.brought(bytes, Instant::now());
            reader.note(id, |edit| edit.late.iter_mut().for_each(brought));
        };
        let request = request.map(|body| Body::new(body.inspect_frame(note_progress)));
        tokio::select! {
            biased;
            body = Waiting::from_request(request, state) => {
                self.reader.note(id, |edit| edit.late = None);
                body
            }
            () = self.evict.notified() => Err(SHARE_FULL),
        }
    }

    /// Runs `work` on its body when its turn comes, and wipes the stack that it ran on.
    ///
    /// # Errors
    /// Where its turn does not come, others need its body's memory before, or it panics.
    pub(crate) async fn read<B: Send + 'static, T: Send + 'static>(
        self,
        body: Waiting<B>,
        work: impl FnOnce(B) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (body, turn) = body.until(self.reader.turn(self.whose)).await?;
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
        self.reader.lock().on_their_way.remove(&self.id);
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
    use engine::ClientId;
    use tokio::time::timeout;

    use super::*;

    fn client(n: u8) -> Sharers {
        ClientId::new([n; 32]).into()
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

    /// Makes an edit as old as that.
    fn age(edit: &Edit, age: Duration) {
        edit.reader.note(edit.id, |edit| edit.late = Some(Lateness::new(Instant::now() - age)));
    }

    async fn is_told(edit: &Edit) -> bool {
        timeout(Duration::ZERO, edit.evict.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_late_makes_way_for_its_own_client() {
        let reader = EditReader::new(2, Duration::from_secs(60));
        let [whole, late, other] = [1, 1, 2].map(|n| reader.expect(client(n)).ok().unwrap());
        for edit in [&whole, &late, &other] {
            age(edit, GRACE);
        }
        reader.note(whole.id, |edit| edit.late = None);
        let next = reader.expect(client(1)).ok().unwrap();
        assert!(is_told(&late).await && !is_told(&whole).await && !is_told(&other).await);
        assert!(reader.expect(client(1)).is_err(), "it is young");
        // What came meanwhile keeps it where it is.
        age(&next, 2 * GRACE);
        reader.note(next.id, |edit| edit.late.as_mut().unwrap().brought(1 << 20, Instant::now()));
        assert!(reader.expect(client(1)).is_err());
        drop(late);
        assert_eq!(reader.lock().on_their_way.len(), 3);
    }

    #[tokio::test]
    async fn an_edit_counts_towards_its_client_and_its_group() {
        let reader = EditReader::new(2, Duration::from_secs(60));
        let expect = |group, n| {
            reader.expect(Sharers::in_group(client(group).group(), client(n).client())).ok()
        };
        let first = [expect(1, 11), expect(1, 12)];
        assert!(first.iter().all(Option::is_some) && expect(1, 13).is_none());
        let others = [expect(2, 11), expect(3, 11)];
        assert!(others[0].is_some() && others[1].is_none(), "that client has two");
        // Where both are full, both make room, or neither does.
        let [Some(of_group), Some(elsewhere)] = [&first[1], &others[0]] else { panic!() };
        age(of_group, GRACE);
        assert!(expect(1, 11).is_none() && !is_told(of_group).await);
        age(elsewhere, GRACE);
        assert!(expect(1, 11).is_some());
        assert!(is_told(of_group).await && is_told(elsewhere).await);
    }

    #[tokio::test]
    async fn a_turn_that_does_not_come_is_busy() {
        let reader = EditReader::new(2, Duration::ZERO);
        let _held = [reader.turn(client(1)).await.ok(), reader.turn(client(1)).await.ok()];
        assert!(matches!(reader.turn(client(2)).await, Err(ApiError::BodiesBusy)));
    }
}
