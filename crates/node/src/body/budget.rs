//! The memory that all bodies together may take, and which of them makes way where it is taken.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use engine::ClientId;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{self, Instant},
};
use web::body_error::BodyError;

use crate::error::ApiError;

/// How long a body is left alone once it takes memory. The largest that is no edit arrives meanwhile at 2.1 Mbit/s.
const GRACE: Duration = Duration::from_secs(1);
/// How long a body waits for memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a body that waits has another make way.
const PAUSE: Duration = Duration::from_millis(20);

/// Memory for bodies. Where a body finds none, the one that has been on its way the longest makes way, and then those
/// that are whole and wait, of the client who has the most: so nobody is kept out by bodies that do not arrive, and no
/// client by another's.
pub(crate) struct BodyBudget {
    bytes: usize,
    memory: Arc<Semaphore>,
    bodies: Mutex<Bodies>,
}

#[derive(Default)]
struct Bodies {
    next_id: u64,
    /// Those that take memory, and may have to make way; the oldest stands first.
    by_age: BTreeMap<u64, Body>,
}

struct Body {
    client: ClientId,
    since: Instant,
    bytes: usize,
    /// Nothing more of it is to come: it waits.
    is_whole: bool,
    /// How it is told to make way.
    way: Arc<Notify>,
}

impl BodyBudget {
    /// # Panics
    /// Above [`Semaphore::MAX_PERMITS`], which the configuration refuses.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, memory: Arc::new(Semaphore::new(bytes)), bodies: Mutex::default() })
    }

    /// A body of this client, without memory yet, that is on its way until what is returned is dropped.
    pub(super) fn arrives(self: &Arc<Self>, client: ClientId) -> Arrival {
        let way = Arc::new(Notify::new());
        Arrival { budget: self.clone(), client, way, id: OnceLock::new() }
    }

    async fn reserve(
        &self,
        client: ClientId,
        bytes: usize,
    ) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits =
            u32::try_from(bytes).map_err(|_| BodyError::TooLarge { max_bytes: self.bytes })?;
        let mut permit = pin!(self.memory.clone().acquire_many_owned(permits));
        let mut patience = pin!(time::sleep(PATIENCE));
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| ApiError::Internal),
                () = &mut patience => return Err(ApiError::BodiesBusy),
                () = time::sleep(PAUSE) => self.lock().make_way(client, bytes),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        // Every change leaves it whole.
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies {
    /// Tells one body to make way for so many bytes of this client's, if there is one that should.
    fn make_way(&mut self, client: ClientId, bytes: usize) {
        let told = self.oldest_arriving().or_else(|| self.newest_of_greatest(client, bytes));
        if let Some(body) = told.and_then(|id| self.by_age.remove(&id)) {
            body.way.notify_one();
        }
    }

    /// The body that has been arriving the longest, unless that is young too.
    fn oldest_arriving(&self) -> Option<u64> {
        let (id, oldest) = self.by_age.iter().find(|(_, body)| !body.is_whole)?;
        (oldest.since.elapsed() >= GRACE).then_some(*id)
    }

    /// Of the client whose bodies take the most, what waits and came last; unless this one would take as much.
    fn newest_of_greatest(&self, client: ClientId, bytes: usize) -> Option<u64> {
        let mut totals: HashMap<ClientId, usize> = HashMap::new();
        for body in self.by_age.values() {
            *totals.entry(body.client).or_default() += body.bytes;
        }
        let own = totals.remove(&client).unwrap_or_default() + bytes;
        let waits = |greatest| {
            let bodies = self.by_age.iter().rev();
            bodies.filter(|(_, body)| body.is_whole).find(|(_, body)| body.client == greatest)
        };
        let (greatest, _) =
            totals.into_iter().filter(|(_, most)| *most > own).max_by_key(|(_, most)| *most)?;
        waits(greatest).map(|(id, _)| *id)
    }
}

/// A body on its way.
pub(super) struct Arrival {
    budget: Arc<BodyBudget>,
    client: ClientId,
    way: Arc<Notify>,
    /// Its place among those that take memory.
    id: OnceLock<u64>,
}

impl Arrival {
    /// What all bodies together may take.
    pub(super) fn budget_bytes(&self) -> usize {
        self.budget.bytes
    }

    /// What begins with no memory at all.
    ///
    /// # Errors
    /// None, as nothing is always to be had.
    pub(super) fn nothing(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.budget.memory.clone().try_acquire_many_owned(0).map_err(|_| ApiError::Internal)
    }

    /// Memory for so many bytes more.
    ///
    /// # Errors
    /// [`ApiError::BodiesBusy`] where none comes free.
    pub(super) async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = self.budget.reserve(self.client, bytes).await?;
        let mut bodies = self.budget.lock();
        let id = *self.id.get_or_init(|| {
            bodies.next_id += 1;
            bodies.next_id
        });
        let (client, way) = (self.client, &self.way);
        let body = bodies.by_age.entry(id).or_insert_with(|| Body {
            client,
            since: Instant::now(),
            bytes: 0,
            is_whole: false,
            way: way.clone(),
        });
        body.bytes += bytes;
        Ok(permit)
    }

    /// Nothing more is to come.
    pub(super) fn is_whole(&self) {
        if let Some(id) = self.id.get()
            && let Some(body) = self.budget.lock().by_age.get_mut(id)
        {
            body.is_whole = true;
        }
    }

    /// Resolves when others need its memory.
    pub(super) async fn makes_way(&self) {
        self.way.notified().await;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            self.budget.lock().by_age.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> ClientId {
        ClientId::new([n; 32])
    }

    async fn is_told(arrival: &Arrival) -> bool {
        time::timeout(Duration::ZERO, arrival.makes_way()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_body_makes_way_and_young_ones_are_left_alone() {
        let budget = BodyBudget::new(100);
        let (first, second) = (budget.arrives(client(1)), budget.arrives(client(2)));
        let held = first.reserve(60).await.ok();
        let _held = second.reserve(40).await.ok();
        budget.lock().make_way(client(3), 1);
        assert!(!is_told(&first).await, "it has only begun");
        // Whoever waits has the oldest make way, and gets its memory.
        let third = budget.arrives(client(3));
        let waits = third.reserve(50);
        let makes_way = async {
            first.makes_way().await;
            drop(held);
        };
        let (got, ()) = tokio::join!(waits, makes_way);
        assert!(got.is_ok());
        assert!(!is_told(&second).await);
    }

    #[tokio::test]
    async fn what_is_whole_makes_way_where_its_client_has_more_than_whoever_asks() {
        let budget = BodyBudget::new(100);
        let greedy = [budget.arrives(client(1)), budget.arrives(client(1))];
        let modest = budget.arrives(client(2));
        let mut held = Vec::new();
        for (arrival, bytes) in [(&greedy[0], 40), (&greedy[1], 40), (&modest, 20)] {
            held.push(arrival.reserve(bytes).await.ok());
            arrival.is_whole();
        }
        // No more than the greatest has, and for itself nobody makes way.
        budget.lock().make_way(client(3), 80);
        budget.lock().make_way(client(1), 10);
        for arrival in [&greedy[0], &greedy[1], &modest] {
            assert!(!is_told(arrival).await);
        }
        budget.lock().make_way(client(3), 10);
        assert!(is_told(&greedy[1]).await, "what came last waits the longest anyway");
        assert!(!is_told(&greedy[0]).await && !is_told(&modest).await);
        drop(greedy);
        assert_eq!(budget.lock().by_age.len(), 1);
    }

    #[tokio::test]
    async fn waiting_has_an_end() {
        let budget = BodyBudget::new(100);
        let whole = budget.arrives(client(1));
        let _held = whole.reserve(100).await.ok();
        drop(whole);
        let next = budget.arrives(client(2));
        assert!(matches!(next.reserve(1).await, Err(ApiError::BodiesBusy)));
    }
}
