//! Updates for a stream while its images are made. The engine never waits for the reader.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use flux::{Image, PromptTokens};
use protocol::Size;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// KiB of pixels of previews that may wait for whoever listens; where there is no room, a preview
/// is not made.
const PREVIEWS_KIB: usize = 32 * 1024;

/// News of one job.
pub enum Update {
    /// A step is done.
    Step {
        /// Steps done, over all images.
        done: usize,
        /// Steps of all images.
        total: usize,
    },
    /// An image on the way.
    Preview(PartialImage),
    /// An image that is done, while others of its job are not. The last one comes with the answer, and so do those of
    /// a generator that shows none before.
    Image {
        /// Which one, from 0: they come in order, and none is left out.
        index: usize,
        /// A copy of it.
        image: Image,
        /// How many tokens the encoders made of the job's prompt.
        prompt_tokens: PromptTokens,
    },
}

/// An image on the way. Its pixels count as waiting until it is dropped.
pub struct PartialImage {
    /// Which image it is on the way to, from 0.
    pub index: usize,
    /// Which of the previews of that image it is, from 0.
    pub ordinal: usize,
    /// What the model makes of the noise so far, decoded.
    pub image: Image,
    _room: Room,
}

/// A channel for the updates of one job.
#[must_use]
pub fn updates() -> (UpdateSender, Updates) {
    // Unbounded, as a job has few steps and images, and previews find room first.
    let (sender, receiver) = mpsc::unbounded_channel();
    let paused = Arc::new(AtomicBool::new(false));
    let room = Arc::new(Semaphore::new(PREVIEWS_KIB));
    (UpdateSender { sender, room, paused: paused.clone() }, Updates { receiver, paused })
}

/// The engine's end.
pub struct UpdateSender {
    sender: mpsc::UnboundedSender<Update>,
    room: Arc<Semaphore>,
    paused: Arc<AtomicBool>,
}

/// Room for the pixels of one preview.
pub(crate) struct Room(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl UpdateSender {
    pub(crate) fn step(&self, done: usize, total: usize) {
        // Whether anybody listens is seen elsewhere.
        let _ = self.sender.send(Update::Step { done, total });
    }

    /// Room for a preview of this size, where one is wanted and there is room.
    pub(crate) fn room_for_preview(&self, size: Size) -> Option<Room> {
        if self.paused.load(Ordering::Relaxed) {
            return None;
        }
        let kib = u32::try_from((3 * size.pixels()).div_ceil(1024)).ok()?;
        self.room.clone().try_acquire_many_owned(kib).ok().map(Room)
    }

    pub(crate) fn image(&self, index: usize, image: Image, prompt_tokens: PromptTokens) {
        let _ = self.sender.send(Update::Image { index, image, prompt_tokens });
    }

    pub(crate) fn preview(&self, index: usize, ordinal: usize, image: Image, room: Room) {
        let preview = PartialImage { index, ordinal, image, _room: room };
        let _ = self.sender.send(Update::Preview(preview));
    }
}

/// The listener's end.
pub struct Updates {
    receiver: mpsc::UnboundedReceiver<Update>,
    paused: Arc<AtomicBool>,
}

impl Updates {
    /// The next update; none once the job has ended.
    pub async fn next(&mut self) -> Option<Update> {
        self.receiver.recv().await
    }

    /// Says whether previews are wanted for now: made for nobody, they would only take the
    /// engine's time.
    pub fn pause_previews(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn previews_wait_in_bounded_memory() {
        let (sender, mut updates) = updates();
        let size = Size::new(2048, 2048).unwrap();
        let send = |ordinal| {
            let image = Image { size, rgb: Vec::new().into() };
            let room = sender.room_for_preview(size);
            room.map(|room| sender.preview(0, ordinal, image, room)).is_some()
        };
        assert_eq!([send(0), send(1), send(2)], [true, true, false]);
        drop(updates.next().await);
        assert!(send(2));
        drop(updates.next().await);
        updates.pause_previews(true);
        assert!(!send(3));
    }
}
