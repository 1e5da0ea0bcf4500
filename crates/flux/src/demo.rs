//! A small FLUX made in memory: every part of the real architecture, and none of its knowledge.
//!
//! Its weights follow from one seed, its tokenizers from a list of characters, and both go through
//! the constructors that a model directory goes through. Its pictures are patterns, whatever the
//! prompt says, but each prompt and each seed has its own.

mod tokenizers;
mod weights;

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::json;

use crate::{
    Error, Pipeline, Result,
    checkpoint::Weights,
    model::{Configs, Model, build_autoencoder, build_clip, build_t5, build_transformer},
    text::{ClipTokenizer, T5Tokenizer},
};

/// What all weights follow from.
const SEED: u64 = 0x0b5c_u64;
/// Of the transformer's residual stream.
const WIDTH: usize = 256;

impl Pipeline {
    /// A small random model of the same architecture, made in memory; 256×256 is its own size.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn demo(device: &Device) -> Result<Self, Error> {
        let json = configuration();
        let listing =
            [b"obscura demo model\n", &SEED.to_le_bytes()[..], json.to_string().as_bytes()]
                .concat();
        InMemory { json: &json, device, dtype: DType::F32, listing }.build(|component| {
            Weights::new(component, weights::Seeded { component, device: device.clone() })
        })
    }
}

/// A model of which no part comes from a file.
pub(crate) struct InMemory<'a> {
    /// Each component's configuration, under its folder's name.
    pub(crate) json: &'a serde_json::Value,
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
    /// What the model is known by; see [`Pipeline::listing`].
    pub(crate) listing: Vec<u8>,
}

impl InMemory<'_> {
    /// With the weights of each component from `weights`.
    pub(crate) fn build(self, weights: impl Fn(&'static str) -> Weights) -> Result<Pipeline> {
        let configs = parse(self.json)?;
        configs.check()?;
        let path = Path::new("demo");
        let model = Model {
            clip_tokens: ClipTokenizer::from_vocabulary(path, &tokenizers::clip_vocabulary(), "")?,
            t5_tokens: T5Tokenizer::from_json(path, &tokenizers::t5(), configs.text_tokens())?,
            clip: build_clip(&configs, weights("text_encoder"))?,
            t5: build_t5(&configs, weights("text_encoder_2"))?,
            transformer: build_transformer(&configs, weights("transformer"))?,
            autoencoder: build_autoencoder(&configs, weights("vae"))?,
            configs,
            device: self.device.clone(),
            dtype: self.dtype,
            listing: self.listing,
        };
        Ok(Pipeline { model })
    }
}

pub(crate) fn configuration() -> serde_json::Value {
    json!({
        "text_encoder": {
            "vocab_size": tokenizers::CLIP_TOKENS, "hidden_size": 64, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": tokenizers::CLIP_END,
            "hidden_act": "quick_gelu",
        },
        "text_encoder_2": {
            "vocab_size": tokenizers::T5_TOKENS, "d_model": 64, "d_kv": 16, "d_ff": 160,
            "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu",
        },
        "transformer": {
            "in_channels": 64, "num_layers": 2, "num_single_layers": 4, "attention_head_dim": 64,
            "num_attention_heads": 4, "joint_attention_dim": 64, "pooled_projection_dim": 64,
            "axes_dims_rope": [8, 28, 28],
        },
        "vae": {
            "latent_channels": 16, "block_out_channels": [16, 32, 64, 64], "layers_per_block": 1,
            "norm_num_groups": 8, "scaling_factor": 0.3611, "shift_factor": 0.1159,
            "sample_size": 256, "use_post_quant_conv": false,
        },
        "scheduler": { "shift": 1.0 },
    })
}

/// Each component's configuration, under its folder's name.
pub(crate) fn parse(json: &serde_json::Value) -> Result<Configs> {
    fn component<T: serde::de::DeserializeOwned>(
        json: &serde_json::Value,
        name: &str,
    ) -> Result<T> {
        serde_json::from_value(json[name].clone())
            .map_err(|source| Error::Json { path: name.into(), source })
    }
    Ok(Configs {
        clip: component(json, "text_encoder")?,
        t5: component(json, "text_encoder_2")?,
        transformer: component(json, "transformer")?,
        autoencoder: component(json, "vae")?,
        scheduler: component(json, "scheduler")?,
    })
}
