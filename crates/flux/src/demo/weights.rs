//! Random weights, tensor by tensor from their names.

use candle_core::{DType, Device, Tensor};
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
        let tensor = match Rule::of(self.component, name, shape) {
            Rule::Constant(value) => Tensor::full(value, shape, &self.device)?,
            Rule::Normal(spread) => {
                let seed = Seed::new(SEED ^ hash(self.component) ^ hash(name).rotate_left(1));
                let values = noise::normal(seed, shape.iter().product());
                let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
                (tensor * spread)?.to_device(&self.device)?
            }
        };
        Ok(Some(tensor.to_dtype(DType::F32)?))
    }

    fn has(&self, name: &str) -> bool {
        name == "shared.weight"
    }

    fn rest(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How a tensor is made.
enum Rule {
    Constant(f32),
    /// Normally distributed with this standard deviation.
    Normal(f64),
}

impl Rule {
    fn of(component: &str, name: &str, shape: &[usize]) -> Self {
        match shape {
            [_] if name.ends_with("weight") => Self::Constant(1.0),
            [_] => Self::Constant(0.0),
            [_, ..] => {
                let _ = component;
                let inputs: usize = shape[1..].iter().product();
                Self::Normal((inputs as f64).sqrt().recip())
            }
            [] => Self::Constant(0.0),
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
