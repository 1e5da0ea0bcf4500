//! Who looks on for a request while its pictures are made.

use std::ops::ControlFlow;

use flux::{Preview, Progress, Watch};
use protocol::{Delivery, ImageRequest};

use crate::{
    engine::{QueueEntry, Update},
    observer::Observer,
};

/// Stops a job whose client is gone, and tells a stream's client how far it is; everything once, also
/// where a job is begun again.
pub(crate) struct ProgressObserver<'a> {
    entry: &'a QueueEntry,
    observer: &'a dyn Observer,
    /// Steps after which a picture on the way is made.
    previewed: Vec<usize>,
    /// Steps that are done, over all pictures, at most.
    done: usize,
    /// Pictures on the way: of which picture, and after which step.
    shown: Vec<(usize, usize)>,
}

impl<'a> ProgressObserver<'a> {
    pub(crate) fn new(entry: &'a QueueEntry, observer: &'a dyn Observer) -> Self {
        let previewed = preview_steps(&entry.request);
        Self { entry, observer, previewed, done: 0, shown: Vec::new() }
    }

    fn is_gone(&self) -> bool {
        self.entry.reply.is_closed()
    }
}

impl Watch for ProgressObserver<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Progress::Step { done, total } = progress
            && done > self.done
        {
            self.observer.steps_done(done - self.done);
            self.done = done;
            if let Some(updates) = &self.entry.updates {
                // Whether anybody listens is seen below.
                let _ = updates.send(Update::Step { done, total });
            }
        }
        match self.is_gone() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), flux::Error> {
        let Some(updates) = &self.entry.updates else { return Ok(()) };
        let Some(ordinal) = self.previewed.iter().position(|step| *step == preview.step) else {
            return Ok(());
        };
        let place = (preview.index, preview.step);
        if !self.is_gone() && !self.shown.contains(&place) {
            let picture = preview.picture()?;
            self.shown.push(place);
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
