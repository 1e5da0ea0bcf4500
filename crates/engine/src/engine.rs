//! The engines, one thread a device, and the bounded queue in front of them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flux::{Generated, Job};
use protocol::ImageRequest;
use thiserror::Error;
use tokio::{sync::oneshot, task::JoinHandle, time};

use crate::{
    admission::{Admission, Busy, Place},
    client::ClientId,
    generator::Generator,
    observer::Observer,
    queue::Queue,
    updates::UpdateSender,
    work::Work,
    worker::Worker,
};

/// How much is taken on.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Requests that may wait while every engine has one.
    pub capacity: usize,
    /// How long one request may take, its waiting included.
    pub deadline: Duration,
    /// The share of all places, those of running requests included, that one client may hold: from
    /// 0 (one place) to 1 (all of them).
    pub share: f64,
}

impl QueueLimits {
    pub(crate) fn places_of_client(&self, places: usize) -> usize {
        ((self.share * places as f64).ceil() as usize).clamp(1, places.max(1))
    }
}

/// The handle to the engines' threads, which take their work from one queue: an engine that is idle
/// takes what is next, so none idles while something waits. They end when every handle is gone.
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Arc<Queue>,
    admission: Arc<Admission>,
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
        let admission = Arc::new(Admission::new(limits, generators.len()));
        for (number, generator) in generators.into_iter().enumerate() {
            Worker {
                generator,
                queue: queue.clone(),
                admission: admission.clone(),
                observer: observer.clone(),
                number,
            }
            .spawn()?;
        }
        Ok(Self { shared: Arc::new(Shared { queue, admission }) })
    }

    /// Reserves a place in the queue. Done before a request is opened, so that a request that is
    /// sent away has not been used up and can be sent again.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn reserve(&self, client: ClientId) -> Result<Permit, Busy> {
        let place = self.shared.admission.reserve(client)?;
        Ok(Permit { shared: self.shared.clone(), place })
    }

    /// Refuses at once what waits, and from now on what comes; what runs is finished.
    pub fn drain(&self) {
        for entry in self.shared.queue.refuse() {
            entry.answer(Err(GenerateError::Draining));
        }
    }

    /// Requests that wait or run.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.admission.jobs()
    }

    /// Seconds until all of them are done, by how long the latest runs took.
    #[must_use]
    pub fn queue_secs(&self) -> f64 {
        self.shared.admission.queue_secs()
    }
}

/// A place in the queue, given back when dropped.
pub struct Permit {
    shared: Arc<Shared>,
    place: Place,
}

impl Permit {
    /// Begins to make the images.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn generate(self, request: ImageRequest) -> Generation {
        self.run(request, None)
    }

    /// The same, and `updates` is told of each step and each image on the way.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn generate_watched(self, request: ImageRequest, updates: UpdateSender) -> Generation {
        self.run(request, Some(updates))
    }

    /// In a task of its own: the place and the deadline end on time whether or not whoever waits
    /// for the images looks.
    fn run(self, request: ImageRequest, updates: Option<UpdateSender>) -> Generation {
        let span = tracing::Span::current();
        Generation(tokio::spawn(async move {
            let Self { shared, place } = self;
            let work = Work::of(&request);
            place.fill(work);
            let (reply, answer) = oneshot::channel();
            let client = place.client();
            let entry = QueueEntry { id: 0, client, work, request, reply, updates, span };
            let id = shared.queue.push(entry).ok_or(GenerateError::Draining)?;
            let _waiting = Waiting { id, queue: &shared.queue };
            match time::timeout(place.deadline(), answer).await {
                Ok(answer) => answer.map_err(|_| GenerateError::Generation)?,
                Err(_) => Err(GenerateError::Deadline),
            }
        }))
    }
}

/// Takes an entry out of the queue that nobody waits for any more.
struct Waiting<'a> {
    queue: &'a Queue,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}

/// The images to come. Dropping it takes the request out of the queue, or stops it between two
/// steps.
pub struct Generation(JoinHandle<Result<Output, GenerateError>>);

impl Future for Generation {
    type Output = Result<Output, GenerateError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = Pin::new(&mut self.0).poll(context);
        joined.map(|result| result.unwrap_or(Err(GenerateError::Generation)))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the engine hands back: the request, for the answer still depends on it, and its images.
pub struct Output {
    /// What was asked for.
    pub request: ImageRequest,
    /// What was made.
    pub generated: Generated,
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
    /// The queue's number for it.
    pub(crate) id: u64,
    pub(crate) client: ClientId,
    pub(crate) work: Work,
    pub(crate) request: ImageRequest,
    pub(crate) reply: oneshot::Sender<Result<Output, GenerateError>>,
    pub(crate) updates: Option<UpdateSender>,
    /// The request's.
    pub(crate) span: tracing::Span,
}

impl QueueEntry {
    /// Tells whoever waits for it what came of it.
    pub(crate) fn answer(self, answer: Result<Generated, GenerateError>) {
        let Self { request, reply, updates, .. } = self;
        // First the updates end, then comes the answer.
        drop(updates);
        // The client may have gone meanwhile; nobody else is owed it.
        drop(reply.send(answer.map(|generated| Output { request, generated })));
    }

    /// Whether both can be generated in one batch: see [`Job::is_batchable_with`].
    pub(crate) fn is_batchable_with(&self, other: &Self) -> bool {
        job(&self.request).is_batchable_with(&job(&other.request))
    }
}

/// What a generator is asked for.
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
