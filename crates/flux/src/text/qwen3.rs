//! Qwen3's decoder as a text encoder: tokens → the states behind some of its layers, side by side.
//!
//! Source: the behaviour of transformers' `Qwen3ForCausalLM`, as diffusers' `Flux2KleinPipeline` calls it: with
//! an attention mask over the padding, which stands behind the text.

use candle_core::{Device, Tensor};
use kernels::{Activation, Epilogue, Linear, Mask, RmsNorm, Rotations, Scores, Stream};

use super::embeddings;
use crate::{
    Result,
    checkpoint::VarBuilder,
    config::flux2::{Qwen3Config, TAPS},
    layers,
};

/// Causal transformer. Its weights may rest elsewhere than it computes: a layer at a time then travels there
/// for each text.
pub(crate) struct Qwen3 {
    /// Where it computes.
    device: Device,
    /// (vocabulary, d)
    tokens: Tensor,
    /// Up to the last that is asked for.
    layers: Vec<Layer>,
    heads: usize,
    rotations: Rotations,
}

impl Qwen3 {
    /// For prompts of exactly `length` tokens, computing on `device`.
    pub(crate) fn load(
        config: &Qwen3Config,
        length: usize,
        device: &Device,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        // A checkpoint of the bare model has no name before its tensors'.
        let inner;
        let vb = if vb.has("model.embed_tokens.weight") {
            inner = vb.pp("model");
            &inner
        } else {
            vb
        };
        let shape = [config.vocab_size, config.hidden_size];
        let layers = (0..TAPS[TAPS.len() - 1])
            .map(|i| Layer::load(config, &vb.pp("layers").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            device: device.clone(),
            tokens: vb.pp("embed_tokens").get("weight", &shape)?,
            layers,
            heads: config.num_attention_heads,
            rotations: rotations(config, length, device)?,
        })
    }

    /// Whether a tensor of its files is never used: what lies behind the last tap.
    pub(crate) fn is_unread(name: &str) -> bool {
        let inner = name.strip_prefix("model.").unwrap_or(name);
        let layer = || inner.strip_prefix("layers.")?.split('.').next()?.parse::<usize>().ok();
        inner.starts_with("norm.")
            || name.starts_with("lm_head.")
            || layer().is_some_and(|layer| layer >= TAPS[TAPS.len() - 1])
    }

    /// The states of ids (l,), of which the first `used` are no padding, behind each tap: (l, taps·d).
    pub(crate) fn states(&self, ids: &[u32], used: usize) -> Result<Tensor> {
        let mut x = embeddings(&self.tokens, ids)?.to_device(&self.device)?;
        let mask = mask(self.heads, ids.len(), used, &self.device)?;
        let mut tapped = Vec::with_capacity(TAPS.len());
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.on(&self.device)?.forward(&x, &self.rotations, &mask)?;
            if TAPS.contains(&(i + 1)) {
                tapped.push(x.clone());
            }
        }
        Ok(Tensor::cat(&tapped, 1)?)
    }

    /// The same with weights that rest on `device`.
    pub(crate) fn resting_on(&self, device: &Device) -> Result<Self> {
        let Rotations { cos, sin } = &self.rotations;
        Ok(Self {
            device: self.device.clone(),
            tokens: self.tokens.to_device(device)?,
            layers: self.layers.iter().map(|layer| layer.on(device)).collect::<Result<_>>()?,
            heads: self.heads,
            rotations: Rotations { cos: cos.clone(), sin: sin.clone() },
        })
    }
}

struct Layer {
    norm1: RmsNorm,
    /// Queries, then keys, then values, side by side.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    out: Linear,
    norm2: RmsNorm,
    /// What is activated, then what that gates, side by side.
    gate_up: Linear,
    down: Linear,
    /// Of queries, and of keys and values.
    heads: [usize; 2],
}

impl Layer {
    fn load(config: &Qwen3Config, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let (head, eps) = (config.head_dim, config.rms_norm_eps);
        let heads = [config.num_attention_heads, config.num_key_value_heads];
        let attention = vb.pp("self_attn");
        let norm = |name| layers::interleaved_rms_norm(&attention.pp(name), head, eps);
        Ok(Self {
            norm1: layers::rms_norm(&vb.pp("input_layernorm"), width, eps)?,
            qkv: layers::interleaved_qkv(&attention, heads, [head, width])?,
            norm_q: norm("q_norm")?,
            norm_k: norm("k_norm")?,
            out: layers::linear_unbiased(&attention.pp("o_proj"), [width, heads[0] * head])?,
            norm2: layers::rms_norm(&vb.pp("post_attention_layernorm"), width, eps)?,
            gate_up: layers::stacked_unbiased(
                &vb.pp("mlp"),
                &["gate_proj", "up_proj"],
                [hidden, width],
            )?,
            down: layers::linear_unbiased(&vb.pp("mlp.down_proj"), [width, hidden])?,
            heads,
        })
    }

    fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            norm1: self.norm1.on(device)?,
            qkv: self.qkv.on(device)?,
            norm_q: self.norm_q.on(device)?,
            norm_k: self.norm_k.on(device)?,
            out: self.out.on(device)?,
            norm2: self.norm2.on(device)?,
            gate_up: self.gate_up.on(device)?,
            down: self.down.on(device)?,
            heads: self.heads,
        })
    }

    /// (l, d) → (l, d); the mask is (h, l, l).
    fn forward(&self, x: &Tensor, rotations: &Rotations, mask: &Tensor) -> Result<Tensor> {
        let normal = kernels::rms_norm(x, &self.norm1)?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        let qkv = self.repeated(&qkv)?;
        let stream = Stream { qkv: &qkv, norm_q: &self.norm_q, norm_k: &self.norm_k };
        let heads = kernels::qk_norm_rope(&[stream], rotations)?;
        let scores = Scores { mask: Mask::Bias(mask), ..Scores::scaled(heads.q.dim(2)?) };
        let attended = kernels::attention(&heads, scores)?;
        let x = kernels::linear(&attended, &self.out, Epilogue::Add(x))?;
        let normal = kernels::rms_norm(&x, &self.norm2)?;
        let hidden = kernels::linear_gated(&normal, &self.gate_up, Activation::Silu)?;
        Ok(kernels::linear(&hidden, &self.down, Epilogue::Add(&x))?)
    }

    /// Each head of keys and of values as often as it is asked: (l, (h + 2·g)·d) → (l, 3·h·d).
    fn repeated(&self, qkv: &Tensor) -> Result<Tensor> {
        let [queries, groups] = self.heads;
        let (length, joined) = qkv.dims2()?;
        let (head, each) = (joined / (queries + 2 * groups), queries / groups);
        let part = |first: usize| {
            qkv.narrow(1, first * head, groups * head)?
                .reshape((length, groups, 1, head))?
                .broadcast_as((length, groups, each, head))?
                .reshape((length, queries * head))
        };
        let (k, v) = (part(queries)?, part(queries + groups)?);
        Ok(Tensor::cat(&[&qkv.narrow(1, 0, queries * head)?, &k, &v], 1)?)
    }
}

/// What is added to scores: nothing where the key is not behind the query and no padding, −∞ elsewhere:
/// (h, l, l), f32. Padding sees the text too: its states are part of what the transformer is given.
fn mask(heads: usize, length: usize, used: usize, device: &Device) -> Result<Tensor> {
    let mut one = vec![f32::NEG_INFINITY; length * length];
    for (query, row) in one.chunks_exact_mut(length).enumerate() {
        row[..used.min(query + 1)].fill(0.0);
    }
    let one = Tensor::from_vec(one, (1, length, length), &Device::Cpu)?.to_device(device)?;
    Ok(one.broadcast_as((heads, length, length))?.contiguous()?)
}

/// Angles of each place in the text: (l, d/2), f32.
fn rotations(config: &Qwen3Config, length: usize, device: &Device) -> Result<Rotations> {
    let (half, theta) = (config.head_dim / 2, config.theta()?);
    let angles = (0..length).flat_map(|place| {
        (0..half).map(move |i| {
            // As transformers computes them: frequencies and angles in f32, so that they are rounded alike.
            let exponent = (2 * i) as f32 / (2 * half) as f32;
            let frequency = 1.0 / theta.powf(f64::from(exponent)) as f32;
            f64::from(place as f32 * frequency).sin_cos()
        })
    });
    let (sin, cos): (Vec<f32>, Vec<f32>) =
        angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
    Ok(Rotations {
        cos: Tensor::from_vec(cos, (length, half), device)?,
        sin: Tensor::from_vec(sin, (length, half), device)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_last_tap_is_not_read() {
        for name in ["model.layers.27.mlp.up_proj.weight", "layers.35.x", "model.norm.weight"] {
            assert!(Qwen3::is_unread(name), "{name}");
        }
        assert!(Qwen3::is_unread("lm_head.weight"));
        for name in ["model.layers.26.mlp.up_proj.weight", "model.embed_tokens.weight"] {
            assert!(!Qwen3::is_unread(name), "{name}");
        }
    }

    #[test]
    fn padding_sees_the_text_and_nobody_sees_padding() {
        let mask = mask(2, 4, 2, &Device::Cpu).unwrap().to_vec3::<f32>().unwrap();
        let (yes, no) = (0.0, f32::NEG_INFINITY);
        assert_eq!(mask[0], mask[1]);
        assert_eq!(mask[0][0], [yes, no, no, no]);
        assert_eq!(mask[0][1], [yes, yes, no, no]);
        assert_eq!(mask[0][3], [yes, yes, no, no]);
    }
}
