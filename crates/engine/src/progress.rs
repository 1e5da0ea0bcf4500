//! The progress observer of one request: previews, events, cancellation.

use std::{ops::ControlFlow, time::Instant};

use flux::{Image, Preview, Progress, ProgressObserver, PromptTokens};

use crate::{
    admission::Admission,
    entry::QueueEntry,
    observer::Observer,
    work::{Work, preview_steps},
};

/// What is drawn together: by when it began and how much it is, its steps tell how long others will take.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) admission: &'a Admission,
    pub(crate) begun: Instant,
    pub(crate) work: Work,
}

/// Stops a job whose client is gone, and tells a stream's client how far it is; everything once,
/// also where a job is begun again.
pub(crate) struct JobObserver<'a> {
    entry: &'a QueueEntry,
    observer: &'a dyn Observer,
    batch: Batch<'a>,
    /// Steps after which a preview is made.
    preview_steps: Vec<usize>,
    /// Steps that are done, over all images, at most.
    done: usize,
    /// Previews that were made: of which image, and after which step.
    shown: Vec<(usize, usize)>,
    prompt_tokens: Option<PromptTokens>,
    /// Images that were handed on.
    handed_on: usize,
}

impl<'a> JobObserver<'a> {
    pub(crate) fn new(entry: &'a QueueEntry, observer: &'a dyn Observer, batch: Batch<'a>) -> Self {
        let preview_steps = preview_steps(&entry.request);
        Self {
            entry,
            observer,
            batch,
            preview_steps,
            done: 0,
            shown: Vec::new(),
            prompt_tokens: None,
            handed_on: 0,
        }
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
            let model = &self.entry.request.model;
            self.observer.steps_done(model, done - self.done);
            let Batch { admission, begun, work } = self.batch;
            admission.learn_under_way(model, work.part(done, total), begun.elapsed());
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

    fn encoded(&mut self, prompt: PromptTokens) {
        self.prompt_tokens = Some(prompt);
    }

    fn image(&mut self, index: usize, image: &Image) {
        let Some(updates) = &self.entry.updates else { return };
        let is_last = index + 1 == self.entry.request.count.get();
        if !is_last
            && index == self.handed_on
            && let Some(prompt_tokens) = self.prompt_tokens
        {
            self.handed_on += 1;
            let copy = Image { size: image.size, rgb: image.rgb.to_vec().into() };
            updates.image(index, copy, prompt_tokens);
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
