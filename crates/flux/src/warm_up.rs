//! What is drawn before the first request, and forgotten.

use std::{iter, ops::ControlFlow};

use protocol::{Count, Prompt, Seed, Size, Steps};

use crate::{Error, GUIDANCE, InputImage, Job, Pipeline, input::MAX_INPUT_PIXELS};

/// schnell's and klein's; what modulates the blocks has a row a step.
const STEPS: i64 = 4;

impl Pipeline {
    /// Draws an image of this size and forgets it; where the model takes input images, one from such an image as
    /// well: on a GPU, the first one of each size finds the fastest algorithms for its shapes, and pins them.
    ///
    /// What that takes there is held against the limit that the model was loaded with, which was planned for by
    /// estimates. Where there is a limit, an image from as many and as large input images as are read is drawn too.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`] where it takes more than the limit allows; otherwise as [`Pipeline::generate`].
    pub fn warm_up(&self, size: Size) -> Result<(), Error> {
        let prompt = Prompt::new("-".to_owned()).expect("a short text is a prompt");
        let limit_bytes = self.model.memory.limit_bytes();
        #[cfg(feature = "cuda")]
        if limit_bytes.is_some() && self.device().is_cuda() {
            // What was compared and loaded before is no image.
            kernels::cuda::MemoryUse::reset_peak(self.device())?;
        }
        for inputs in edits(self.max_input_images(), size, limit_bytes.is_some()) {
            let images: Vec<InputImage> = inputs.into_iter().map(grey).collect();
            let job = Job {
                prompt: &prompt,
                size,
                steps: Steps::new(STEPS).expect("as many are in range"),
                seed: Seed::new(0),
                count: Count::new(1).expect("one is a count"),
                guidance: GUIDANCE,
                images: &images,
            };
            self.generate(&job, &mut |_| ControlFlow::Continue(()))?;
        }
        match (limit_bytes, self.peak_memory_bytes()) {
            (Some(limit_bytes), Some(needed_bytes)) if needed_bytes > limit_bytes => {
                Err(Error::MemoryLimit { limit_bytes, needed_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// Width and height of the input images of each image that is drawn, by a model that takes so many at most.
fn edits(most: usize, size: Size, has_limit: bool) -> Vec<Vec<[usize; 2]>> {
    let sides = [size.width_px(), size.height_px()];
    let alike = sides.map(|side| (side as usize).max(InputImage::MIN_SIDE_PX));
    let largest = [MAX_INPUT_PIXELS.isqrt(); 2];
    // One that is too long and narrow is never drawn from.
    let is_read = most > 0 && InputImage::size_read(alike).is_ok();
    let one = is_read.then(|| vec![alike]);
    let all = (most > 0 && has_limit).then(|| vec![largest; most]);
    iter::once(Vec::new()).chain(one).chain(all).collect()
}

fn grey([width_px, height_px]: [usize; 2]) -> InputImage {
    let rgb = vec![128; 3 * width_px * height_px].into();
    InputImage::new(width_px, height_px, rgb).expect("a size that is read")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Vec<[usize; 2]> = Vec::new();

    fn edits_of(most: usize, [width, height]: [u32; 2], has_limit: bool) -> Vec<Vec<[usize; 2]>> {
        edits(most, Size::new(width, height).unwrap(), has_limit)
    }

    #[test]
    fn a_model_that_takes_images_draws_from_one() {
        assert_eq!(edits_of(0, [1024; 2], true), [ALONE]);
        assert_eq!(edits_of(4, [1024; 2], false), [ALONE, vec![[1024; 2]]]);
        assert_eq!(edits_of(4, [16; 2], false), [ALONE, vec![[64; 2]]]);
    }

    /// The memory plan has room for these.
    #[test]
    fn a_limit_is_held_against_the_most_that_is_read() {
        assert_eq!(edits_of(4, [512; 2], true), [ALONE, vec![[512; 2]], vec![[1024; 2]; 4]]);
    }

    #[test]
    fn what_is_never_read_is_not_drawn_from() {
        assert_eq!(edits_of(4, [1024, 64], false), [ALONE]);
        assert_eq!(edits_of(4, [1024, 128], false), [ALONE, vec![[1024, 128]]]);
        assert_eq!(grey([1024, 128]).read_px(), [1024, 128]);
    }
}
