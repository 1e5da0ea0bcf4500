//! A model with random weights that are made on the device: what it draws is noise, but it takes as
//! long as the real one.

use std::{cell::Cell, rc::Rc};

use candle_core::{DType, Device, Tensor};
use half::bf16;
use kernels::Precision;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Error, MemoryLimit, Pipeline, Result,
    architecture::{Blueprint, ModelConfig, Parts},
    bench::{Blocks, Preset},
    checkpoint::{TensorSource, Weights},
    config::{Configs, flux2},
    demo,
    dimensions::Dimensions,
    flux1::Flux1,
    flux2::Flux2,
    host_memory::HostMemory,
    memory::{MemoryPlan, WeightBytes},
    model::Model,
    storage::Storage,
    text::ChatTokenizer,
};

impl Pipeline {
    /// Of a published model's shapes: in bf16, FLUX.1-schnell's take about 34 GB, FLUX.2-klein's 15 GB. FLUX.1's
    /// tokenizers are the demo model's, padding to the same lengths; klein's knows single bytes.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub(super) fn synthetic(
        preset: Preset,
        blocks: Option<Blocks>,
        device: &Device,
        precision: Precision,
        memory_limit: Option<MemoryLimit>,
    ) -> Result<Self> {
        Self::of_blueprint(blueprint(preset, blocks)?, device, precision, memory_limit)
    }

    /// The same of other shapes.
    pub(super) fn of_blueprint(
        mut blueprint: Box<dyn Blueprint>,
        device: &Device,
        precision: Precision,
        memory_limit: Option<MemoryLimit>,
    ) -> Result<Self> {
        let (config, components) = (blueprint.config(), blueprint.components());
        let dimensions = config.dimensions();
        let made = Rc::new(Cell::new(0));
        let mut values = Vec::new();
        for (i, &(component, role)) in components.iter().enumerate() {
            let dtype = precision.dtype();
            let source = Random { device: device.clone(), dtype, made: made.clone() };
            let weights = Weights::new(component, source);
            blueprint.build(i, weights.stored(Storage::of(role, device, precision)), device)?;
            values.push((role, made.take()));
        }
        let on_gpu = !device.is_cpu();
        let weights = WeightBytes::of_values(values, &dimensions, precision, on_gpu);
        let memory =
            MemoryPlan::new(memory_limit, weights, &dimensions, precision.dtype(), on_gpu)?;
        memory.check_host(0, HostMemory::of_this_machine().total_bytes)?;
        let Parts { mut text, transformer, autoencoder } =
            blueprint.finish().expect("each component was built");
        text.rest_on(memory.text_encoders(device))?;
        let model = Model {
            text,
            transformer,
            autoencoder,
            config,
            dimensions,
            device: device.clone(),
            precision,
            memory,
            listing: b"random weights\n".to_vec(),
        };
        Ok(Self::of(model))
    }
}

/// What the model is built by.
fn blueprint(preset: Preset, blocks: Option<Blocks>) -> Result<Box<dyn Blueprint>> {
    let mut json = if preset == Preset::Klein { klein() } else { schnell() };
    if let Some(Blocks { double, single }) = blocks {
        json["transformer"]["num_layers"] = double.into();
        json["transformer"]["num_single_layers"] = single.into();
    }
    if preset == Preset::Klein {
        return flux2_blueprint(klein_configs_of(&json)?);
    }
    let configs = schnell_configs_of(&json)?;
    let (clip_tokens, t5_tokens) = demo::tokenizers(&configs)?;
    Ok(Box::new(Flux1::new(configs, clip_tokens, t5_tokens)))
}

/// With a tokenizer that knows single bytes.
pub(super) fn flux2_blueprint(configs: flux2::Configs) -> Result<Box<dyn Blueprint>> {
    let tokens = ChatTokenizer::of_bytes(configs.text.vocab_size, flux2::TEXT_TOKENS)?;
    Ok(Box::new(Flux2::new(configs, tokens)))
}

/// Of what is built in, so that nothing but a mistake in it fails.
pub(crate) fn dimensions_of(preset: Preset) -> Result<Dimensions> {
    match preset {
        Preset::Schnell => Ok(schnell_configs_of(&schnell())?.dimensions()),
        Preset::Klein => Ok(klein_configs_of(&klein())?.dimensions()),
        Preset::Small => demo::dimensions(),
    }
}

fn component<T: DeserializeOwned>(json: &Value, name: &str) -> Result<T> {
    serde_json::from_value(json[name].clone())
        .map_err(|source| Error::Json { path: name.into(), source })
}

/// FLUX.1-schnell's.
#[cfg(test)]
pub(crate) fn configs() -> Result<Configs> {
    schnell_configs_of(&schnell())
}

fn schnell_configs_of(json: &Value) -> Result<Configs> {
    let configs = Configs {
        clip: component(json, "text_encoder")?,
        t5: component(json, "text_encoder_2")?,
        transformer: component(json, "transformer")?,
        autoencoder: component(json, "vae")?,
        scheduler: component(json, "scheduler")?,
    };
    configs.check()?;
    Ok(configs)
}

/// FLUX.2-klein-4B's.
#[cfg(test)]
pub(crate) fn klein_configs() -> Result<flux2::Configs> {
    klein_configs_of(&klein())
}

/// Of these configurations, which are klein's but for what differs.
pub(super) fn klein_configs_of(json: &Value) -> Result<flux2::Configs> {
    let configs = flux2::Configs {
        text: component(json, "text_encoder")?,
        transformer: component(json, "transformer")?,
        autoencoder: component(json, "vae")?,
        scheduler: component(json, "scheduler")?,
    };
    configs.check()?;
    Ok(configs)
}

fn schnell() -> Value {
    json!({
        "text_encoder": {
            "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
            "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu",
        },
        "text_encoder_2": {
            "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
            "num_heads": 64, "feed_forward_proj": "gated-gelu",
        },
        "transformer": {
            "in_channels": 64, "num_layers": 19, "num_single_layers": 38,
            "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
            "pooled_projection_dim": 768, "axes_dims_rope": [16, 56, 56],
        },
        "vae": {
            "latent_channels": 16, "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2, "norm_num_groups": 32, "scaling_factor": 0.3611,
            "shift_factor": 0.1159, "sample_size": 1024, "use_post_quant_conv": false,
        },
        "scheduler": { "shift": 1.0 },
    })
}

pub(super) fn klein() -> Value {
    json!({
        "text_encoder": {
            "vocab_size": 151_936, "hidden_size": 2560, "intermediate_size": 9728,
            "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
            "head_dim": 128, "max_position_embeddings": 40_960, "rope_theta": 1e6,
        },
        "transformer": {
            "in_channels": 128, "num_layers": 5, "num_single_layers": 20,
            "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 7680,
            "guidance_embeds": false,
        },
        "vae": {
            "latent_channels": 32, "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2, "sample_size": 1024,
        },
        "scheduler": { "shift": 3.0, "use_dynamic_shifting": true },
    })
}

/// Makes up whatever tensor it is asked for, on the device.
struct Random {
    device: Device,
    dtype: DType,
    /// How many values were made so far.
    made: Rc<Cell<u64>>,
}

impl TensorSource for Random {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        self.made.update(|made| made + shape.iter().product::<usize>() as u64);
        // Norms do nothing, biases little, and weights keep the size of what they are given.
        let is_variance = name.ends_with("running_var");
        if shape.len() == 1 && (name.ends_with("weight") || is_variance) {
            return Ok(Some(Tensor::ones(shape, self.dtype, &self.device)?));
        }
        let inputs: usize = shape.iter().skip(1).product();
        let deviation = if shape.len() == 1 { 0.02 } else { (inputs as f32).sqrt().recip() };
        if self.device.is_cpu() {
            return Ok(Some(random_on_cpu(self.made.get(), deviation, shape, self.dtype)?));
        }
        let values = Tensor::randn(0f32, deviation, shape, &self.device)?;
        Ok(Some(values.to_dtype(self.dtype)?))
    }

    fn has(&self, name: &str) -> bool {
        ["shared.weight", "model.embed_tokens.weight"].contains(&name)
    }

    fn rest(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Nearly normal values, by all cores and in the dtype that stays: candle's own take one core minutes where a model
/// has billions. Each is a sum of four uniform values of 16 bits (Irwin–Hall), so none is farther than 3.5 deviations.
fn random_on_cpu(seed: u64, deviation: f32, shape: &[usize], dtype: DType) -> Result<Tensor> {
    // The variance of a uniform value is 1/12 of its range squared; four of them are summed.
    let scale = deviation * 3f32.sqrt() / 65536.0;
    let value = |index: usize| {
        let word = splitmix64(seed.wrapping_add(index as u64));
        let sum: u32 = (0..4).map(|part| (word >> (16 * part) & 0xffff) as u32).sum();
        scale * (sum as f32 - 2.0 * 65535.0)
    };
    let count = shape.iter().product();
    let values = match dtype {
        DType::BF16 => {
            let values: Vec<bf16> =
                (0..count).into_par_iter().map(|i| bf16::from_f32(value(i))).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)?
        }
        _ => {
            let values: Vec<f32> = (0..count).into_par_iter().map(value).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?
        }
    };
    Ok(values)
}

/// Steele, Lea and Flood, «Fast splittable pseudorandom number generators», 2014: its finalizer over a counter.
fn splitmix64(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_have_the_deviation_they_were_asked_for() {
        for dtype in [DType::F32, DType::BF16] {
            let values = random_on_cpu(7, 0.02, &[100, 1000], dtype).unwrap();
            let values: Vec<f32> =
                values.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let count = values.len() as f32;
            let mean = values.iter().sum::<f32>() / count;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
            assert!(mean.abs() < 2e-4, "{mean}");
            assert!((variance.sqrt() / 0.02 - 1.0).abs() < 0.01, "{variance}");
        }
    }
}
