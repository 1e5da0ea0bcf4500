//! An engine's thread: it owns one model, and takes one request after the other.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as threads,
    },
    thread,
    time::Instant,
};

use flux::{Generated, Job, Preview, Progress, Watch};
use protocol::{Delivery, ImageRequest};

use crate::{
    engine::{Failed, Painted, Painter, Ticket, Update, work},
    metrics::{Lost, Metrics, Stage},
    pace::Pace,
};

/// Where all engines take their work from.
pub(crate) type Inbox = Arc<Mutex<threads::Receiver<Ticket>>>;

pub(crate) fn inbox(receiver: threads::Receiver<Ticket>) -> Inbox {
    Arc::new(Mutex::new(receiver))
}

/// What an engine's thread owns.
pub(crate) struct Worker {
    pub(crate) painter: Box<dyn Painter>,
    pub(crate) inbox: Inbox,
    pub(crate) pace: Arc<Pace>,
    pub(crate) draining: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
    /// From 0.
    pub(crate) number: usize,
}

impl Worker {
    pub(crate) fn spawn(self) -> std::io::Result<()> {
        let name = format!("engine-{}", self.number);
        thread::Builder::new().name(name).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        self.tell_memory();
        while let Some(mut ticket) = self.next() {
            if ticket.reply.is_closed() {
                self.metrics.lost(Lost::Cancelled);
                continue;
            }
            let answer = if self.draining.load(Ordering::Acquire) {
                Err(Failed::Draining)
            } else {
                self.paint(&mut ticket)
            };
            self.tell_memory();
            let Ticket { request, reply, updates, .. } = ticket;
            // First the updates end, then comes the answer.
            drop(updates);
            // The client may have gone while its picture was made; nobody else is owed it.
            drop(reply.send(answer.map(|generated| Painted { request, generated })));
        }
    }

    fn tell_memory(&self) {
        if let Some(bytes) = self.painter.peak_memory_bytes() {
            self.metrics.memory(self.number, bytes);
        }
    }

    fn next(&self) -> Option<Ticket> {
        // Whichever engine holds the lock waits for work; the others wait for the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn paint(&mut self, ticket: &mut Ticket) -> Result<Generated, Failed> {
        let request = &ticket.request;
        // What is said of a picture on this thread belongs to the request that asked for it.
        let span = tracing::info_span!(
            parent: &ticket.span,
            "draw",
            size = %request.size,
            steps = request.steps.get(),
            n = request.count.get()
        );
        let _entered = span.enter();
        let job = Job {
            prompt: &request.prompt,
            size: request.size,
            steps: request.steps,
            seed: request.seed,
            count: request.count,
            guidance: request.guidance.map_or(flux::GUIDANCE, |scale| scale.get()),
        };
        let mut watcher = Watcher {
            gone: &|| ticket.reply.is_closed(),
            updates: ticket.updates.as_ref(),
            previewed: preview_steps(request),
            metrics: &self.metrics,
        };
        let started = Instant::now();
        // A panic must cost one request, not the node. The model holds no state between jobs that
        // a panic could leave half made.
        let painted = catch_unwind(AssertUnwindSafe(|| self.painter.paint(&job, &mut watcher)));
        match painted {
            Ok(Ok(generated)) => {
                self.pace.learn(work(request), started.elapsed());
                self.metrics.took(Stage::TextEncode, generated.timings.encode);
                self.metrics.took(Stage::Denoise, generated.timings.denoise);
                self.metrics.took(Stage::Decode, generated.timings.decode);
                self.metrics.drawn(generated.pictures.len(), request.pixels());
                Ok(generated)
            }
            Ok(Err(flux::Error::Cancelled)) => {
                self.metrics.lost(Lost::Cancelled);
                Err(Failed::Generation)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "generation failed");
                self.metrics.lost(Lost::Failed);
                Err(Failed::Generation)
            }
            Err(_) => {
                tracing::error!("generation panicked");
                self.metrics.lost(Lost::Panicked);
                Err(Failed::Generation)
            }
        }
    }
}

/// Stops a job whose client is gone, and tells a stream's client how far it is.
struct Watcher<'a> {
    gone: &'a dyn Fn() -> bool,
    updates: Option<&'a tokio::sync::mpsc::UnboundedSender<Update>>,
    /// Steps after which a picture on the way is made.
    previewed: Vec<usize>,
    metrics: &'a Metrics,
}

impl Watch for Watcher<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Progress::Step { done, total } = progress {
            self.metrics.stepped();
            if let Some(updates) = self.updates {
                // Whether anybody listens is seen below.
                let _ = updates.send(Update::Step { done, total });
            }
        }
        match (self.gone)() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), flux::Error> {
        let Some(updates) = self.updates else { return Ok(()) };
        let Some(ordinal) = self.previewed.iter().position(|step| *step == preview.step) else {
            return Ok(());
        };
        if !(self.gone)() {
            let picture = preview.picture()?;
            let _ = updates.send(Update::Preview { index: preview.index, ordinal, picture });
        }
        Ok(())
    }
}

/// Evenly spaced between the first step and the last, neither of them.
fn preview_steps(request: &ImageRequest) -> Vec<usize> {
    match request.delivery {
        Delivery::Whole => Vec::new(),
        Delivery::Stream { partial_images, .. } => spread(partial_images, request.steps.get()),
    }
}

fn spread(previews: usize, steps: usize) -> Vec<usize> {
    let gaps = previews + 1;
    let mut chosen: Vec<usize> = (1..gaps)
        .map(|i| (2 * i * steps + gaps) / (2 * gaps))
        .filter(|step| (1..steps).contains(step))
        .collect();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_on_the_way_are_spread_evenly() {
        assert!(spread(0, 4).is_empty() && spread(3, 1).is_empty());
        assert_eq!(spread(1, 4), [2]);
        assert_eq!(spread(3, 4), [1, 2, 3]);
        assert_eq!(spread(3, 2), [1]);
        assert_eq!(spread(2, 50), [17, 33]);
    }
}
