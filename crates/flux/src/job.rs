//! A pipeline's job, its progress, and its result.

use std::{ops::ControlFlow, rc::Rc, time::Duration};

use protocol::{Count, Prompt, SecretBytes, Seed, Size, Steps};

use crate::{Error, InputImage, Result, clock::Event};

/// The guidance scale where none is asked for, as in diffusers.
pub const GUIDANCE: f32 = 3.5;

/// One request.
#[derive(Debug)]
pub struct Job<'a> {
    /// What to draw.
    pub prompt: &'a Prompt,
    /// How large.
    pub size: Size,
    /// In how many steps.
    pub steps: Steps,
    /// The first image's noise; the next ones' are from the following seeds.
    pub seed: Seed,
    /// How many images.
    pub count: Count,
    /// Guidance scale; only models with a guidance embedding (FLUX.1-dev) look at it.
    pub guidance: f32,
    /// What to draw it from, beside the prompt; at most [`crate::Pipeline::max_input_images`]. The first may have a
    /// mask: then the size is [that at which it is read](InputImage::read_px), and what the mask keeps stays as it is,
    /// as far as the autoencoder can tell.
    pub images: &'a [InputImage],
}

impl Job<'_> {
    /// Whether both can be drawn together: images of one size, in as many steps, with as much guidance, from as
    /// many input images of the same sizes, with masks or without.
    #[must_use]
    pub fn is_batchable_with(&self, other: &Job<'_>) -> bool {
        let of_image = |image: &InputImage| (image.read_px(), image.mask().is_some());
        let inputs = |job: &Job<'_>| job.images.iter().map(of_image).collect::<Vec<_>>();
        (self.size, self.steps, self.guidance) == (other.size, other.steps, other.guidance)
            && inputs(self) == inputs(other)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The prompt is encoded.
    Encoded,
    /// A step is done, of one image or of several that are drawn together.
    Step {
        /// Steps done, over all images.
        done: usize,
        /// Steps of all images.
        total: usize,
    },
    /// An image is decoded.
    Decoded {
        /// Images done.
        done: usize,
        /// Images of the job.
        total: usize,
    },
}

/// Who looks on while a job runs.
pub trait ProgressObserver {
    /// Told of each part that is done. Where it answers `Break`, the job ends there.
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;

    /// Told once how long the prompt is, before [`ProgressObserver::progress`] is told that it is encoded.
    fn encoded(&mut self, _prompt: PromptTokens) {}

    /// Shown each image as soon as it is decoded, before [`ProgressObserver::progress`] is told of it; `index` is
    /// its place in the job.
    fn image(&mut self, _index: usize, _image: &Image) {}

    /// Told after each step but an image's last, before [`ProgressObserver::progress`] is told of the same; on a
    /// GPU, which is given one step while it computes another, progress may be told a step later.
    /// Whoever does not ask for the image pays nothing for it.
    ///
    /// # Errors
    /// Those of [`Preview::image`]: they end the job.
    fn preview(&mut self, _preview: &Preview<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// What the model makes of the noise so far.
pub struct Preview<'a> {
    /// Steps of this image that are done.
    pub step: usize,
    /// Which image of the job, from 0.
    pub index: usize,
    decode: &'a dyn Fn() -> Result<Image, Error>,
}

impl<'a> Preview<'a> {
    /// A preview that `decode` makes when it is asked for.
    pub fn new(step: usize, index: usize, decode: &'a dyn Fn() -> Result<Image, Error>) -> Self {
        Self { step, index, decode }
    }

    /// The predicted clean latents, x₀ = xₜ − σₜ·v, decoded: as much work as decoding the image.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn image(&self) -> Result<Image, Error> {
        (self.decode)()
    }
}

/// What a job made.
#[derive(Debug)]
pub struct Generated {
    /// In the order of their seeds.
    pub images: Vec<Image>,
    /// Of the prompt.
    pub prompt_tokens: PromptTokens,
    /// Where the time went.
    pub timings: Timings,
}

/// One image.
pub struct Image {
    /// Its size.
    pub size: Size,
    /// (h, w, 3), u8, row by row; wiped when dropped.
    pub rgb: SecretBytes,
}

impl std::fmt::Debug for Image {
    /// Its size alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.size)
    }
}

/// How long a prompt is to the encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptTokens {
    /// T5's tokens that are used, the end token included, padding not.
    pub t5: usize,
    /// T5's tokens that are computed: the encoder's length, padding included.
    pub computed: usize,
    /// Whether the prompt had more than the model takes.
    pub truncated: bool,
}

/// Time of each part of a job, on the device that computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Both text encoders.
    pub encode: Duration,
    /// All steps of all images, and of those that were drawn together with them.
    pub denoise: Duration,
    /// The autoencoder, to 8-bit pixels.
    pub decode: Duration,
}

impl Timings {
    /// Of the events around each part.
    pub(crate) fn of(spans: &[(Part, [Rc<Event>; 2])]) -> Result<Self> {
        let mut timings = Self::default();
        for (part, [from, to]) in spans {
            let total = match part {
                Part::Encode => &mut timings.encode,
                Part::Denoise => &mut timings.denoise,
                Part::Decode => &mut timings.decode,
            };
            *total += from.until(to)?;
        }
        Ok(timings)
    }
}

/// What [`Timings`] tells apart.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Encode,
    Denoise,
    Decode,
}
