//! The engines, one thread a device, and the bounded queue in front of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flux::{Generated, Job, Picture, Watch};
use protocol::{GuidanceUse, ImageRequest, Size};
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{self, Instant},
};

use crate::{metrics::Metrics, pace::Pace, queue::Queue, worker::Worker};

/// What makes pictures: [`flux::Pipeline`], or a stand-in where a test or a benchmark is about
/// everything around it.
pub trait Painter: Send + 'static {
    /// Makes the pictures of one job. `watch` is told of each step, may ask to see the pictures on
    /// the way, and may ask to stop.
    ///
    /// # Errors
    /// [`flux::Error::Cancelled`] where `watch` asked to stop, and whatever went wrong otherwise.
    fn paint(&mut self, job: &Job<'_>, watch: &mut dyn Watch) -> Result<Generated, flux::Error>;

    /// How many pictures of a size it draws together.
    fn batch_size(&self, _size: Size) -> usize {
        1
    }

    /// Makes the pictures of jobs that [go together](Job::goes_with), each of which has its own end.
    ///
    /// # Errors
    /// What went wrong for all of them at once.
    fn paint_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn Watch)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        Ok(jobs.iter_mut().map(|(job, watch)| self.paint(job, &mut **watch)).collect())
    }

    /// Where it computes, and in which type.
    fn place(&self) -> String {
        "stand-in".to_owned()
    }

    /// How much of a GPU's memory it has taken at most, where it computes on one.
    fn peak_memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether it takes a guidance scale.
    fn guidance(&self) -> GuidanceUse {
        GuidanceUse::Ignores
    }
}

impl Painter for flux::Pipeline {
    fn paint(&mut self, job: &Job<'_>, watch: &mut dyn Watch) -> Result<Generated, flux::Error> {
        self.generate_watched(job, watch)
    }

    fn batch_size(&self, size: Size) -> usize {
        flux::Pipeline::batch_size(self, size).get()
    }

    fn paint_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn Watch)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        self.generate_batch(jobs)
    }

    fn place(&self) -> String {
        flux::Pipeline::place(self)
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        flux::Pipeline::peak_memory_bytes(self)
    }

    fn guidance(&self) -> GuidanceUse {
        match self.reads_guidance() {
            true => GuidanceUse::Reads,
            false => GuidanceUse::Ignores,
        }
    }
}

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueLimits {
    /// Requests that may wait while every engine has one.
    pub(crate) capacity: usize,
    /// How long one request may take, its waiting included.
    pub(crate) deadline: Duration,
}

/// The handle to the engines' threads, which take their work from one queue: an engine that is idle
/// takes what is next, so none idles while something waits. They end when every handle is gone.
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    /// One permit for each place in the queue, and one for each job that runs. A permit lives in the
    /// future of its request, so a client that hangs up frees its place at once.
    places: Arc<Semaphore>,
    pace: Arc<Pace>,
    draining: Arc<AtomicBool>,
    deadline: Duration,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Engine {
    /// Starts a thread a painter.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start(
        painters: Vec<Box<dyn Painter>>,
        limits: QueueLimits,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let engines = painters.len();
        let pace = Arc::new(Pace::new(engines));
        let draining = Arc::new(AtomicBool::new(false));
        for (number, painter) in painters.into_iter().enumerate() {
            Worker {
                painter,
                queue: queue.clone(),
                pace: pace.clone(),
                draining: draining.clone(),
                metrics: metrics.clone(),
                number,
            }
            .spawn()?;
        }
        let places = Arc::new(Semaphore::new(limits.capacity + engines));
        let deadline = limits.deadline;
        let shared = Arc::new(Shared { queue, places, pace, draining, deadline });
        Ok(Self { shared })
    }

    /// Takes a place in the queue. Done before a request is opened, so that a request that is sent
    /// away has not been used up and can be sent again.
    ///
    /// # Errors
    /// Where every place is taken, or what waits already would not be done within the deadline.
    pub(crate) fn reserve(&self) -> Result<Place, Busy> {
        let Shared { places, pace, deadline, .. } = &*self.shared;
        let wait = pace.queue_secs();
        if wait > deadline.as_secs_f64() {
            let excess = wait - deadline.as_secs_f64();
            return Err(Busy::TooSlow { retry_after_secs: (excess.ceil() as u64).clamp(1, 120) });
        }
        match places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { shared: self.shared.clone(), _permit: permit }),
            Err(_) => Err(Busy::QueueFull { retry_after_secs: pace.predicted_wait_secs() }),
        }
    }

    /// From now on what waits is refused; what runs is finished.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Requests that wait or run.
    pub(crate) fn depth(&self) -> usize {
        self.shared.pace.jobs()
    }

    /// Seconds until all of them are done, by the pace of late.
    pub(crate) fn queue_secs(&self) -> f64 {
        self.shared.pace.queue_secs()
    }
}

/// A place in the queue, given back when dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits for the pictures. Dropping the future takes the request out of the queue, or stops it
    /// between two steps.
    ///
    /// # Errors
    /// See [`Failed`].
    pub(crate) async fn generate(self, request: ImageRequest) -> Result<Painted, Failed> {
        self.run(request, None).await
    }

    /// The same, and `updates` is told of each step and each picture on the way.
    ///
    /// # Errors
    /// See [`Failed`].
    pub(crate) async fn generate_watched(
        self,
        request: ImageRequest,
        updates: mpsc::UnboundedSender<Update>,
    ) -> Result<Painted, Failed> {
        self.run(request, Some(updates)).await
    }

    async fn run(
        self,
        request: ImageRequest,
        updates: Option<mpsc::UnboundedSender<Update>>,
    ) -> Result<Painted, Failed> {
        let _queued = self.shared.pace.enter(work(&job(&request)));
        let deadline = Instant::now() + self.shared.deadline;
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket { request, reply, updates, span: tracing::Span::current() };
        self.shared.queue.push(ticket);
        match time::timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| Failed::Generation)?,
            Err(_) => Err(Failed::Deadline),
        }
    }
}

/// What the engine hands back: the request, for the answer still depends on it, and its pictures.
pub(crate) struct Painted {
    /// What was asked for.
    pub(crate) request: ImageRequest,
    /// What was made.
    pub(crate) generated: Generated,
}

/// What a stream is told. At most one a step, and three pictures on the way for each picture, of
/// which the request's pixels are bounded: so its channel needs no bound of its own.
pub(crate) enum Update {
    /// A step is done.
    Step { done: usize, total: usize },
    Preview {
        /// Which picture it is on the way to, from 0.
        index: usize,
        /// How many were made on the way to it before.
        ordinal: usize,
        picture: Picture,
    },
}

/// Why a request is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Busy {
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

/// Why there are no pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum Failed {
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
pub(crate) struct Ticket {
    pub(crate) request: ImageRequest,
    pub(crate) reply: oneshot::Sender<Result<Painted, Failed>>,
    pub(crate) updates: Option<mpsc::UnboundedSender<Update>>,
    /// The request's.
    pub(crate) span: tracing::Span,
}

impl Ticket {
    /// Whether both can be drawn together: what [`Job::goes_with`] says of their jobs.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        job(&self.request).goes_with(&job(&other.request))
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
