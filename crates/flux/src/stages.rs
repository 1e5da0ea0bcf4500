//! Everything between prompt and image, laid open for comparison with another implementation.

use protocol::{Seed, Size, Steps};

use candle_core::Tensor;

use crate::{
    Error, Pipeline, Result,
    pipeline::{Settings, to_rgb},
};

/// What [`Pipeline::stages`] computes from.
#[derive(Debug, Clone, Copy)]
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
}

/// Every stage of one image, f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// CLIP's token ids, padded.
    pub clip_ids: Vec<u32>,
    /// T5's token ids, padded.
    pub t5_ids: Vec<u32>,
    /// CLIP's pooled vector (d,).
    pub pooled: Vec<f32>,
    /// T5's states (l, d).
    pub t5_states: Vec<f32>,
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
        let &StageInputs { text, size, steps, seed, guidance } = inputs;
        let encoded = self.encode(text)?;
        let context = self.start(&[&encoded], &Settings { size, steps, guidance })?;
        let noise = context.grid.noise(seed, &self.model.device)?;
        let mut latents = vec![noise];
        for step in 0..steps.get() {
            latents.push(self.step(&context, step, &latents[step])?);
        }
        let decoded = self.decode(&context, &latents[steps.get()])?;
        let mut latents = latents.iter().map(floats).collect::<Result<Vec<_>>>()?;
        Ok(Stages {
            clip_ids: self.model.clip_tokens.encode(text)?.ids.to_vec(),
            t5_ids: self.model.t5_tokens.encode(text)?.ids.to_vec(),
            pooled: floats(&encoded.pooled.0)?,
            t5_states: floats(&encoded.states.0)?,
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
