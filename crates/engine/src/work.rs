//! The cost of a job, in one unit for all sizes and models.

use protocol::{Delivery, ImageRequest};

/// Text tokens that go through the transformer beside an image's, in every step.
const TEXT_TOKENS: u64 = 256;
/// Pixels of one image token: a latent patch of 16 × 16.
const PIXELS_OF_TOKEN: u64 = 256;

/// Token passes: tokens × steps, over all images, where the decoding and encoding of one image, a
/// preview included, counts as one more step of its image tokens.
///
/// Text tokens are in it because the transformer computes them with the image's: an image of
/// 16 × 16 takes 257 of 4,352 tokens that one of 1024 × 1024 takes, and not 1 pixel of 4,096. So are those of
/// input images, which go through every step of every image too, and are encoded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Work(u64);

impl Work {
    pub(crate) fn of(request: &ImageRequest, input_tokens: u64) -> Self {
        let image_tokens = request.size.pixels() / PIXELS_OF_TOKEN;
        let decoded = 1 + preview_steps(request).len() as u64;
        let steps = request.steps.get() as u64;
        let of_image = steps * (TEXT_TOKENS + image_tokens + input_tokens) + decoded * image_tokens;
        Self(request.count.get() as u64 * of_image + input_tokens)
    }

    /// Of a batch.
    pub(crate) fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        Self(all.into_iter().map(|work| work.0).sum())
    }

    /// What is done of it after some of its steps.
    pub(crate) fn part(self, done: usize, total: usize) -> Self {
        Self((self.0 as f64 * done as f64 / total.max(1) as f64) as u64)
    }

    pub(crate) fn units(self) -> f64 {
        self.0.max(1) as f64
    }
}

#[cfg(test)]
impl From<u64> for Work {
    fn from(units: u64) -> Self {
        Self(units)
    }
}

/// Steps after which a preview is made: evenly spaced between the first step and the last, neither
/// of them.
pub(crate) fn preview_steps(request: &ImageRequest) -> Vec<usize> {
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
    fn previews_are_spread_evenly() {
        assert!(spread(0, 4).is_empty() && spread(3, 1).is_empty());
        assert_eq!(spread(1, 4), [2]);
        assert_eq!(spread(3, 4), [1, 2, 3]);
        assert_eq!(spread(3, 2), [1]);
        assert_eq!(spread(2, 50), [17, 33]);
    }
}
