//! How fast the engine has been of late, and so how long the queue is in seconds.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The share of a new measurement in the running mean.
const WEIGHT: f64 = 0.3;
/// Bounds of what a client is told to wait.
const RETRY_AFTER_SECS: std::ops::RangeInclusive<f64> = 1.0..=120.0;

/// Work is counted in pixels × steps.
pub(crate) struct ThroughputEstimator {
    engines: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queued_work: u64,
    jobs: usize,
    secs_per_work: Option<f64>,
}

impl ThroughputEstimator {
    /// Of so many engines that share one queue.
    pub(crate) fn new(engines: usize) -> Self {
        Self { engines: engines.max(1) as f64, state: Mutex::default() }
    }

    /// Counts a job in, for as long as the guard lives.
    pub(crate) fn enter(&self, work: u64) -> Queued<'_> {
        let mut state = self.lock();
        state.queued_work += work;
        state.jobs += 1;
        Queued { throughput: self, work }
    }

    /// Takes in how long a job took.
    pub(crate) fn learn(&self, work: u64, took: Duration) {
        let measured = took.as_secs_f64() / work.max(1) as f64;
        let mut state = self.lock();
        state.secs_per_work =
            Some(state.secs_per_work.map_or(measured, |mean| mean + WEIGHT * (measured - mean)));
    }

    /// Seconds until one place should be free: the queue's length by the mean job.
    pub(crate) fn predicted_wait_secs(&self) -> u64 {
        let state = self.lock();
        let per_job = state.queued_work as f64 / state.jobs.max(1) as f64;
        let secs = per_job * state.secs_per_work.unwrap_or(0.0) / self.engines;
        secs.ceil().clamp(*RETRY_AFTER_SECS.start(), *RETRY_AFTER_SECS.end()) as u64
    }

    /// Seconds until everything that waits or runs is done.
    pub(crate) fn queue_secs(&self) -> f64 {
        let state = self.lock();
        state.queued_work as f64 * state.secs_per_work.unwrap_or(0.0) / self.engines
    }

    pub(crate) fn jobs(&self) -> usize {
        self.lock().jobs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers stay numbers whatever panicked beside them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that waits or runs.
pub(crate) struct Queued<'a> {
    throughput: &'a ThroughputEstimator,
    work: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.throughput.lock();
        state.queued_work -= self.work;
        state.jobs -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicts_from_what_it_saw() {
        let throughput = ThroughputEstimator::new(1);
        assert_eq!(throughput.predicted_wait_secs(), 1);
        throughput.learn(100, Duration::from_secs(10));
        let first = throughput.enter(200);
        let second = throughput.enter(400);
        assert_eq!((throughput.predicted_wait_secs(), throughput.queue_secs()), (30, 60.0));
        drop(second);
        assert_eq!(throughput.predicted_wait_secs(), 20);
        drop(first);
        assert_eq!((throughput.jobs(), throughput.predicted_wait_secs()), (0, 1));

        let pair = ThroughputEstimator::new(2);
        pair.learn(100, Duration::from_secs(10));
        let _both = (pair.enter(200), pair.enter(200));
        assert_eq!((pair.predicted_wait_secs(), pair.queue_secs()), (10, 20.0));
    }
}
