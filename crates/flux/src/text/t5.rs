//! T5's encoder (version 1.1, XXL in FLUX.1): tokens → one state each.
//!
//! Padding is attended to like any token: FLUX.1 was trained without an attention mask.
//! Source: the behaviour of transformers' `T5EncoderModel`.

use candle_core::{DType, Device, Tensor};
use kernels::{Activation, Epilogue, Linear, Mask, RmsNorm, Scores};

use super::{embeddings, split_heads};
use crate::{
    Result,
    checkpoint::VarBuilder,
    config::{T5Config, T5FeedForward},
    layers,
};

/// Bidirectional transformer with relative positions. Its weights may rest elsewhere than it computes:
/// a layer at a time then travels there for each text.
pub(crate) struct T5 {
    /// Where it computes.
    device: Device,
    /// (vocabulary, d)
    tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// What the distance between query and key adds to their score, in every layer: (h, l, l), f32.
    bias: Tensor,
}

impl T5 {
    /// For prompts of exactly `length` tokens, computing on `device`.
    pub(crate) fn load(
        config: &T5Config,
        length: usize,
        device: &Device,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let width = config.d_model;
        let shape = [config.vocab_size, width];
        // The embedding is shared with a decoder that is not here; it goes by either name.
        let tokens = if vb.has("shared.weight") {
            vb.get("shared.weight", &shape)?
        } else {
            vb.get("encoder.embed_tokens.weight", &shape)?
        };
        let encoder = vb.pp("encoder");
        let shape = [config.relative_attention_num_buckets, config.num_heads];
        let buckets = encoder
            .pp("block.0.layer.0.SelfAttention.relative_attention_bias")
            .get("weight", &shape)?;
        let layers = (0..config.num_layers)
            .map(|i| Layer::load(config, &encoder.pp("block").pp(i).pp("layer")))
            .collect::<Result<_>>()?;
        Ok(Self {
            device: device.clone(),
            bias: position_bias(config, &buckets, length)?.to_device(device)?,
            tokens,
            layers,
            norm: layers::rms_norm(
                &encoder.pp("final_layer_norm"),
                width,
                config.layer_norm_epsilon,
            )?,
        })
    }

    /// (l, d)
    pub(crate) fn states(&self, ids: &[u32]) -> Result<Tensor> {
        let mut x = embeddings(&self.tokens, ids)?.to_device(&self.device)?;
        for layer in &self.layers {
            x = layer.on(&self.device)?.forward(&x, &self.bias)?;
        }
        Ok(kernels::rms_norm(&x, &self.norm.on(&self.device)?)?)
    }

    /// The same with weights that rest on `device`.
    pub(crate) fn resting_on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            device: self.device.clone(),
            tokens: self.tokens.to_device(device)?,
            layers: self.layers.iter().map(|layer| layer.on(device)).collect::<Result<_>>()?,
            norm: self.norm.on(device)?,
            bias: self.bias.clone(),
        })
    }
}

struct Layer {
    norm1: RmsNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    out: Linear,
    norm2: RmsNorm,
    feed_forward: T5FeedForward,
    /// Where it gates: what is activated, then what that gates, side by side.
    wi: Linear,
    wo: Linear,
    heads: usize,
}

impl Layer {
    fn load(config: &T5Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.d_model, config.d_ff);
        let inner = config.num_heads * config.d_kv;
        let eps = config.layer_norm_epsilon;
        let (first, second) = (vb.pp(0), vb.pp(1));
        let attention = first.pp("SelfAttention");
        let dense = second.pp("DenseReluDense");
        let feed_forward = config.feed_forward()?;
        Ok(Self {
            norm1: layers::rms_norm(&first.pp("layer_norm"), width, eps)?,
            qkv: layers::stacked_unbiased(&attention, &["q", "k", "v"], [inner, width])?,
            out: layers::linear_unbiased(&attention.pp("o"), [width, inner])?,
            norm2: layers::rms_norm(&second.pp("layer_norm"), width, eps)?,
            feed_forward,
            wi: match feed_forward {
                T5FeedForward::GatedGelu => {
                    layers::stacked_unbiased(&dense, &["wi_0", "wi_1"], [hidden, width])?
                }
                T5FeedForward::Relu => layers::linear_unbiased(&dense.pp("wi"), [hidden, width])?,
            },
            wo: layers::linear_unbiased(&dense.pp("wo"), [width, hidden])?,
            heads: config.num_heads,
        })
    }

    fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            norm1: self.norm1.on(device)?,
            qkv: self.qkv.on(device)?,
            out: self.out.on(device)?,
            norm2: self.norm2.on(device)?,
            feed_forward: self.feed_forward,
            wi: self.wi.on(device)?,
            wo: self.wo.on(device)?,
            heads: self.heads,
        })
    }

    /// (l, d) → (l, d)
    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let normal = kernels::rms_norm(x, &self.norm1)?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        let heads = split_heads(&qkv, self.heads)?;
        // T5 folds 1/√d into its weights.
        let scores = Scores { scale: 1.0, mask: Mask::Bias(bias) };
        let attended = kernels::attention(&heads, scores)?;
        let x = kernels::linear(&attended, &self.out, Epilogue::Add(x))?;
        let normal = kernels::rms_norm(&x, &self.norm2)?;
        let hidden = match self.feed_forward {
            T5FeedForward::GatedGelu => {
                kernels::linear_gated(&normal, &self.wi, Activation::GeluTanh)?
            }
            T5FeedForward::Relu => {
                kernels::linear(&normal, &self.wi, Epilogue::Activate(Activation::Relu))?
            }
        };
        Ok(kernels::linear(&hidden, &self.wo, Epilogue::Add(&x))?)
    }
}

/// (buckets, h) → (h, l, l), f32, on the host, by the distance from query to key.
fn position_bias(config: &T5Config, buckets: &Tensor, length: usize) -> Result<Tensor> {
    // (buckets, h) → (h, buckets)
    let table = buckets.to_dtype(DType::F32)?.t()?.to_vec2::<f32>()?;
    let mut bias = Vec::with_capacity(config.num_heads * length * length);
    for head in table {
        for query in 0..length {
            bias.extend((0..length).map(|key| head[bucket(config, query, key)]));
        }
    }
    Ok(Tensor::from_vec(bias, (config.num_heads, length, length), &Device::Cpu)?)
}

/// Half the buckets for keys in front of the query, half for those behind it. Of each half, the
/// first half is for exact distances, the rest for logarithmically growing ranges.
fn bucket(config: &T5Config, query: usize, key: usize) -> usize {
    let half = config.relative_attention_num_buckets / 2;
    let exact = half / 2;
    let distance = query.abs_diff(key);
    let side = if key > query { half } else { 0 };
    if distance < exact {
        return side + distance;
    }
    // In f32, as torch computes it: at the edges of a range the rounding decides.
    let ratio = (f64::from(distance as f32 / exact as f32)).ln() as f32;
    let range = (config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
    let step = (ratio / range * (half - exact) as f32) as usize;
    side + (exact + step).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_t5s_buckets() {
        let config: T5Config = serde_json::from_str(
            r#"{"vocab_size":8,"d_model":4,"d_kv":2,"d_ff":4,"num_layers":1,"num_heads":2}"#,
        )
        .unwrap();
        // transformers' T5Attention._relative_position_bucket, key − query → bucket
        let expected = [
            (0, 0),
            (-1, 1),
            (-7, 7),
            (-8, 8),
            (-11, 8),
            (-12, 9),
            (-15, 9),
            (-16, 10),
            (-22, 10),
            (-23, 11),
            (-64, 14),
            (-90, 14),
            (-91, 15),
            (-255, 15),
            (1, 17),
            (7, 23),
            (8, 24),
            (16, 26),
            (90, 30),
            (91, 31),
            (200, 31),
        ];
        for (distance, expected) in expected {
            let (query, key) = (256, (256 + distance) as usize);
            assert_eq!(bucket(&config, query, key), expected, "{distance}");
        }
    }
}
