//! An engine's thread: it owns one model, and takes one request after the other, or several that go
//! together.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use flux::{Generated, Job, Watch};
use tracing::Span;

use crate::{
    engine::{Failed, Painted, Painter, Ticket, job, work},
    metrics::{Lost, Metrics, Stage},
    pace::Pace,
    queue::Queue,
    watcher::Watcher,
};

/// What an engine's thread owns.
pub(crate) struct Worker {
    pub(crate) painter: Box<dyn Painter>,
    /// Where all engines take their work from.
    pub(crate) queue: Arc<Queue>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
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
        while let Some(mut tickets) = self.next() {
            tickets.retain(|ticket| {
                let gone = ticket.reply.is_closed();
                if gone {
                    self.metrics.lost(Lost::Cancelled);
                }
                !gone
            });
            let answers = if self.draining.load(Ordering::Acquire) {
                tickets.iter().map(|_| Err(Failed::Draining)).collect()
            } else {
                self.paint(&tickets)
            };
            self.tell_memory();
            for (ticket, answer) in tickets.into_iter().zip(answers) {
                let Ticket { request, reply, updates, .. } = ticket;
                // First the updates end, then comes the answer.
                drop(updates);
                // The client may have gone while its picture was made; nobody else is owed it.
                drop(reply.send(answer.map(|generated| Painted { request, generated })));
            }
        }
    }

    fn tell_memory(&self) {
        if let Some(bytes) = self.painter.peak_memory_bytes() {
            self.metrics.memory(self.number, bytes);
        }
    }

    fn next(&self) -> Option<Vec<Ticket>> {
        self.queue.take(|first| self.painter.batch_size(first.request.size))
    }

    /// An answer for each ticket, in their order.
    fn paint(&mut self, tickets: &[Ticket]) -> Vec<Result<Generated, Failed>> {
        let jobs: Vec<Job<'_>> = tickets.iter().map(|ticket| job(&ticket.request)).collect();
        // What is said of a picture on this thread belongs to the request that asked for it.
        let spans: Vec<Span> = tickets.iter().map(|ticket| span(ticket, jobs.len())).collect();
        let metrics = self.metrics.clone();
        let mut watchers: Vec<Watcher<'_>> =
            tickets.iter().map(|ticket| Watcher::new(ticket, &metrics)).collect();
        let outcomes = match self.paint_batch(&jobs, &mut watchers, &spans) {
            Some(outcomes) => outcomes,
            // One of them may be the reason: what is wrong with it must cost none of the others.
            None => jobs
                .iter()
                .zip(&mut watchers)
                .zip(&spans)
                .map(|((job, watcher), span)| self.paint_alone(job, watcher, span))
                .collect(),
        };
        outcomes
            .into_iter()
            .zip(tickets.iter().zip(&spans))
            .map(|(outcome, (ticket, span))| span.in_scope(|| self.judge(outcome, ticket)))
            .collect()
    }

    /// `None` where there is only one, or something went wrong for all of them at once.
    fn paint_batch(
        &mut self,
        jobs: &[Job<'_>],
        watchers: &mut [Watcher<'_>],
        spans: &[Span],
    ) -> Option<Vec<Outcome>> {
        let (first, 2..) = (spans.first()?, jobs.len()) else { return None };
        let _entered = first.enter();
        let mut all: Vec<(&Job<'_>, &mut dyn Watch)> = jobs
            .iter()
            .zip(watchers)
            .map(|(job, watcher)| (job, watcher as &mut dyn Watch))
            .collect();
        let started = Instant::now();
        self.metrics.batch();
        let painted = catch_unwind(AssertUnwindSafe(|| self.painter.paint_batch(&mut all)));
        match painted {
            Ok(Ok(outcomes)) if outcomes.len() == jobs.len() => {
                if outcomes.iter().all(Result::is_ok) {
                    self.pace.learn(jobs.iter().map(work).sum(), started.elapsed());
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

    fn paint_alone(&mut self, job: &Job<'_>, watcher: &mut Watcher<'_>, span: &Span) -> Outcome {
        let _entered = span.enter();
        let started = Instant::now();
        self.metrics.batch();
        // A panic must cost one request, not the node. The model holds no state between jobs that
        // a panic could leave half made.
        match catch_unwind(AssertUnwindSafe(|| self.painter.paint(job, watcher))) {
            Ok(result) => {
                if result.is_ok() {
                    self.pace.learn(work(job), started.elapsed());
                }
                result.into()
            }
            Err(_) => Outcome::Panicked,
        }
    }

    fn judge(&self, outcome: Outcome, ticket: &Ticket) -> Result<Generated, Failed> {
        match outcome {
            Outcome::Made(generated) => {
                self.metrics.took(Stage::TextEncode, generated.timings.encode);
                self.metrics.took(Stage::Denoise, generated.timings.denoise);
                self.metrics.took(Stage::Decode, generated.timings.decode);
                self.metrics.drawn(generated.pictures.len(), ticket.request.pixels());
                Ok(generated)
            }
            Outcome::Failed(flux::Error::Cancelled) => {
                self.metrics.lost(Lost::Cancelled);
                Err(Failed::Generation)
            }
            Outcome::Failed(error) => {
                tracing::error!(%error, "generation failed");
                self.metrics.lost(Lost::Failed);
                Err(Failed::Generation)
            }
            Outcome::Panicked => {
                tracing::error!("generation panicked");
                self.metrics.lost(Lost::Panicked);
                Err(Failed::Generation)
            }
        }
    }
}

fn span(ticket: &Ticket, batch: usize) -> Span {
    tracing::info_span!(
        parent: &ticket.span,
        "draw",
        size = %ticket.request.size,
        steps = ticket.request.steps.get(),
        n = ticket.request.count.get(),
        batch
    )
}
