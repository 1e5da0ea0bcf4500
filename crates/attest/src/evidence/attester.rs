//! The one place that makes reports, one at a time.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{EvidenceError, GpuSource, Sources, Tee, pace::Pace};
use crate::{
    binding::{Bound, Digest32, Nonce, SignedKeyset, gpu_nonce, sha256},
    event_log::EventLog,
    gpu_evidence,
    platform::Platform,
    report::Report,
};

/// Reports that are kept for whoever asks the same again.
const KEPT: usize = 64;

/// What the operator allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Verifiers that may wait while one quote is made.
    pub waiting: usize,
    /// How long each of them waits.
    pub patience: Duration,
    /// Quotes a minute; as many may come at once.
    pub per_minute: u32,
    /// For how long the same question has the same answer.
    pub keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 32,
            patience: Duration::from_secs(60),
            per_minute: 120,
            keep: Duration::from_secs(60),
        }
    }
}

/// What a verifier asks about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its nonce, or [`Nonce::ABSENT`].
    pub nonce: Nonce,
    /// The keys that serve now.
    pub keyset: Arc<SignedKeyset>,
    /// Seconds since 1970.
    pub now_secs: u64,
}

/// Makes reports. Shared by all who ask.
pub struct Attester {
    platform: Platform,
    jobs: SyncSender<Job>,
    pace: Mutex<Pace>,
    kept: Arc<Mutex<Kept>>,
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
        let kept = Arc::new(Mutex::new(Kept::default()));
        let worker =
            Worker { tee, gpus, model_manifest, event_log, kept: kept.clone(), keep: limits.keep };
        let (jobs, queue) = mpsc::sync_channel(limits.waiting);
        thread::Builder::new()
            .name("attester".to_owned())
            .spawn(move || worker.run(&queue))
            .map_err(|source| EvidenceError::Io { what: "no thread for quotes", source })?;
        let pace = Mutex::new(Pace::new(limits.per_minute, Instant::now()));
        Ok(Self { platform, jobs, pace, kept, limits })
    }

    /// Whose hardware signs.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// A report, as the JSON that travels. Waits; not to be called where nothing may wait.
    ///
    /// # Errors
    /// Where too many ask, or the hardware has no answer.
    pub fn report(&self, subject: Subject) -> Result<Arc<[u8]>, EvidenceError> {
        let now = Instant::now();
        if let Some(report) = lock(&self.kept).find(&subject, now, self.limits.keep) {
            return Ok(report);
        }
        lock(&self.pace)
            .take(now)
            .map_err(|retry_after| EvidenceError::RateLimited { retry_after })?;
        let (reply, answer) = mpsc::sync_channel(1);
        let job = Job { subject, give_up: now + self.limits.patience, reply };
        self.jobs.try_send(job).map_err(|refusal| match refusal {
            TrySendError::Full(_) => EvidenceError::Busy,
            TrySendError::Disconnected(_) => EvidenceError::Stopped,
        })?;
        answer.recv_timeout(self.limits.patience).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => EvidenceError::TimedOut,
            mpsc::RecvTimeoutError::Disconnected => EvidenceError::Stopped,
        })?
    }
}

struct Job {
    subject: Subject,
    give_up: Instant,
    reply: SyncSender<Result<Arc<[u8]>, EvidenceError>>,
}

struct Worker {
    tee: Box<dyn Tee>,
    gpus: Box<dyn GpuSource>,
    model_manifest: Vec<u8>,
    event_log: Option<EventLog>,
    kept: Arc<Mutex<Kept>>,
    keep: Duration,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        for Job { subject, give_up, reply } in queue {
            let now = Instant::now();
            if now >= give_up {
                continue;
            }
            let kept = lock(&self.kept).find(&subject, now, self.keep);
            let answer = match kept {
                Some(report) => Ok(report),
                None => self.make(&subject),
            };
            if let Ok(report) = &answer {
                lock(&self.kept).insert(&subject, now, report.clone());
            }
            // Whoever asked may have left.
            let _ = reply.send(answer);
        }
    }

    fn make(&mut self, subject: &Subject) -> Result<Arc<[u8]>, EvidenceError> {
        let Subject { nonce, ref keyset, now_secs } = *subject;
        let device_evidence = self.devices(gpu_nonce(nonce, keyset.keyset.digest()))?;
        let bound = Bound {
            nonce,
            keyset: keyset.keyset.digest(),
            model_manifest: sha256(&self.model_manifest),
            device_evidence: &device_evidence,
        };
        let quoted = self.tee.quote(&bound.report_data(), now_secs)?;
        let report = Report {
            platform: self.tee.platform(),
            nonce,
            keyset: keyset.keyset.as_bytes().to_vec(),
            possession: keyset.possession,
            model_manifest: self.model_manifest.clone(),
            device_evidence,
            event_log: self.event_log.as_ref().map(EventLog::to_json).unwrap_or_default(),
            quote: quoted.quote,
            collateral: quoted.collateral,
        };
        Ok(report.to_json().into())
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
#[derive(Default)]
struct Kept {
    reports: VecDeque<KeptReport>,
}

struct KeptReport {
    question: (Nonce, Digest32),
    made: Instant,
    report: Arc<[u8]>,
}

impl Kept {
    fn find(&mut self, subject: &Subject, now: Instant, keep: Duration) -> Option<Arc<[u8]>> {
        self.reports.retain(|kept| now.saturating_duration_since(kept.made) < keep);
        let question = Self::question(subject);
        self.reports.iter().find(|kept| kept.question == question).map(|kept| kept.report.clone())
    }

    fn insert(&mut self, subject: &Subject, now: Instant, report: Arc<[u8]>) {
        let question = Self::question(subject);
        if self.reports.iter().all(|kept| kept.question != question) {
            self.reports.truncate(KEPT - 1);
            self.reports.push_front(KeptReport { question, made: now, report });
        }
    }

    fn question(subject: &Subject) -> (Nonce, Digest32) {
        (subject.nonce, subject.keyset.keyset.digest())
    }
}

/// What is behind these locks stays whole whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
