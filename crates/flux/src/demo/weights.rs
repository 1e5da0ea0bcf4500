//! Random weights, tensor by tensor from their names, with just enough order in them that pictures
//! are not noise: attention looks near by, convolutions are smooth, latents lose their noise.

use candle_core::{Device, Tensor};
use protocol::Seed;

use super::SEED;
use crate::{Result, checkpoint::TensorSource, noise};

/// Makes up whatever tensor it is asked for.
pub(super) struct Seeded {
    pub(super) component: &'static str,
    pub(super) device: Device,
}

impl TensorSource for Seeded {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        let values = match Rule::of(self.component, name, shape) {
            Rule::Constant(value) => vec![value; shape.iter().product()],
            Rule::Pairs(value) => {
                (0..shape[0]).map(|i| if i % 2 == 0 { value } else { 0.0 }).collect()
            }
            Rule::Thirds(value) => {
                let width = super::WIDTH;
                (0..shape[0]).map(|i| if i / width % 3 == 2 { value } else { 0.0 }).collect()
            }
            Rule::Each(values) => {
                let repeats = shape[0] / values.len();
                values.iter().flat_map(|&value| vec![value; repeats]).collect()
            }
            Rule::Normal(spread) => self.normal(name, shape, spread),
            Rule::Smooth(spread) => {
                let mut values = self.normal(name, &shape[..2], spread);
                for row in values.chunks_exact_mut(shape[1]) {
                    let mean = row.iter().sum::<f32>() / shape[1] as f32;
                    row.iter_mut().for_each(|value| *value -= mean);
                }
                values.iter().flat_map(|value| BLUR.map(|blur| value * blur)).collect()
            }
            Rule::Diagonal(value, spread) => {
                let mut values = self.normal(name, shape, spread);
                for (i, row) in values.chunks_exact_mut(shape[1]).enumerate() {
                    let (rows, columns) = (shape[0], shape[1]);
                    let size = rows.min(columns);
                    if i < size {
                        row[..size].fill(0.0);
                        row[i] = value;
                    }
                }
                values
            }
        };
        Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(&self.device)?))
    }

    fn has(&self, name: &str) -> bool {
        name == "shared.weight"
    }

    fn rest(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Seeded {
    fn normal(&self, name: &str, shape: &[usize], spread: f32) -> Vec<f32> {
        let seed = Seed::new(SEED ^ hash(self.component) ^ hash(name).rotate_left(1));
        let mut values = noise::normal(seed, shape.iter().product());
        for value in &mut values {
            *value *= spread;
        }
        values
    }
}

/// A 3×3 kernel that blurs.
const BLUR: [f32; 9] = [0.0625, 0.125, 0.0625, 0.125, 0.25, 0.125, 0.0625, 0.125, 0.0625];

/// What all prompts have in common, measured: where it takes each latent channel, and what it adds to
/// the colours. Taken away again, so that the average picture is grey.
const DRIFT: [f32; 16] = [
    -0.28, 0.20, -1.45, -0.11, -0.07, 2.90, 0.24, 2.41, 1.81, 0.07, 1.26, -1.35, 3.42, -2.38,
    -0.75, -2.13,
];
const TINT: [f32; 3] = [0.1, 0.45, -0.6];

/// How a tensor is made.
enum Rule {
    Constant(f32),
    /// This at even places, zero at odd ones.
    Pairs(f32),
    /// This in each last third of a sixth or third: the gates of a modulation.
    Thirds(f32),
    /// These, each repeated as often as it takes to fill the tensor.
    Each(&'static [f32]),
    /// Normally distributed with this standard deviation.
    Normal(f32),
    /// A blur, times one such number for each pair of channels; those of an output add up to zero,
    /// since activations are mostly positive and would otherwise tint everything alike.
    Smooth(f32),
    /// This on the diagonal of the leading square, which is otherwise zero; normal elsewhere.
    Diagonal(f32, f32),
}

impl Rule {
    fn of(component: &str, name: &str, shape: &[usize]) -> Self {
        let is = |end: &str| name.ends_with(end);
        let inputs: usize = shape.iter().skip(1).product();
        let even = (inputs.max(1) as f32).sqrt().recip();
        match (component, shape) {
            ("transformer", _) if is("to_q.bias") || is("to_k.bias") => Self::Pairs(1.0),
            ("transformer", _) if is("to_q.weight") || is("to_k.weight") => {
                Self::Normal(0.2 * even)
            }
            ("transformer", [_])
                if is("norm1.linear.bias")
                    || is("norm1_context.linear.bias")
                    || is("norm.linear.bias") =>
            {
                Self::Thirds(1.0)
            }
            ("transformer", _)
                if is("norm1.linear.weight")
                    || is("norm1_context.linear.weight")
                    || is("norm.linear.weight") =>
            {
                Self::Normal(0.3 * even)
            }
            ("transformer", _) if is("to_out.0.weight") => Self::Normal(3.0 * even),
            ("transformer", _) if is("x_embedder.weight") => Self::Diagonal(1.0, 0.0),
            ("transformer", _) if name == "proj_out.weight" => Self::Diagonal(2.0, 2.0 * even),
            ("transformer", _) if is("norm_out.linear.weight") => Self::Normal(0.1 * even),
            ("transformer", _) if name == "proj_out.bias" => Self::Each(&DRIFT),
            ("vae", _) if is("conv_out.bias") => Self::Each(&TINT),
            (_, [_]) if is("weight") => Self::Constant(1.0),
            (_, [_]) => Self::Constant(0.0),
            ("vae", [3, channels, 3, 3]) => Self::Smooth(2.5 * (*channels as f32).sqrt().recip()),
            ("vae", [_, channels, 3, 3]) => Self::Smooth(3.0 * (*channels as f32).sqrt().recip()),
            _ => Self::Normal(even),
        }
    }
}

/// FNV-1a, 32 bits: all that a seed has.
fn hash(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}
