//! The engines, one thread a device, and the bounded queue in front of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flux::{Generated, Job, Picture};
use protocol::ImageRequest;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{self, Instant},
};

use crate::{
    generator::Generator, observer::Observer, queue::Queue, throughput::ThroughputEstimator,
    worker::Worker,
};

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Requests that may wait while every engine has one.
    pub capacity: usize,
    /// How long one request may take, its waiting included.
    pub deadline: Duration,
}

/// The handle to the engines' threads, which take their work from one queue: an engine that is idle
/// takes what is next, so none idles while something waits. They end when every handle is gone.
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    /// One permit for each place in the queue, and one for each job that runs. A permit lives in the
    /// future of its request, so a client that hangs up frees its place at once.
    permits: Arc<Semaphore>,
    throughput: Arc<ThroughputEstimator>,
    draining: Arc<AtomicBool>,
    deadline: Duration,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Engine {
    /// Starts a thread for each generator.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        generators: Vec<Box<dyn Generator>>,
        limits: QueueLimits,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let engines = generators.len();
        let throughput = Arc::new(ThroughputEstimator::new(engines));
        let draining = Arc::new(AtomicBool::new(false));
        for (number, generator) in generators.into_iter().enumerate() {
            Worker {
                generator,
                queue: queue.clone(),
                throughput: throughput.clone(),
                draining: draining.clone(),
                observer: observer.clone(),
                number,
            }
            .spawn()?;
        }
        let permits = Arc::new(Semaphore::new(limits.capacity + engines));
        let deadline = limits.deadline;
        let shared = Arc::new(Shared { queue, permits, throughput, draining, deadline });
        Ok(Self { shared })
    }

    /// Reserves a place in the queue. Done before a request is opened, so that a request that is sent
    /// away has not been used up and can be sent again.
    ///
    /// # Errors
    /// Where every place is taken, or what waits already would not be done within the deadline.
    pub fn reserve(&self) -> Result<Permit, Busy> {
        let Shared { permits, throughput, deadline, .. } = &*self.shared;
        let wait = throughput.queue_secs();
        if wait > deadline.as_secs_f64() {
            let excess = wait - deadline.as_secs_f64();
            return Err(Busy::TooSlow { retry_after_secs: (excess.ceil() as u64).clamp(1, 120) });
        }
        match permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(Permit { shared: self.shared.clone(), _permit: permit }),
            Err(_) => Err(Busy::QueueFull { retry_after_secs: throughput.predicted_wait_secs() }),
        }
    }

    /// Refuses what waits from now on; what runs is finished.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Requests that wait or run.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.throughput.jobs()
    }

    /// Seconds until all of them are done, by the pace of late.
    #[must_use]
    pub fn queue_secs(&self) -> f64 {
        self.shared.throughput.queue_secs()
    }
}

/// A place in the queue, given back when dropped.
pub struct Permit {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    /// Waits for the images. Dropping the future takes the request out of the queue, or stops it
    /// between two steps.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub async fn generate(self, request: ImageRequest) -> Result<Output, GenerateError> {
        self.run(request, None).await
    }

    /// The same, and `updates` is told of each step and each image on the way.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub async fn generate_watched(
        self,
        request: ImageRequest,
        updates: mpsc::UnboundedSender<Update>,
    ) -> Result<Output, GenerateError> {
        self.run(request, Some(updates)).await
    }

    async fn run(
        self,
        request: ImageRequest,
        updates: Option<mpsc::UnboundedSender<Update>>,
    ) -> Result<Output, GenerateError> {
        let _queued = self.shared.throughput.enter(work(&job(&request)));
        let deadline = Instant::now() + self.shared.deadline;
        let (reply, answer) = oneshot::channel();
        let entry = QueueEntry { request, reply, updates, span: tracing::Span::current() };
        self.shared.queue.push(entry);
        match time::timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| GenerateError::Generation)?,
            Err(_) => Err(GenerateError::Deadline),
        }
    }
}

/// What the engine hands back: the request, for the answer still depends on it, and its images.
pub struct Output {
    /// What was asked for.
    pub request: ImageRequest,
    /// What was made.
    pub generated: Generated,
}

/// What a stream is told. At most one a step, and three pictures on the way for each picture, of
/// which the request's pixels are bounded: so its channel needs no bound of its own.
pub enum Update {
    /// A step is done.
    Step {
        /// Steps done, over all images.
        done: usize,
        /// Steps of all images.
        total: usize,
    },
    /// An image on the way.
    Preview {
        /// Which picture it is on the way to, from 0.
        index: usize,
        /// How many were made on the way to it before.
        ordinal: usize,
        /// What the model makes of the noise so far, decoded.
        picture: Picture,
    },
}

/// Why a request is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Busy {
    /// Every place is taken.
    #[error("the queue is full")]
    QueueFull {
        /// When a place should be free, by the pace of late.
        retry_after_secs: u64,
    },
    /// What waits already would take longer than any request may.
    #[error("the queue is longer than the deadline")]
    TooSlow {
        /// When it should be short enough.
        retry_after_secs: u64,
    },
}

/// Why there are no images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The model failed. The cause is in the log, without the prompt.
    #[error("generation failed")]
    Generation,
    /// The node is stopping, and this request had not begun.
    #[error("the node is draining")]
    Draining,
    /// The request took longer than it may.
    #[error("the request took longer than it may")]
    Deadline,
}

/// A request on its way to an engine.
pub(crate) struct QueueEntry {
    pub(crate) request: ImageRequest,
    pub(crate) reply: oneshot::Sender<Result<Output, GenerateError>>,
    pub(crate) updates: Option<mpsc::UnboundedSender<Update>>,
    /// The request's.
    pub(crate) span: tracing::Span,
}

impl QueueEntry {
    /// Whether both can be generated in one batch: see [`Job::is_batchable_with`].
    pub(crate) fn is_batchable_with(&self, other: &Self) -> bool {
        job(&self.request).is_batchable_with(&job(&other.request))
    }
}

/// What an engine is asked for.
pub(crate) fn job(request: &ImageRequest) -> Job<'_> {
    Job {
        prompt: &request.prompt,
        size: request.size,
        steps: request.steps,
        seed: request.seed,
        count: request.count,
        guidance: request.guidance.map_or(flux::GUIDANCE, |scale| scale.get()),
    }
}

/// Pixels × steps: what the time of a job grows with.
pub(crate) fn work(job: &Job<'_>) -> u64 {
    job.size.pixels() * job.count.get() as u64 * job.steps.get() as u64
}
