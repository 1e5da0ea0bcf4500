//! A model with random weights that are made on the device: what it draws is noise, but it takes as
//! long as the real one.

use std::{cell::Cell, rc::Rc};

use candle_core::{DType, Device, Tensor};
use kernels::Precision;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Error, MemoryLimit, Pipeline, Result,
    checkpoint::{TensorSource, Weights},
    config::Configs,
    demo,
    memory::{MemoryPlan, WeightBytes, block_values},
    model::{Model, build_autoencoder, build_clip, build_t5, build_transformer},
    storage::Storage,
};

impl Pipeline {
    /// Of FLUX.1-schnell's shapes: in bf16, they take about 34 GB. The tokenizers are the demo model's,
    /// padding to the same lengths.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub(super) fn synthetic(
        device: &Device,
        precision: Precision,
        memory_limit: Option<MemoryLimit>,
    ) -> Result<Self> {
        let configs = configs()?;
        let (clip_tokens, t5_tokens) = demo::tokenizers(&configs)?;
        let made_bytes = Rc::new(Cell::new(0));
        let weights = |component| {
            let dtype = precision.dtype();
            let source = Random { device: device.clone(), dtype, made_bytes: made_bytes.clone() };
            Weights::new(component, source).stored(Storage::new(device, precision))
        };
        let clip = build_clip(&configs, weights("text_encoder"), device)?;
        let t5 = build_t5(&configs, weights("text_encoder_2"), device)?;
        let text_encoders = made_bytes.take();
        let transformer = build_transformer(&configs, weights("transformer"))?;
        let autoencoder = build_autoencoder(&configs, weights("vae"))?;
        let in_8_bits = if precision == Precision::Fp8 { block_values(&configs) } else { 0 };
        let transformer_and_autoencoder = made_bytes.take() - in_8_bits;
        let made = WeightBytes { text_encoders, transformer_and_autoencoder };
        let on_gpu = !device.is_cpu();
        let memory = MemoryPlan::new(memory_limit, made, &configs, precision.dtype(), on_gpu)?;
        let resting = memory.text_encoders(device);
        let model = Model {
            clip_tokens,
            t5_tokens,
            clip: clip.resting_on(resting)?,
            t5: t5.resting_on(resting)?,
            transformer,
            autoencoder,
            configs,
            device: device.clone(),
            precision,
            memory,
            listing: b"random weights\n".to_vec(),
        };
        Ok(Self::of(model))
    }
}

/// What the model is made from.
pub(crate) fn configs() -> Result<Configs> {
    fn component<T: DeserializeOwned>(json: &Value, name: &str) -> Result<T> {
        serde_json::from_value(json[name].clone())
            .map_err(|source| Error::Json { path: name.into(), source })
    }
    let json = schnell();
    let configs = Configs {
        clip: component(&json, "text_encoder")?,
        t5: component(&json, "text_encoder_2")?,
        transformer: component(&json, "transformer")?,
        autoencoder: component(&json, "vae")?,
        scheduler: component(&json, "scheduler")?,
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

/// Makes up whatever tensor it is asked for, on the device.
struct Random {
    device: Device,
    dtype: DType,
    /// Of all that was made so far.
    made_bytes: Rc<Cell<u64>>,
}

impl TensorSource for Random {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        let bytes = shape.iter().product::<usize>() * self.dtype.size_in_bytes();
        self.made_bytes.update(|made| made + bytes as u64);
        // Norms do nothing, biases little, and weights keep the size of what they are given.
        if shape.len() == 1 && name.ends_with("weight") {
            return Ok(Some(Tensor::ones(shape, self.dtype, &self.device)?));
        }
        let inputs: usize = shape.iter().skip(1).product();
        let deviation = if shape.len() == 1 { 0.02 } else { (inputs as f32).sqrt().recip() };
        let values = Tensor::randn(0f32, deviation, shape, &self.device)?;
        Ok(Some(values.to_dtype(self.dtype)?))
    }

    fn has(&self, name: &str) -> bool {
        name == "shared.weight"
    }

    fn rest(&self) -> Vec<String> {
        Vec::new()
    }
}
