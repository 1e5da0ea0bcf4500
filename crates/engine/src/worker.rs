//! An engine's thread: it owns its models, and takes one request after the other, or a batch of
//! them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use flux::{Generated, Job, ProgressObserver};
use tracing::Span;

use crate::{
    admission::Admission,
    entry::{GenerateError, QueueEntry},
    generator::{Generator, NamedGenerator},
    observer::{Failure, JobSummary, Observer},
    progress::{Batch, JobObserver},
    queue::Queue,
    work::Work,
};

/// What an engine's thread owns.
pub(crate) struct Worker {
    pub(crate) models: Vec<NamedGenerator>,
    /// Where all engines take their work from.
    pub(crate) queue: Arc<Queue>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) observer: Arc<dyn Observer>,
    /// From 0.
    pub(crate) number: usize,
}

/// What came of one job.
enum Outcome {
    Made(Generated),
    Failed(flux::Error),
    Panicked,
}

impl From<Result<Generated, flux::Error>> for Outcome {
    fn from(result: Result<Generated, flux::Error>) -> Self {
        match result {
            Ok(generated) => Self::Made(generated),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Worker {
    pub(crate) fn spawn(self) -> std::io::Result<()> {
        let name = format!("engine-{}", self.number);
        thread::Builder::new().name(name).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        self.tell_memory();
        while let Some(mut entries) = self.next() {
            entries.retain(|entry| {
                let gone = entry.reply.is_closed();
                if gone {
                    self.observer.job_failed(Failure::Cancelled);
                }
                !gone
            });
            entries.iter_mut().filter_map(|entry| entry.begins.take()).for_each(|begins| begins());
            // Tokens, and what kernels keep at hand, stay behind on this thread's stack, and the thread
            // may wait long for what writes over them.
            let answers = wipe::deep_stack(|| self.generate(&entries));
            self.tell_memory();
            for (entry, answer) in entries.into_iter().zip(answers) {
                entry.answer(answer);
            }
        }
    }

    fn tell_memory(&self) {
        let peaks = self.models.iter().map(|model| model.generator.peak_memory_bytes());
        // Each tells its device's, which is the same for all.
        if let Some(bytes) = peaks.flatten().max() {
            self.observer.peak_memory(self.number, bytes);
        }
    }

    fn next(&self) -> Option<Vec<QueueEntry>> {
        self.queue.take(|first| {
            let generator = self.place_of(first).map(|place| &self.models[place].generator);
            generator.map_or(1, |generator| generator.batch_size(&first.job()))
        })
    }

    /// Which of the models an entry is for.
    fn place_of(&self, entry: &QueueEntry) -> Option<usize> {
        self.models.iter().position(|model| model.model == entry.request.model)
    }

    /// An answer for each entry, in their order.
    fn generate(&mut self, entries: &[QueueEntry]) -> Vec<Result<Generated, GenerateError>> {
        let begun = Instant::now();
        // All are for one model: others are not batched.
        let Some(place) = entries.first().and_then(|first| self.place_of(first)) else {
            if !entries.is_empty() {
                tracing::error!("a request is for a model that is not loaded");
            }
            entries.iter().for_each(|_| self.observer.job_failed(Failure::Failed));
            return entries.iter().map(|_| Err(GenerateError::Generation)).collect();
        };
        let jobs: Vec<Job<'_>> = entries.iter().map(QueueEntry::job).collect();
        // What is said of an image on this thread belongs to the request that asked for it.
        let spans: Vec<Span> = entries.iter().map(span).collect();
        let observer = self.observer.clone();
        let work: Vec<Work> = entries.iter().map(|entry| entry.work).collect();
        let admission = self.admission.clone();
        let batch = Batch { admission: &admission, begun, work: Work::sum(work.iter().copied()) };
        let mut observers: Vec<JobObserver<'_>> =
            entries.iter().map(|entry| JobObserver::new(entry, &*observer, batch)).collect();
        let NamedGenerator { model, generator } = &mut self.models[place];
        let mut running = Running {
            model,
            generator: &mut **generator,
            admission: &self.admission,
            observer: &*observer,
        };
        let outcomes = match running.batch(&jobs, &work, &mut observers, &spans) {
            Some(outcomes) => outcomes,
            // One of them may be the reason: what is wrong with it must cost none of the others.
            None => jobs
                .iter()
                .zip(&mut observers)
                .zip(work.iter().zip(&spans))
                .map(|((job, progress), (work, span))| {
                    span.in_scope(|| running.alone(job, *work, progress))
                })
                .collect(),
        };
        outcomes
            .into_iter()
            .zip(entries.iter().zip(&spans))
            .map(|(outcome, (entry, span))| span.in_scope(|| self.judge(outcome, entry, begun)))
            .collect()
    }

    fn judge(
        &self,
        outcome: Outcome,
        entry: &QueueEntry,
        begun: Instant,
    ) -> Result<Generated, GenerateError> {
        match outcome {
            Outcome::Made(generated) => {
                self.observer.job_done(&JobSummary {
                    model: &entry.request.model,
                    images: generated.images.len(),
                    pixels: entry.request.pixels(),
                    steps: entry.request.steps.get() * entry.request.count.get(),
                    waited: begun.saturating_duration_since(entry.queued),
                    took: entry.queued.elapsed(),
                    timings: &generated.timings,
                });
                Ok(generated)
            }
            Outcome::Failed(flux::Error::Cancelled) => {
                self.observer.job_failed(Failure::Cancelled);
                Err(GenerateError::Generation)
            }
            Outcome::Failed(error) => {
                tracing::error!(%error, "generation failed");
                self.observer.job_failed(Failure::Failed);
                Err(GenerateError::Generation)
            }
            Outcome::Panicked => {
                tracing::error!("generation panicked");
                self.observer.job_failed(Failure::Panicked);
                Err(GenerateError::Generation)
            }
        }
    }
}

/// One of an engine's models at work.
struct Running<'a> {
    model: &'a str,
    generator: &'a mut dyn Generator,
    admission: &'a Admission,
    observer: &'a dyn Observer,
}

impl Running<'_> {
    /// `None` where there is only one, or something went wrong for all of them at once.
    fn batch(
        &mut self,
        jobs: &[Job<'_>],
        work: &[Work],
        observers: &mut [JobObserver<'_>],
        spans: &[Span],
    ) -> Option<Vec<Outcome>> {
        let (first, 2..) = (spans.first()?, jobs.len()) else { return None };
        let _entered = first.enter();
        let mut all: Vec<(&Job<'_>, &mut dyn ProgressObserver)> = jobs
            .iter()
            .zip(observers)
            .map(|(job, progress)| (job, progress as &mut dyn ProgressObserver))
            .collect();
        let started = Instant::now();
        self.observer.batch_started();
        let generated = catch_unwind(AssertUnwindSafe(|| self.generator.generate_batch(&mut all)));
        match generated {
            Ok(Ok(outcomes)) if outcomes.len() == jobs.len() => {
                if outcomes.iter().all(Result::is_ok) {
                    let work = Work::sum(work.iter().copied());
                    self.admission.learn(self.model, work, started.elapsed());
                }
                Some(outcomes.into_iter().map(Outcome::from).collect())
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "drawing together failed; each is drawn alone");
                None
            }
            _ => {
                tracing::warn!("drawing together panicked; each is drawn alone");
                None
            }
        }
    }

    fn alone(&mut self, job: &Job<'_>, work: Work, progress: &mut JobObserver<'_>) -> Outcome {
        let started = Instant::now();
        self.observer.batch_started();
        // A panic must cost one request, not the node. The model holds no state between jobs that
        // a panic could leave half made.
        match catch_unwind(AssertUnwindSafe(|| self.generator.generate(job, progress))) {
            Ok(result) => {
                if result.is_ok() {
                    self.admission.learn(self.model, work, started.elapsed());
                }
                result.into()
            }
            Err(_) => Outcome::Panicked,
        }
    }
}

/// Says nothing of what was asked for: a sealed request's size and steps are its client's affair.
fn span(entry: &QueueEntry) -> Span {
    tracing::info_span!(parent: &entry.span, "draw")
}
