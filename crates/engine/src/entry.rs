//! A queue entry: a request on its way to an engine, and its result on its way back.

use std::{sync::Arc, time::Instant};

use flux::{Generated, InputImage, Job};
use protocol::ImageRequest;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::{client::Sharers, updates::UpdateSender, work::Work};

/// What the engine hands back: the request, for the answer still depends on it, and its images.
pub struct Output {
    /// What was asked for.
    pub request: Arc<ImageRequest>,
    /// Patches of 16×16 pixels of all input images.
    pub input_patches: u64,
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

/// Called when an engine begins with a request; dropped where none ever does.
pub(crate) type Begins = Box<dyn FnOnce() + Send>;

/// A request on its way to an engine.
pub(crate) struct QueueEntry {
    /// The queue's number for it.
    pub(crate) id: u64,
    pub(crate) sharers: Sharers,
    pub(crate) work: Work,
    pub(crate) request: Arc<ImageRequest>,
    pub(crate) images: Vec<InputImage>,
    pub(crate) reply: oneshot::Sender<Result<Output, GenerateError>>,
    pub(crate) updates: Option<UpdateSender>,
    /// Who is told that an engine begins.
    pub(crate) begins: Option<Begins>,
    /// When it began to wait.
    pub(crate) queued: Instant,
    /// The request's.
    pub(crate) span: tracing::Span,
}

impl QueueEntry {
    /// Tells whoever waits for it what came of it.
    pub(crate) fn answer(self, answer: Result<Generated, GenerateError>) {
        let Self { request, images, reply, updates, .. } = self;
        let input_patches = patches(&images);
        drop(images);
        // First the updates end, then comes the answer.
        drop(updates);
        // The client may have gone meanwhile; nobody else is owed it.
        drop(reply.send(answer.map(|generated| Output { request, input_patches, generated })));
    }

    /// Whether both can be generated in one batch: by the same model, and see [`Job::is_batchable_with`].
    pub(crate) fn is_batchable_with(&self, other: &Self) -> bool {
        self.request.model == other.request.model && self.job().is_batchable_with(&other.job())
    }

    /// What a generator is asked for.
    pub(crate) fn job(&self) -> Job<'_> {
        let request = &self.request;
        Job {
            prompt: &request.prompt,
            size: request.size,
            steps: request.steps,
            seed: request.seed,
            count: request.count,
            guidance: request.guidance.map_or(flux::GUIDANCE, |scale| scale.get()),
            images: &self.images,
        }
    }
}

/// Patches of 16×16 pixels of all of them.
#[must_use]
pub fn patches(images: &[InputImage]) -> u64 {
    images.iter().map(InputImage::patches).sum()
}
