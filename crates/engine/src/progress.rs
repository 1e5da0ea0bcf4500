//! The progress observer of one request: previews, events, cancellation.

use std::ops::ControlFlow;

use flux::{Preview, Progress, ProgressObserver};

use crate::{entry::QueueEntry, observer::Observer, work::preview_steps};

/// Stops a job whose client is gone, and tells a stream's client how far it is; everything once,
/// also where a job is begun again.
pub(crate) struct JobObserver<'a> {
    entry: &'a QueueEntry,
    observer: &'a dyn Observer,
    /// Steps after which a preview is made.
    preview_steps: Vec<usize>,
    /// Steps that are done, over all images, at most.
    done: usize,
    /// Previews that were made: of which image, and after which step.
    shown: Vec<(usize, usize)>,
}

impl<'a> JobObserver<'a> {
    pub(crate) fn new(entry: &'a QueueEntry, observer: &'a dyn Observer) -> Self {
        let preview_steps = preview_steps(&entry.request);
        Self { entry, observer, preview_steps, done: 0, shown: Vec::new() }
    }

    fn is_gone(&self) -> bool {
        self.entry.reply.is_closed()
    }
}

impl ProgressObserver for JobObserver<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Progress::Step { done, total } = progress
            && done > self.done
        {
            self.observer.steps_done(&self.entry.request.model, done - self.done);
            self.done = done;
            if let Some(updates) = &self.entry.updates {
                updates.step(done, total);
            }
        }
        match self.is_gone() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), flux::Error> {
        let Some(updates) = &self.entry.updates else { return Ok(()) };
        let Some(ordinal) = self.preview_steps.iter().position(|step| *step == preview.step) else {
            return Ok(());
        };
        let place = (preview.index, preview.step);
        if !self.is_gone()
            && !self.shown.contains(&place)
            && let Some(room) = updates.room_for_preview(self.entry.request.size)
        {
            let image = preview.image()?;
            self.shown.push(place);
            updates.preview(preview.index, ordinal, image, room);
        }
        Ok(())
    }
}
