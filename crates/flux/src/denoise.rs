//! What images are drawn from, what the steps of those that are drawn together share, and what a mask keeps of an input
//! image.

use std::rc::Rc;

use candle_core::Tensor;
use protocol::{Size, Steps};

use crate::{
    Result, latents::Grid, sampler::Schedule, text::PromptEmbeds, transformer::Prepared,
    wiped::Wiped,
};

/// What an image is drawn from.
pub(crate) struct Given {
    pub(crate) prompt: PromptEmbeds,
    /// Of input images, where there are any.
    pub(crate) inputs: Option<InputLatents>,
}

/// Input images as the transformer sees them.
pub(crate) struct InputLatents {
    /// One after the other: (r, 4·c), f32.
    pub(crate) tokens: Rc<Wiped>,
    pub(crate) grids: Vec<Grid>,
    /// How much of each token of the first is drawn anew, (tokens, 1), f32; where it has a mask.
    pub(crate) shares: Option<Wiped>,
}

/// What an image depends on besides prompt and seed.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) size: Size,
    pub(crate) steps: Steps,
    pub(crate) guidance: f32,
}

/// What the steps of images that are drawn together share.
pub(crate) struct DenoiseContext {
    pub(crate) grid: Grid,
    pub(crate) schedule: Schedule,
    pub(crate) prepared: Prepared,
    /// Where they have masks.
    pub(crate) inpainting: Option<Inpainting>,
}

impl DenoiseContext {
    /// latents and velocity (n·tokens, c), f32 → after step `i`.
    pub(crate) fn step(&self, i: usize, latents: &Tensor, velocity: &Tensor) -> Result<Tensor> {
        let stepped = self.schedule.step(i, latents, velocity)?;
        match &self.inpainting {
            None => Ok(stepped),
            Some(inpainting) => {
                inpainting.around(&Wiped(stepped).0, 0, self.schedule.sigmas()[i + 1])
            }
        }
    }

    /// Where the flow of step `i` would end for one of the images: latents and velocity (tokens, c), f32.
    pub(crate) fn clean(
        &self,
        i: usize,
        (place, latents): (usize, &Tensor),
        velocity: &Tensor,
    ) -> Result<Tensor> {
        let clean = self.schedule.clean(i, latents, velocity)?;
        match &self.inpainting {
            None => Ok(clean),
            Some(inpainting) => inpainting.around(&Wiped(clean).0, place * self.grid.tokens(), 0.0),
        }
    }
}

/// Input images of which a part is kept, one for each image that is drawn.
///
/// After each step, the latents outside of a mask become those of the input image with as much of the image's own noise
/// as is left: what the transformer sees around the mask is on the flow from that noise to the input image.
///
/// Source: the behaviour of diffusers v0.42.1, `flux2/pipeline_flux2_klein_inpaint.py`, `Flux2KleinInpaintPipeline`,
/// at strength 1. (At its default of 0.8 it takes all of four steps too, and begins with noise alone.)
pub(crate) struct Inpainting {
    /// The input images, (n·tokens, c), f32.
    source: Wiped,
    /// What the images are drawn from, (n·tokens, c), f32.
    noise: Wiped,
    /// How much of each token is drawn, (n·tokens, 1), f32.
    shares: Wiped,
    /// How much is not.
    rest: Wiped,
}

impl Inpainting {
    /// Of images that all have a mask; `None` where none has. `noise`, (n·tokens, c), f32, is drawn where it is needed.
    pub(crate) fn new(
        given: &[&Given],
        tokens: usize,
        noise: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Self>> {
        let inputs: Option<Vec<(&InputLatents, &Wiped)>> = given
            .iter()
            .map(|given| given.inputs.as_ref().and_then(|all| Some((all, all.shares.as_ref()?))))
            .collect();
        let Some(inputs) = inputs.filter(|inputs| !inputs.is_empty()) else { return Ok(None) };
        let first = |(all, _): &(&InputLatents, _)| Ok(all.tokens.0.narrow(0, 0, tokens)?);
        let source = inputs.iter().map(first).collect::<Result<Vec<_>>>()?;
        let shares: Vec<&Tensor> = inputs.iter().map(|(_, shares)| &shares.0).collect();
        // Never a view of what is wiped elsewhere.
        let source = Wiped(Tensor::cat(&source, 0)?.force_contiguous()?);
        let shares = Wiped(Tensor::cat(&shares, 0)?.force_contiguous()?);
        let rest = Wiped(shares.0.affine(-1.0, 1.0)?);
        Ok(Some(Self { source, noise: Wiped(noise()?), shares, rest }))
    }

    /// latents (l, c), which begin at row `at` of all → the same where they are drawn, and the input image with noise
    /// of level σ where they are not.
    ///
    /// (1 − m)·(σ·noise + (1 − σ)·source) + m·latents
    fn around(&self, latents: &Tensor, at: usize, sigma: f32) -> Result<Tensor> {
        let rows = |all: &Wiped| all.0.narrow(0, at, latents.dim(0)?);
        let source = Wiped((rows(&self.source)? * f64::from(1.0 - sigma))?);
        let noised = Wiped(((rows(&self.noise)? * f64::from(sigma))? + &source.0)?);
        let kept = Wiped(noised.0.broadcast_mul(&rows(&self.rest)?)?);
        let drawn = Wiped(latents.broadcast_mul(&rows(&self.shares)?)?);
        Ok((&kept.0 + &drawn.0)?)
    }
}
