//! Models with random weights that are made on the device: what they draw is noise, but it takes as
//! long as the real one.

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use super::Preset;
use crate::{
    Pipeline, Result,
    checkpoint::{TensorSource, Weights},
    demo::{self, InMemory},
};

impl Pipeline {
    /// In bf16, FLUX.1-schnell's shapes take about 34 GB. The tokenizers are the demo model's, which pad
    /// to the same lengths.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub(super) fn synthetic(device: &Device, preset: Preset, dtype: DType) -> Result<Self> {
        let json = configuration(preset);
        let listing = b"random weights\n".to_vec();
        InMemory { json: &json, device, dtype, listing }
            .build(|component| Weights::new(component, Random { device: device.clone(), dtype }))
    }
}

/// What the model is made from, for those who count.
#[cfg(test)]
pub(super) fn configs(preset: Preset) -> Result<crate::model::Configs> {
    demo::parse(&configuration(preset))
}

fn configuration(preset: Preset) -> serde_json::Value {
    match preset {
        Preset::Schnell => schnell(),
        Preset::Small => demo::configuration(),
    }
}

fn schnell() -> serde_json::Value {
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
}

impl TensorSource for Random {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
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
