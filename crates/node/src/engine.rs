//! One thread that owns the model, and the bounded queue in front of it.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use flux::{Generated, Job, Progress};
use protocol::ImageRequest;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::pace::Pace;

/// What makes pictures: [`flux::Pipeline`], or a stand-in where a test or a benchmark is about
/// everything around it.
pub trait Painter: Send + 'static {
    /// Makes the pictures of one job. `watch` is told of each step and may ask to stop.
    ///
    /// # Errors
    /// [`flux::Error::Cancelled`] where `watch` asked to stop, and whatever went wrong otherwise.
    fn paint(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generated, flux::Error>;
}

impl Painter for flux::Pipeline {
    fn paint(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Generated, flux::Error> {
        self.generate(job, watch)
    }
}

/// The handle to the engine's thread. The thread ends when every handle is gone.
pub(crate) struct Engine {
    tickets: mpsc::UnboundedSender<Ticket>,
    /// One permit for each place in the queue, and one for the job that runs. A permit lives in the
    /// future of its request, so a client that hangs up frees its place at once.
    places: Arc<Semaphore>,
    pace: Arc<Pace>,
    draining: Arc<AtomicBool>,
}

impl Engine {
    /// Starts the thread. `capacity` requests may wait while one runs.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub(crate) fn start(painter: Box<dyn Painter>, capacity: usize) -> std::io::Result<Self> {
        let (tickets, inbox) = mpsc::unbounded_channel();
        let pace = Arc::new(Pace::default());
        let draining = Arc::new(AtomicBool::new(false));
        let thread = Worker { painter, inbox, pace: pace.clone(), draining: draining.clone() };
        thread::Builder::new().name("engine".to_owned()).spawn(move || thread.run())?;
        Ok(Self { tickets, places: Arc::new(Semaphore::new(capacity + 1)), pace, draining })
    }

    /// Takes a place in the queue. Done before a request is opened, so that a request that is sent
    /// away has not been used up and can be sent again.
    ///
    /// # Errors
    /// Where every place is taken.
    pub(crate) fn reserve(&self) -> Result<Place<'_>, QueueFull> {
        match self.places.clone().try_acquire_owned() {
            Ok(permit) => Ok(Place { engine: self, _permit: permit }),
            Err(_) => Err(QueueFull { retry_after_secs: self.pace.predicted_wait_secs() }),
        }
    }

    /// From now on what waits is refused; what runs is finished.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Requests that wait or run.
    pub(crate) fn depth(&self) -> usize {
        self.pace.jobs()
    }
}

/// A place in the queue, given back when dropped.
pub(crate) struct Place<'a> {
    engine: &'a Engine,
    _permit: OwnedSemaphorePermit,
}

impl Place<'_> {
    /// Waits for the pictures. Dropping the future takes the request out of the queue, or stops it
    /// between two steps.
    ///
    /// # Errors
    /// See [`Failed`].
    pub(crate) async fn generate(self, request: ImageRequest) -> Result<Painted, Failed> {
        let _queued = self.engine.pace.enter(work(&request));
        let (reply, answer) = oneshot::channel();
        self.engine.tickets.send(Ticket { request, reply }).map_err(|_| Failed::Generation)?;
        answer.await.map_err(|_| Failed::Generation)?
    }
}

/// What the engine hands back: the request, for the answer still depends on it, and its pictures.
pub(crate) struct Painted {
    /// What was asked for.
    pub(crate) request: ImageRequest,
    /// What was made.
    pub(crate) generated: Generated,
}

/// Every place in the queue is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the queue is full")]
pub(crate) struct QueueFull {
    /// When a place should be free, by the pace of late.
    pub(crate) retry_after_secs: u64,
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
}

struct Ticket {
    request: ImageRequest,
    reply: oneshot::Sender<Result<Painted, Failed>>,
}

/// The thread's side.
struct Worker {
    painter: Box<dyn Painter>,
    inbox: mpsc::UnboundedReceiver<Ticket>,
    pace: Arc<Pace>,
    draining: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self) {
        while let Some(Ticket { request, reply }) = self.inbox.blocking_recv() {
            if reply.is_closed() {
                continue;
            }
            let answer = if self.draining.load(Ordering::Acquire) {
                Err(Failed::Draining)
            } else {
                self.paint(&request, &reply).map(|generated| Painted { request, generated })
            };
            // The client may have gone while its picture was made; nobody else is owed it.
            drop(reply.send(answer));
        }
    }

    fn paint(
        &mut self,
        request: &ImageRequest,
        reply: &oneshot::Sender<Result<Painted, Failed>>,
    ) -> Result<Generated, Failed> {
        let job = Job {
            prompt: &request.prompt,
            size: request.size,
            steps: request.steps,
            seed: request.seed,
            count: request.count,
            guidance: flux::GUIDANCE,
        };
        let mut watch = |_: Progress| match reply.is_closed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let started = Instant::now();
        // A panic must cost one request, not the node. The model holds no state between jobs that
        // a panic could leave half made.
        let painted = catch_unwind(AssertUnwindSafe(|| self.painter.paint(&job, &mut watch)));
        match painted {
            Ok(Ok(generated)) => {
                self.pace.learn(work(request), started.elapsed());
                Ok(generated)
            }
            Ok(Err(flux::Error::Cancelled)) => Err(Failed::Generation),
            Ok(Err(error)) => {
                tracing::error!(%error, "generation failed");
                Err(Failed::Generation)
            }
            Err(_) => {
                tracing::error!("generation panicked");
                Err(Failed::Generation)
            }
        }
    }
}

/// Pixels × steps: what the time of a request grows with.
fn work(request: &ImageRequest) -> u64 {
    request.pixels() * request.steps.get() as u64
}
