//! The one place that makes reports: one quote at a time, each for everyone who waits.
//!
//! While a quote is being made, and while the rate allows none, nonces gather; the next quote binds
//! the root of a tree over them all. So no number of verifiers uses up the hardware, and the rate
//! delays answers instead of refusing them, unless it would delay them for longer than anyone waits.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

use super::{
    EvidenceError, GpuSource, Sources, Tee,
    question::{Answer, Subject},
    rate_limiter::RateLimiter,
    waiting::{Waiter, Waiting},
};
use crate::{
    binding::{Bound, Digest32, Nonce, gpu_nonce, sha256},
    event_log::EventLog,
    gpu_evidence,
    nonces::{self, MAX_DEPTH},
    platform::Platform,
    report::Report,
};

/// Reports that are kept for whoever asks the same again.
const KEPT: usize = 64;

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Verifiers that may wait at once, 65,536 at most. Where so many do, the source with the most
    /// makes room for one with less.
    pub waiting: usize,
    /// How long each of them waits.
    pub timeout: Duration,
    /// Quotes a minute; as many may come at once. Each answers everyone who waits.
    pub per_minute: u32,
    /// For how long the same question has the same answer.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 256,
            timeout: Duration::from_secs(60),
            per_minute: 120,
            keep: Duration::from_secs(60),
        }
    }
}

/// Makes reports. Shared by all who ask.
pub struct Attester {
    platform: Platform,
    shared: Arc<Shared>,
    limits: Limits,
}

impl Attester {
    /// Extends RTMR3 with the model's manifest, where there is an RTMR3; then answers.
    ///
    /// # Errors
    /// Where the register cannot be extended, or there is no thread.
    pub fn start(
        sources: Sources,
        model_manifest: Vec<u8>,
        limits: Limits,
    ) -> Result<Self, EvidenceError> {
        let Sources { mut tee, gpus } = sources;
        let event_log = tee.measure_model(sha256(&model_manifest))?;
        let platform = tee.platform();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                waiting: Waiting::new(limits.waiting.clamp(1, 1 << MAX_DEPTH)),
                rate: RateLimiter::new(limits.per_minute, Instant::now()),
                cache: ReportCache::new(limits.keep),
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let random = SystemRandom::new();
        let worker =
            Worker { tee, gpus, model_manifest, event_log, random, shared: shared.clone() };
        thread::Builder::new()
            .name("attester".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| EvidenceError::Io { what: "no thread for quotes", source })?;
        Ok(Self { platform, shared, limits })
    }

    /// Whose hardware signs.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// How long to wait for an answer, before it is [`EvidenceError::TimedOut`].
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// Asks for a report, and does not wait: `reply` is called with it, or dropped where there will
    /// be none. What is returned holds the place in the queue; whoever drops it gives that up.
    ///
    /// # Errors
    /// Where too many ask, or nothing makes quotes any more.
    pub fn ask(
        &self,
        subject: Subject,
        reply: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<PendingReport, EvidenceError> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(EvidenceError::Stopped);
        }
        if let Some(report) = state.cache.find(&subject, now) {
            drop(state);
            reply(Ok(report));
            return Ok(PendingReport { shared: self.shared.clone(), id: None });
        }
        let retry_after = state.rate.until_next(now);
        if retry_after > self.limits.timeout {
            return Err(EvidenceError::RateLimited { retry_after });
        }
        let (id, evicted) = state.waiting.push(subject, Box::new(reply))?;
        drop(state);
        self.shared.changed.notify_one();
        if let Some(evicted) = evicted {
            (evicted.reply)(Err(EvidenceError::Busy));
        }
        Ok(PendingReport { shared: self.shared.clone(), id: Some(id) })
    }

    /// A report. Waits; not to be called where nothing may wait.
    ///
    /// # Errors
    /// Where too many ask, or the hardware has no answer.
    pub fn report(&self, subject: Subject) -> Answer {
        let (reply, answer) = mpsc::sync_channel(1);
        let pending = self.ask(subject, move |answer| drop(reply.try_send(answer)))?;
        let answer = answer.recv_timeout(self.limits.timeout);
        drop(pending);
        answer.map_err(|error| match error {
            RecvTimeoutError::Timeout => EvidenceError::TimedOut,
            RecvTimeoutError::Disconnected => EvidenceError::Stopped,
        })?
    }
}

impl Drop for Attester {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A place in the queue, given up when dropped.
#[must_use]
pub struct PendingReport {
    shared: Arc<Shared>,
    /// None where the answer was there at once.
    id: Option<u64>,
}

impl Drop for PendingReport {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().waiting.remove(id);
        }
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: Waiting,
    rate: RateLimiter,
    cache: ReportCache,
    /// Nobody asks any more, or nobody answers.
    stopped: bool,
}

impl Shared {
    /// What is behind this lock stays consistent when a thread panics.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    /// Waits until there is a quote to make, and takes those whom it answers; `None` at the end.
    fn next_batch(&self) -> Option<Vec<Waiter>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            let State { waiting, cache, .. } = &mut *state;
            let answered = waiting.take_answered(|subject| cache.find(subject, now));
            if !answered.is_empty() {
                drop(state);
                for (waiter, report) in answered {
                    (waiter.reply)(Ok(report));
                }
                state = self.lock();
                continue;
            }
            state = if state.waiting.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                match state.rate.take(now) {
                    Ok(()) => return Some(state.waiting.take_batch()),
                    // Nonces gather until the rate allows another quote.
                    Err(pause) => {
                        let waited = self.changed.wait_timeout(state, pause);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                }
            };
        }
    }
}

struct Worker {
    tee: Box<dyn Tee>,
    gpus: Box<dyn GpuSource>,
    model_manifest: Vec<u8>,
    event_log: Option<EventLog>,
    random: SystemRandom,
    shared: Arc<Shared>,
}

/// Whoever waits learns of it when the thread ends, however it does.
impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Worker {
    fn run(mut self) {
        while let Some(batch) = self.shared.next_batch() {
            let subjects: Vec<&Subject> = batch.iter().map(|waiter| &waiter.subject).collect();
            let made = self.make(&subjects).map_err(Arc::new);
            let now = Instant::now();
            if let Ok(reports) = &made {
                let mut state = self.shared.lock();
                for (subject, report) in subjects.iter().zip(reports) {
                    state.cache.insert(subject, now, report.clone());
                }
            }
            for (place, waiter) in batch.into_iter().enumerate() {
                let answer = match &made {
                    Ok(reports) => Ok(reports[place].clone()),
                    Err(error) => Err(EvidenceError::NotMade(error.clone())),
                };
                (waiter.reply)(answer);
            }
        }
    }

    /// A quote over the nonces of all of them, who ask about one keyset; a report for each.
    fn make(&mut self, subjects: &[&Subject]) -> Result<Vec<Arc<[u8]>>, EvidenceError> {
        let newest = subjects.last().expect("a batch has somebody in it");
        let (keyset, now_secs) = (&newest.keyset, newest.now_secs);
        let nonces: Vec<Nonce> = subjects.iter().map(|subject| subject.nonce).collect();
        let (nonce_root, paths) = nonces::tree(&nonces, || self.random())?;
        let device_evidence = self.devices(gpu_nonce(nonce_root, keyset.keyset.digest()))?;
        let bound = Bound {
            nonce_root,
            keyset: keyset.keyset.digest(),
            model_manifest: sha256(&self.model_manifest),
            device_evidence: &device_evidence,
        };
        let quoted = self.tee.quote(&bound.report_data(), now_secs)?;
        let mut report = Report {
            platform: self.tee.platform(),
            nonce: Nonce::ABSENT,
            nonce_path: nonces::NoncePath::alone([0; 32]),
            keyset: keyset.keyset.as_bytes().to_vec(),
            possession: keyset.possession,
            model_manifest: self.model_manifest.clone(),
            device_evidence,
            event_log: self.event_log.as_ref().map(EventLog::to_json).unwrap_or_default(),
            quote: quoted.quote,
            collateral: quoted.collateral,
        };
        let reports = nonces.into_iter().zip(paths).map(|(nonce, nonce_path)| {
            (report.nonce, report.nonce_path) = (nonce, nonce_path);
            report.to_json().into()
        });
        Ok(reports.collect())
    }

    fn random(&self) -> Result<[u8; 32], EvidenceError> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes).map_err(|_| EvidenceError::Randomness)?;
        Ok(bytes)
    }

    /// The library that talks to the driver trusts the sizes that it is told, and panics where they
    /// are wrong.
    fn devices(&mut self, nonce: Digest32) -> Result<Vec<u8>, EvidenceError> {
        let gpus = catch_unwind(AssertUnwindSafe(|| self.gpus.evidence(nonce)));
        Ok(gpu_evidence::encode(&gpus.map_err(|_| EvidenceError::GpuPanicked)??))
    }
}

/// Reports by nonce and keyset. A nonce that comes twice is one verifier's, or it is none; either way
/// the answer it would get anew says the same.
struct ReportCache {
    reports: VecDeque<CachedReport>,
    keep: Duration,
}

struct CachedReport {
    question: (Nonce, Digest32),
    made: Instant,
    report: Arc<[u8]>,
}

impl ReportCache {
    fn new(keep: Duration) -> Self {
        Self { reports: VecDeque::new(), keep }
    }

    fn find(&mut self, subject: &Subject, now: Instant) -> Option<Arc<[u8]>> {
        self.reports.retain(|kept| now.saturating_duration_since(kept.made) < self.keep);
        let question = Self::question(subject);
        self.reports.iter().find(|kept| kept.question == question).map(|kept| kept.report.clone())
    }

    fn insert(&mut self, subject: &Subject, now: Instant, report: Arc<[u8]>) {
        let question = Self::question(subject);
        if self.reports.iter().all(|kept| kept.question != question) {
            self.reports.truncate(KEPT - 1);
            self.reports.push_front(CachedReport { question, made: now, report });
        }
    }

    fn question(subject: &Subject) -> (Nonce, Digest32) {
        (subject.nonce, subject.keyset.keyset.digest())
    }
}
