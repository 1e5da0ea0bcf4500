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
use web::{body_error::BodyError, body_rate::Lateness};

use crate::error::ApiError;

/// How long a body is left alone once it takes memory, and how far it may be late. The largest that is no edit arrives
/// meanwhile at 2.1 Mbit/s.
const GRACE: Duration = Duration::from_secs(1);
/// How long a body waits for memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a body that waits has another make way.
const PAUSE: Duration = Duration::from_millis(20);

/// Memory for bodies. Where a body finds none, the client who has the most makes way for whoever would still have less
/// than that: with what is late of its own, then with what waits, then with what arrives. Where nobody has so much, a
/// body makes way that is late, unless whoever asks has more beside what it asks for than that body's client has. So
/// nobody is kept out by another client's hoard, or by bodies that do not arrive, and who hoards pushes nobody out.
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
    late: Lateness,
    bytes: usize,
    /// Nothing more of it is to come: it waits.
    is_whole: bool,
    /// How it is told to make way.
    evict: Arc<Notify>,
}

impl BodyBudget {
    /// # Panics
    /// Above [`Semaphore::MAX_PERMITS`], which the configuration refuses.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, memory: Arc::new(Semaphore::new(bytes)), bodies: Mutex::default() })
    }

    /// A body of this client, without memory yet, that is on its way until what is returned is dropped.
    pub(super) fn arrives(self: &Arc<Self>, client: ClientId) -> Arrival {
        let evict = Arc::new(Notify::new());
        Arrival { budget: self.clone(), client, evict, id: OnceLock::new() }
    }

    async fn reserve(&self, asked: Asked) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(asked.bytes)
            .map_err(|_| BodyError::TooLarge { max_bytes: self.bytes })?;
        let mut permit = pin!(self.memory.clone().acquire_many_owned(permits));
        let mut timeout = pin!(time::sleep(TIMEOUT));
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| ApiError::Internal),
                () = &mut timeout => return Err(ApiError::BodiesBusy),
                () = time::sleep(PAUSE) => self.lock().evict_for(asked),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bodies> {
        // Every change leaves it whole.
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// More memory that a body waits for.
#[derive(Clone, Copy)]
struct Asked {
    client: ClientId,
    /// The body, where it has some already.
    body: Option<u64>,
    bytes: usize,
}

impl Bodies {
    /// Tells one body to make way for what is asked for, if there is one that should.
    fn evict_for(&mut self, asked: Asked) {
        if let Some(body) = self.first_to_go(asked).and_then(|id| self.by_age.remove(&id)) {
            body.evict.notify_one();
        }
    }

    fn first_to_go(&self, Asked { client, body, bytes }: Asked) -> Option<u64> {
        let now = Instant::now();
        let mut totals: HashMap<ClientId, usize> = HashMap::new();
        for body in self.by_age.values() {
            *totals.entry(body.client).or_default() += body.bytes;
        }
        let own = totals.get(&client).copied().unwrap_or_default();
        let greatest = totals.iter().max_by_key(|(_, total)| **total);
        if let Some((greatest, _)) = greatest.filter(|(_, total)| **total > own + bytes) {
            let oldest = |goes: fn(&Body, Instant) -> bool| {
                self.oldest(|body| body.client == *greatest && goes(body, now))
            };
            let mut newest_first = self.by_age.iter().rev();
            let newest_whole =
                newest_first.find(|(_, body)| body.client == *greatest && body.is_whole);
            // Whose own bodies are all young waits with the others until one is not.
            return oldest(Body::is_late)
                .or(newest_whole.map(|(id, _)| *id))
                .or_else(|| oldest(Body::has_begun));
        }
        let beside = own - body.and_then(|id| self.by_age.get(&id)).map_or(0, |body| body.bytes);
        self.oldest(|body| body.is_late(now) && totals.get(&body.client) >= Some(&beside))
    }

    fn oldest(&self, goes: impl Fn(&Body) -> bool) -> Option<u64> {
        self.by_age.iter().find(|(_, body)| goes(body)).map(|(id, _)| *id)
    }
}

impl Body {
    /// Whether it does not arrive as it should.
    fn is_late(&self, now: Instant) -> bool {
        !self.is_whole && self.late.at(now) >= GRACE
    }

    /// Whether it has been arriving for a while, as it should or not.
    fn has_begun(&self, now: Instant) -> bool {
        !self.is_whole && now.saturating_duration_since(self.since) >= GRACE
    }
}

/// A body on its way.
pub(super) struct Arrival {
    budget: Arc<BodyBudget>,
    client: ClientId,
    evict: Arc<Notify>,
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
        let asked = Asked { client: self.client, body: self.id.get().copied(), bytes };
        let permit = self.budget.reserve(asked).await?;
        let mut bodies = self.budget.lock();
        let id = *self.id.get_or_init(|| {
            bodies.next_id += 1;
            bodies.next_id
        });
        let (client, evict, now) = (self.client, &self.evict, Instant::now());
        let body = bodies.by_age.entry(id).or_insert_with(|| Body {
            client,
            since: now,
            late: Lateness::new(now),
            bytes: 0,
            is_whole: false,
            evict: evict.clone(),
        });
        body.bytes += bytes;
        Ok(permit)
    }

    /// So many bytes have come, for which there is memory.
    pub(super) fn brought(&self, bytes: usize) {
        self.note(|body| body.late.brought(bytes, Instant::now()));
    }

    /// Nothing more is to come.
    pub(super) fn is_whole(&self) {
        self.note(|body| body.is_whole = true);
    }

    fn note(&self, change: impl FnOnce(&mut Body)) {
        if let Some(id) = self.id.get()
            && let Some(body) = self.budget.lock().by_age.get_mut(id)
        {
            change(body);
        }
    }

    /// Resolves when others need its memory.
    pub(super) async fn evicted(&self) {
        self.evict.notified().await;
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
        time::timeout(Duration::ZERO, arrival.evicted()).await.is_ok()
    }

    /// More memory, for a body that has none yet.
    fn ask(budget: &BodyBudget, n: u8, bytes: usize) {
        budget.lock().evict_for(Asked { client: client(n), body: None, bytes });
    }

    /// A body that has taken so much, and came so long ago.
    async fn arriving(
        budget: &Arc<BodyBudget>,
        n: u8,
        bytes: usize,
        age: Duration,
    ) -> (Arrival, Option<OwnedSemaphorePermit>) {
        let arrival = budget.arrives(client(n));
        let held = arrival.reserve(bytes).await.ok();
        arrival.note(|body| {
            body.since -= age;
            body.late = Lateness::new(body.since);
        });
        (arrival, held)
    }

    #[tokio::test]
    async fn who_hoards_makes_way_and_pushes_nobody_out() {
        let budget = BodyBudget::new(100);
        let (hoard, _held) = arriving(&budget, 1, 90, GRACE).await;
        hoard.is_whole();
        let (slow, _held) = arriving(&budget, 2, 5, GRACE).await;
        ask(&budget, 1, 10);
        assert!(!is_told(&hoard).await && !is_told(&slow).await);
        ask(&budget, 3, 10);
        assert!(is_told(&hoard).await && !is_told(&slow).await);
        // The hoard is gone: now what is late is in the way.
        ask(&budget, 3, 10);
        assert!(is_told(&slow).await);
    }

    #[tokio::test]
    async fn of_a_hoard_goes_first_what_is_late_then_what_waits_then_what_arrives() {
        let budget = BodyBudget::new(100);
        let (steady, _held) = arriving(&budget, 1, 20, GRACE).await;
        steady.brought(1 << 20);
        let (late, _held) = arriving(&budget, 1, 20, GRACE).await;
        let (young, _held) = arriving(&budget, 1, 20, Duration::ZERO).await;
        let (whole, _held) = arriving(&budget, 1, 20, Duration::ZERO).await;
        whole.is_whole();
        let (other, _held) = arriving(&budget, 2, 10, GRACE).await;
        for goes in [&late, &whole, &steady] {
            ask(&budget, 3, 1);
            assert!(is_told(goes).await);
        }
        ask(&budget, 3, 1);
        assert!(!is_told(&young).await, "it has only begun");
        assert!(!is_told(&other).await, "its client has not the most");
    }

    #[tokio::test]
    async fn a_body_that_keeps_its_rate_makes_way_for_no_larger_one() {
        let budget = BodyBudget::new(100);
        let (steady, _held) = arriving(&budget, 1, 30, GRACE).await;
        steady.brought(1 << 20);
        let (late, _held) = arriving(&budget, 2, 30, GRACE).await;
        let (grows, _held) = arriving(&budget, 3, 35, Duration::ZERO).await;
        // What it has already is no hoard, and so others' late bodies do not stop it.
        let body = grows.id.get().copied();
        budget.lock().evict_for(Asked { client: client(3), body, bytes: 35 });
        assert!(is_told(&late).await && !is_told(&steady).await);
        budget.lock().evict_for(Asked { client: client(3), body, bytes: 35 });
        assert!(!is_told(&steady).await && !is_told(&grows).await);
    }

    #[tokio::test]
    async fn the_oldest_body_makes_way_and_young_ones_are_left_alone() {
        let budget = BodyBudget::new(100);
        let (first, second) = (budget.arrives(client(1)), budget.arrives(client(2)));
        let held = first.reserve(60).await.ok();
        let _held = second.reserve(40).await.ok();
        ask(&budget, 3, 1);
        assert!(!is_told(&first).await, "it has only begun");
        // Whoever waits has the oldest make way, and gets its memory.
        let third = budget.arrives(client(3));
        let waits = third.reserve(50);
        let leaves = async {
            first.evicted().await;
            drop(held);
        };
        let (got, ()) = tokio::join!(waits, leaves);
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
        ask(&budget, 3, 80);
        ask(&budget, 1, 10);
        for arrival in [&greedy[0], &greedy[1], &modest] {
            assert!(!is_told(arrival).await);
        }
        ask(&budget, 3, 10);
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
