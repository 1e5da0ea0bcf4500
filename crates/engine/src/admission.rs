//! Admission to the queue: each client's share, and the queue's length in seconds.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use thiserror::Error;

use crate::{
    client::{ClientId, Sharers},
    throughput::ThroughputEstimator,
    work::Work,
};

/// What a client is told to wait where nothing is known of how long a run takes.
const UNKNOWN_SECS: f64 = 20.0;

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Requests that may wait while every engine has one.
    pub capacity: usize,
    /// How long one request may take, its waiting included.
    pub deadline: Duration,
    /// The share of all places, those of running requests included, that one client may hold, and one group of
    /// clients: from 0 (one place) to 1 (all of them).
    pub share: f64,
}

impl QueueLimits {
    fn places_of_client(&self, places: usize) -> usize {
        ((self.share * places as f64).ceil() as usize).clamp(1, places.max(1))
    }
}

/// The book of all places: who holds them, and for how much work.
pub(crate) struct Admission {
    limits: QueueLimits,
    engines: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of each model that has drawn: the engine has so many.
    estimators: HashMap<String, ThroughputEstimator>,
    /// In the order of taking.
    places: BTreeMap<u64, Held>,
    next_id: u64,
}

/// A place that is taken.
struct Held {
    sharers: Sharers,
    /// Which model is to do how much. Absent until the request is read.
    work: Option<(String, Work)>,
}

/// A place in the queue, given back when dropped.
pub(crate) struct QueueSlot {
    admission: Arc<Admission>,
    sharers: Sharers,
    id: u64,
}

impl Admission {
    pub(crate) fn new(limits: QueueLimits, engines: usize) -> Self {
        Self { limits, engines: engines.max(1), state: Mutex::default() }
    }

    /// Takes a place for a request of which nothing but whose it is is known.
    ///
    /// # Errors
    /// See [`Busy`].
    pub(crate) fn reserve(self: &Arc<Self>, sharers: Sharers) -> Result<QueueSlot, Busy> {
        let mut state = self.lock();
        let places = self.limits.capacity + self.engines;
        let excess = self.wait_secs(&state, sharers) - self.limits.deadline.as_secs_f64();
        if excess > 0.0 {
            return Err(Busy::TooSlow { retry_after_secs: secs(excess) });
        }
        let retry_after_secs = secs(self.secs_of_one(&state));
        if state.places.len() >= places {
            return Err(Busy::QueueFull { retry_after_secs });
        }
        let most = self.limits.places_of_client(places);
        if sharers.iter().any(|id| state.places_of(id) >= most) {
            return Err(Busy::ShareFull { retry_after_secs });
        }
        let id = state.next_id;
        state.next_id += 1;
        state.places.insert(id, Held { sharers, work: None });
        Ok(QueueSlot { admission: self.clone(), sharers, id })
    }

    /// Takes in how long a run of a model took that ended well.
    pub(crate) fn learn(&self, model: &str, work: Work, took: Duration) {
        self.lock().estimator(model).learn(work, took.as_secs_f64());
    }

    /// Takes in how much of a run of a model is done after so long.
    pub(crate) fn learn_under_way(&self, model: &str, done: Work, after: Duration) {
        self.lock().estimator(model).learn_under_way(done, after.as_secs_f64());
    }

    /// Places that are taken.
    pub(crate) fn jobs(&self) -> usize {
        self.lock().places.len()
    }

    /// Seconds until everything that waits or runs is done; `None` where nothing is known of some of it.
    pub(crate) fn queue_secs(&self) -> Option<f64> {
        Some(self.lock().secs()? / self.engines as f64)
    }

    /// Seconds until it is the turn of this client's next request: all of its own; of each other client of
    /// its group as many as take their turns before; and of each other group likewise. What nothing is known of takes
    /// no time: an estimate errs towards taking a request on.
    fn wait_secs(&self, state: &State, sharers: Sharers) -> f64 {
        let held = state.places.values();
        let (group, others): (Vec<_>, Vec<_>) =
            held.partition(|held| held.sharers.group() == sharers.group());
        let (own, siblings): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|held| held.sharers.client() == sharers.client());
        let siblings = first_of_each(siblings, own.len() + 1, Sharers::client);
        let others = first_of_each(others, own.len() + siblings.len() + 1, Sharers::group);
        let before = own.into_iter().chain(siblings).chain(others);
        state.predicted(before).flatten().sum::<f64>() / self.engines as f64
    }

    /// Seconds until one place should be free.
    fn secs_of_one(&self, state: &State) -> f64 {
        let places = state.places.len().max(1) * self.engines;
        state.secs().map_or(UNKNOWN_SECS, |secs| secs / places as f64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn places_of(&self, id: ClientId) -> usize {
        self.places.values().filter(|held| held.sharers.include(id)).count()
    }

    /// Seconds of all of them; `None` where nothing is known of one, or none is read yet.
    fn secs(&self) -> Option<f64> {
        let mut all = self.predicted(self.places.values()).peekable();
        match all.peek() {
            None if !self.places.is_empty() => None,
            _ => all.sum(),
        }
    }

    /// Seconds of each that is read; `None` of one of which nothing is known.
    fn predicted<'a>(
        &'a self,
        held: impl IntoIterator<Item = &'a Held>,
    ) -> impl Iterator<Item = Option<f64>> {
        let read = held.into_iter().filter_map(|held| held.work.as_ref());
        read.map(|(model, work)| self.estimators.get(model)?.predict(*work))
    }

    fn estimator(&mut self, model: &str) -> &mut ThroughputEstimator {
        if !self.estimators.contains_key(model) {
            self.estimators.insert(model.to_owned(), ThroughputEstimator::default());
        }
        self.estimators.get_mut(model).expect("it is there")
    }
}

impl QueueSlot {
    /// The request is read, and asks a model for so much.
    pub(crate) fn fill(&self, model: &str, work: Work) {
        let mut state = self.admission.lock();
        if let Some(held) = state.places.get_mut(&self.id) {
            held.work = Some((model.to_owned(), work));
        }
    }

    pub(crate) fn sharers(&self) -> Sharers {
        self.sharers
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.admission.limits.deadline
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.admission.lock().places.remove(&self.id);
    }
}

/// The first so many places of each client, or of each group.
fn first_of_each(held: Vec<&Held>, most: usize, whose: impl Fn(Sharers) -> ClientId) -> Vec<&Held> {
    let mut counts: HashMap<ClientId, usize> = HashMap::new();
    let mut first = held;
    first.retain(|held| {
        let count = counts.entry(whose(held.sharers)).or_default();
        *count += 1;
        *count <= most
    });
    first
}

/// Why a request is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Busy {
    /// Every place is taken.
    #[error("the queue is full")]
    QueueFull {
        /// When a place should be free.
        retry_after_secs: u64,
    },
    /// Every place is taken that one client may hold; others still find one.
    #[error("the client holds its share of the queue")]
    ShareFull {
        /// When a place should be free.
        retry_after_secs: u64,
    },
    /// What is before it would take longer than any request may.
    #[error("the queue is longer than the deadline")]
    TooSlow {
        /// When it should be short enough.
        retry_after_secs: u64,
    },
}

/// Whole seconds, one at least.
fn secs(secs: f64) -> u64 {
    secs.ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 21_504;

    fn admission(capacity: usize, share: f64) -> Arc<Admission> {
        let deadline = Duration::from_secs(100);
        Arc::new(Admission::new(QueueLimits { capacity, deadline, share }, 1))
    }

    fn client(n: u8) -> Sharers {
        ClientId::new([n; 32]).into()
    }

    fn in_group(group: u8, n: u8) -> Sharers {
        Sharers::in_group(client(group).group(), client(n).client())
    }

    fn filled(admission: &Arc<Admission>, client: Sharers) -> QueueSlot {
        let place = admission.reserve(client).expect("there is room");
        place.fill("m", LARGE.into());
        place
    }

    #[test]
    fn one_client_holds_no_more_than_its_share() {
        let admission = admission(7, 0.5);
        let mut held: Vec<_> = (0..4).map(|_| filled(&admission, client(1))).collect();
        let refused = admission.reserve(client(1)).err();
        // Nothing has been drawn yet.
        assert_eq!(refused, Some(Busy::ShareFull { retry_after_secs: 20 }));
        let others: Vec<_> = (2..6).map(|n| filled(&admission, client(n))).collect();
        let refused = admission.reserve(client(6)).err();
        assert_eq!(refused, Some(Busy::QueueFull { retry_after_secs: 20 }));
        held.pop();
        assert!(admission.reserve(client(1)).is_ok());
        drop((held, others));
        assert_eq!(admission.jobs(), 0);
    }

    #[test]
    fn a_place_counts_towards_the_client_and_its_group() {
        let admission = admission(7, 0.5);
        let held: Vec<_> =
            [11, 11, 12, 12].map(|n| filled(&admission, in_group(1, n))).into_iter().collect();
        assert!(matches!(admission.reserve(in_group(1, 13)), Err(Busy::ShareFull { .. })));
        let other = filled(&admission, in_group(2, 21));
        drop((held, other));
        // The same client in several groups has one share.
        let held: Vec<_> = (1..5).map(|group| filled(&admission, in_group(group, 11))).collect();
        assert!(matches!(admission.reserve(in_group(5, 11)), Err(Busy::ShareFull { .. })));
        assert!(admission.reserve(in_group(5, 12)).is_ok());
        drop(held);
        assert_eq!(admission.jobs(), 0);
    }

    #[test]
    fn the_wait_is_as_long_as_the_turns_before() {
        let admission = admission(32, 1.0);
        admission.learn("m", LARGE.into(), Duration::from_secs(30));
        let held: Vec<_> = [11, 11, 11, 12].map(|n| filled(&admission, in_group(1, n))).into();
        let secs = |sharers| admission.wait_secs(&admission.lock(), sharers);
        // Of its group's other client one; of another group one for each of those and for itself.
        assert_eq!(secs(in_group(1, 13)), 60.0);
        assert_eq!(secs(in_group(1, 12)), 90.0);
        assert_eq!(secs(in_group(2, 21)), 30.0);
        drop(held);
    }

    #[test]
    fn a_share_is_one_place_at_least_and_may_be_all() {
        let none = admission(0, 0.1);
        let held = none.reserve(client(1)).ok();
        assert!(held.is_some() && none.reserve(client(1)).is_err());
        let all = admission(3, 1.0);
        let held: Vec<_> = (0..4).map(|_| filled(&all, client(1))).collect();
        assert!(matches!(all.reserve(client(1)), Err(Busy::QueueFull { .. })), "{}", held.len());
    }

    #[test]
    fn a_client_waits_for_its_turn_and_not_for_all_that_another_asked() {
        let admission = admission(32, 0.5);
        admission.learn("m", LARGE.into(), Duration::from_secs(30));
        let held: Vec<_> = (0..4).map(|_| filled(&admission, client(1))).collect();
        assert_eq!(admission.queue_secs(), Some(120.0));
        // Its own four would have to be done before.
        let refused = admission.reserve(client(1)).err();
        assert_eq!(refused, Some(Busy::TooSlow { retry_after_secs: 20 }));
        // Of the other, one.
        let other = admission.reserve(client(2));
        assert!(other.is_ok());
        drop(held);
        assert!(admission.reserve(client(1)).is_ok());
    }

    #[test]
    fn a_slow_model_does_not_make_a_quick_one_seem_slow() {
        let admission = admission(32, 1.0);
        for (model, secs) in [("quick", 1), ("slow", 60)] {
            admission.learn(model, LARGE.into(), Duration::from_secs(secs));
        }
        let held: Vec<_> = (0..4).map(|_| admission.reserve(client(1)).ok().unwrap()).collect();
        held.iter().for_each(|place| place.fill("quick", LARGE.into()));
        assert_eq!(admission.queue_secs(), Some(4.0));
        held[0].fill("slow", LARGE.into());
        assert_eq!(admission.queue_secs(), Some(63.0));
        held[0].fill("unknown", LARGE.into());
        assert_eq!(admission.queue_secs(), None);
        drop(held);
        let unread = admission.reserve(client(1));
        assert_eq!(admission.queue_secs(), None);
        drop(unread);
        assert_eq!(admission.queue_secs(), Some(0.0), "nothing waits, whatever is known");
    }

    #[test]
    fn twenty_small_images_refuse_nobody() {
        let admission = admission(32, 0.5);
        let small = Work::from(1_028);
        for _ in 0..20 {
            admission.learn("m", small, Duration::from_secs(20));
        }
        let _large: Vec<_> = (1..5).map(|n| filled(&admission, client(n))).collect();
        assert!(admission.reserve(client(9)).is_ok());
    }
}
