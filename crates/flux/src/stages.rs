//! The tensors of every stage between prompt and image, to compare with another implementation.

use protocol::{Seed, Size, Steps};

use candle_core::Tensor;

use crate::{
    Error, InputImage, Pipeline, Result,
    denoise::{Inpainting, Settings},
    pipeline::to_rgb,
};

/// What [`Pipeline::stages`] computes from.
#[derive(Clone, Copy)]
pub struct StageInputs<'a> {
    /// Any text, an empty one included. Not for prompts that are someone's secret: they and all that
    /// follows from them are left in memory.
    pub text: &'a str,
    /// The image's size.
    pub size: Size,
    /// Sampler steps.
    pub steps: Steps,
    /// The noise's seed.
    pub seed: Seed,
    /// Guidance scale; only models with a guidance embedding look at it.
    pub guidance: f32,
    /// What the image is drawn from beside the text.
    pub images: &'a [InputImage],
}

/// Every stage of one image, f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// Token ids of each tokenizer, padded: CLIP's and T5's, or Qwen2's.
    pub ids: Vec<Vec<u32>>,
    /// CLIP's pooled vector (d,), where the model reads it.
    pub pooled: Vec<f32>,
    /// The states of T5 or Qwen3 (l, d).
    pub states: Vec<f32>,
    /// Input images as packed latents (tokens, 4·c), one after the other.
    pub inputs: Vec<f32>,
    /// How much of each token is drawn anew (tokens,), where the first input image has a mask.
    pub mask: Vec<f32>,
    /// Noise levels (steps + 1,), the last one 0.
    pub sigmas: Vec<f32>,
    /// Noise as packed latents (tokens, 4·c).
    pub noise: Vec<f32>,
    /// Packed latents after each step.
    pub latents: Vec<Vec<f32>>,
    /// The decoded image (h, w, 3), about −1 to 1, not clamped.
    pub image: Vec<f32>,
    /// The image (h, w, 3) in 8 bits.
    pub image_u8: Vec<u8>,
}

impl Pipeline {
    /// Makes one image and keeps every stage.
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn stages(&self, inputs: &StageInputs<'_>) -> Result<Stages, Error> {
        let &StageInputs { text, size, steps, seed, guidance, images } = inputs;
        let encoded = self.encode(text, images, size)?;
        let mut context = self.start(&[&encoded], &Settings { size, steps, guidance })?;
        let noise = self.noise(context.grid, seed, &self.model.device)?;
        let copy = || Ok(noise.force_contiguous()?);
        context.inpainting = Inpainting::new(&[&encoded], context.grid.tokens(), copy)?;
        let mut latents = vec![noise];
        for step in 0..steps.get() {
            latents.push(self.step(&context, step, &latents[step])?);
        }
        let decoded = self.decode(&context, &latents[steps.get()])?;
        let mut latents = latents.iter().map(floats).collect::<Result<Vec<_>>>()?;
        let inputs = encoded.inputs.as_ref();
        let shares = inputs.and_then(|inputs| inputs.shares.as_ref());
        Ok(Stages {
            mask: shares.map_or(Ok(Vec::new()), |shares| floats(&shares.0))?,
            ids: self.model.text.ids(text)?.iter().map(|tokens| tokens.ids.to_vec()).collect(),
            pooled: encoded.prompt.pooled.map_or(Ok(Vec::new()), |pooled| floats(&pooled.0))?,
            states: floats(&encoded.prompt.states.0)?,
            inputs: inputs.map_or(Ok(Vec::new()), |inputs| floats(&inputs.tokens.0))?,
            sigmas: context.schedule.sigmas().to_vec(),
            noise: latents.remove(0),
            latents,
            image: floats(&decoded.0)?,
            image_u8: to_rgb(&decoded.0)?.to_vec(),
        })
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
}
