//! The engines, one thread a device, and the bounded queue in front of them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use flux::InputImage;
use protocol::ImageRequest;
use tokio::{sync::oneshot, task::JoinHandle, time};

use crate::{
    admission::{Admission, Busy, QueueLimits, QueueSlot},
    client::Sharers,
    entry::{Begins, GenerateError, Output, QueueEntry, patches},
    generator::NamedGenerator,
    observer::Observer,
    queue::Queue,
    updates::UpdateSender,
    work::Work,
    worker::Worker,
};

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
    /// Starts a thread for each engine, which draws with any of its models: of one device, all of them are there.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        engines: Vec<Vec<NamedGenerator>>,
        limits: QueueLimits,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let admission = Arc::new(Admission::new(limits, engines.len()));
        for (number, models) in engines.into_iter().enumerate() {
            Worker {
                models,
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
    pub fn reserve(&self, whose: impl Into<Sharers>) -> Result<Permit, Busy> {
        let place = self.shared.admission.reserve(whose.into())?;
        Ok(Permit { shared: self.shared.clone(), place, since: Instant::now(), begins: None })
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

    /// Seconds until all of them are done, by how long the latest runs took, or how far the first one is; `None`
    /// where a model that is asked for has not done a step yet.
    #[must_use]
    pub fn queue_secs(&self) -> Option<f64> {
        self.shared.admission.queue_secs()
    }
}

/// A place in the queue, given back when dropped.
pub struct Permit {
    shared: Arc<Shared>,
    place: QueueSlot,
    /// When its request began to wait.
    since: Instant,
    begins: Option<Begins>,
}

impl Permit {
    /// Counts the time since then, when its request began to wait for something else, towards the deadline too.
    #[must_use]
    pub fn waiting_since(self, since: Instant) -> Self {
        Self { since, ..self }
    }

    /// Has `begins` called when an engine begins. It is dropped where none ever does.
    #[must_use]
    pub fn on_begin(self, begins: impl FnOnce() + Send + 'static) -> Self {
        Self { begins: Some(Box::new(begins)), ..self }
    }

    /// Begins to make the images, from the input images of an edit.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn generate(self, request: ImageRequest, images: Vec<InputImage>) -> Generation {
        self.run(Arc::new(request), images, None)
    }

    /// The same, and `updates` is told of each step and of each image, on the way and done.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn generate_watched(
        self,
        request: Arc<ImageRequest>,
        images: Vec<InputImage>,
        updates: UpdateSender,
    ) -> Generation {
        self.run(request, images, Some(updates))
    }

    /// In a task of its own: the place and the deadline end on time whether or not whoever waits
    /// for the images looks.
    fn run(
        self,
        request: Arc<ImageRequest>,
        images: Vec<InputImage>,
        updates: Option<UpdateSender>,
    ) -> Generation {
        let span = tracing::Span::current();
        Generation(tokio::spawn(async move {
            let Self { shared, place, since, begins } = self;
            let work = Work::of(&request, patches(&images));
            place.fill(&request.model, work);
            let (reply, answer) = oneshot::channel();
            let sharers = place.sharers();
            let queued = Instant::now();
            let entry = QueueEntry {
                id: 0,
                sharers,
                work,
                request,
                images,
                reply,
                updates,
                begins,
                queued,
                span,
            };
            let id = shared.queue.push(entry).ok_or(GenerateError::Draining)?;
            let _waiting = Waiting { id, queue: &shared.queue };
            match time::timeout(place.deadline().saturating_sub(since.elapsed()), answer).await {
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
