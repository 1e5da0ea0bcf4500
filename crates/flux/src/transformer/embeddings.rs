//! What modulates every block: noise level and, where a model reads them, guidance and the pooled prompt,
//! as one vector a step and image.

use candle_core::{Device, Tensor};
use kernels::{Activation, Epilogue, Linear};

use super::Conditions;
use crate::{
    Result,
    checkpoint::VarBuilder,
    layers::{self, Biases},
};

/// Channels of a sinusoidal embedding.
pub(super) const CHANNELS: usize = 256;

/// Embeds the conditions of all steps at once.
pub(super) struct Conditioner {
    pub(super) timestep: Mlp,
    /// Of models that read a pooled prompt (FLUX.1).
    pub(super) text: Option<Mlp>,
    /// Of models that are distilled from guided ones (FLUX.1-dev).
    pub(super) guidance: Option<Mlp>,
}

impl Conditioner {
    /// silu(embedding): (steps·n, d), a step's n images side by side. Every block begins with this silu,
    /// so it is taken here, once.
    pub(super) fn forward(&self, conditions: &Conditions<'_>) -> Result<Tensor> {
        let like = conditions.states;
        let mut embedding = self.timestep.forward(&sinusoids(conditions.timesteps, like)?)?;
        if let Some(guidance) = &self.guidance {
            let scale = guidance.forward(&sinusoids(&[conditions.guidance * 1000.0], like)?)?;
            embedding = embedding.broadcast_add(&scale)?;
        }
        let embedding = embedding.unsqueeze(1)?;
        let embedding = match (&self.text, conditions.pooled) {
            // (steps, 1, d) + (n, d) → (steps, n, d)
            (Some(text), Some(pooled)) => embedding.broadcast_add(&text.forward(pooled)?)?,
            (None, _) => {
                let (steps, _, width) = embedding.dims3()?;
                embedding.broadcast_as((steps, conditions.images, width))?.contiguous()?
            }
            (Some(_), None) => {
                let lacking = "the model reads a pooled prompt, and none was given";
                return Err(candle_core::Error::Msg(lacking.to_owned()).into());
            }
        };
        // (steps, n, d) → (steps·n, d)
        Ok(embedding.silu()?.flatten(0, 1)?)
    }
}

/// linear → silu → linear
pub(super) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    pub(super) fn load(
        vb: &VarBuilder<'_>,
        [width, inputs]: [usize; 2],
        biases: Biases,
    ) -> Result<Self> {
        let load = |name, shape| layers::linear_with(&vb.pp(name), shape, biases);
        Ok(Self {
            first: load("linear_1", [width, inputs])?,
            second: load("linear_2", [width, width])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = kernels::linear(x, &self.first, Epilogue::Activate(Activation::Silu))?;
        Ok(kernels::linear(&hidden, &self.second, Epilogue::None)?)
    }
}

/// values → (n, 256): cosines, then sines, of value · 10000^(−i/128); dtype and device of `like`.
///
/// The frequencies are rounded to f32 where diffusers rounds them: at 1000 that shows.
fn sinusoids(values: &[f32], like: &Tensor) -> Result<Tensor> {
    let half = CHANNELS / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = -(10_000f64.ln() as f32) * i as f32 / half as f32;
            f64::from(exponent).exp() as f32
        })
        .collect();
    let mut rows = Vec::with_capacity(values.len() * CHANNELS);
    for &value in values {
        let angles = || frequencies.iter().map(move |frequency| f64::from(value * frequency));
        rows.extend(angles().map(|angle| angle.cos() as f32));
        rows.extend(angles().map(|angle| angle.sin() as f32));
    }
    let rows = Tensor::from_vec(rows, (values.len(), CHANNELS), &Device::Cpu)?;
    Ok(rows.to_dtype(like.dtype())?.to_device(like.device())?)
}
