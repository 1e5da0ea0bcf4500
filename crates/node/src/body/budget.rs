//! The memory that all bodies together may take, and which of them makes way where it is taken.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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

/// Memory for bodies. Where a body finds none, the one that has been on its way the longest makes way:
/// so nobody is kept out by bodies that do not arrive.
pub(crate) struct BodyBudget {
    bytes: usize,
    memory: Arc<Semaphore>,
    arriving: Arc<Mutex<Arriving>>,
}

#[derive(Default)]
struct Arriving {
    next_id: u64,
    /// Bodies that take memory and are not whole: since when, and how each is told to make way. The
    /// oldest stands first.
    bodies: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl BodyBudget {
    /// # Panics
    /// Above [`Semaphore::MAX_PERMITS`], which the configuration refuses.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, memory: Arc::new(Semaphore::new(bytes)), arriving: Arc::default() }
    }

    /// A body without memory yet, that is on its way until what is returned is dropped.
    pub(super) fn arrives(&self) -> Arrival<'_> {
        Arrival { budget: self, way: Arc::new(Notify::new()), id: Mutex::new(None) }
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let bytes =
            u32::try_from(bytes).map_err(|_| BodyError::TooLarge { max_bytes: self.bytes })?;
        let mut permit = pin!(self.memory.clone().acquire_many_owned(bytes));
        let mut patience = pin!(time::sleep(PATIENCE));
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return permit.map_err(|_| ApiError::Internal),
                () = &mut patience => return Err(ApiError::BodiesBusy),
                () = time::sleep(PAUSE) => self.make_way(),
            }
        }
    }

    /// Tells the oldest body to make way, unless that is young too.
    fn make_way(&self) {
        let mut arriving = lock(&self.arriving);
        if let Some(oldest) = arriving.bodies.first_entry()
            && oldest.get().0.elapsed() >= GRACE
        {
            let (_, way) = oldest.remove();
            way.notify_one();
        }
    }
}

/// A body on its way.
pub(super) struct Arrival<'a> {
    budget: &'a BodyBudget,
    way: Arc<Notify>,
    /// Its place among those that take memory.
    id: Mutex<Option<u64>>,
}

impl Arrival<'_> {
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
        let permit = self.budget.reserve(bytes).await?;
        lock(&self.id).get_or_insert_with(|| {
            let mut arriving = lock(&self.budget.arriving);
            let id = arriving.next_id;
            arriving.next_id += 1;
            arriving.bodies.insert(id, (Instant::now(), self.way.clone()));
            id
        });
        Ok(permit)
    }

    /// Resolves when others need its memory.
    pub(super) async fn makes_way(&self) {
        self.way.notified().await;
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if let Some(id) = lock(&self.id).take() {
            lock(&self.budget.arriving).bodies.remove(&id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_body_makes_way_and_young_ones_are_left_alone() {
        let budget = BodyBudget::new(100);
        let (first, second) = (budget.arrives(), budget.arrives());
        let held = first.reserve(60).await.ok();
        let _held = second.reserve(40).await.ok();
        budget.make_way();
        let told = time::timeout(Duration::ZERO, first.makes_way()).await;
        assert!(told.is_err(), "it has only begun");
        // Whoever waits has the oldest make way, and gets its memory.
        let third = budget.arrives();
        let waits = third.reserve(50);
        let makes_way = async {
            first.makes_way().await;
            drop(held);
        };
        let (got, ()) = tokio::join!(waits, makes_way);
        assert!(got.is_ok());
        assert!(time::timeout(Duration::ZERO, second.makes_way()).await.is_err());
    }

    #[tokio::test]
    async fn whole_bodies_make_no_way_and_waiting_has_an_end() {
        let budget = BodyBudget::new(100);
        let whole = budget.arrives();
        let _held = whole.reserve(100).await.ok();
        drop(whole);
        let next = budget.arrives();
        assert!(matches!(next.reserve(1).await, Err(ApiError::BodiesBusy)));
    }
}
