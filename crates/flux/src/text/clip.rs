//! CLIP's text encoder (ViT-L/14 in FLUX.1): tokens → one pooled vector.
//!
//! Source: the behaviour of transformers' `CLIPTextModel`.

use candle_core::{Device, Tensor};

use super::{embeddings, split_heads};
use crate::{
    Result,
    checkpoint::Scope,
    config::ClipConfig,
    layers::{LayerNorm, Linear},
    ops::{self, Activation, Mask, Scores},
};

/// Causal transformer over token and position embeddings. Its weights may rest elsewhere than it
/// computes: a layer at a time then travels there for each text.
pub(crate) struct Clip {
    /// Where it computes.
    device: Device,
    /// (vocabulary, d)
    tokens: Tensor,
    /// (positions, d)
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    eos_token_id: u32,
}

impl Clip {
    /// Computing on `device`.
    pub(crate) fn load(config: &ClipConfig, device: &Device, scope: &Scope<'_>) -> Result<Self> {
        let width = config.hidden_size;
        // Older releases of transformers write the inner module's name before every tensor's.
        let inner;
        let scope = if scope.has("text_model.final_layer_norm.weight") {
            inner = scope.at("text_model");
            &inner
        } else {
            scope
        };
        let embeddings = scope.at("embeddings");
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(config, &scope.at("encoder.layers").at(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            device: device.clone(),
            tokens: embeddings
                .at("token_embedding")
                .tensor("weight", &[config.vocab_size, width])?,
            positions: embeddings
                .at("position_embedding")
                .tensor("weight", &[config.max_position_embeddings, width])?,
            layers,
            norm: LayerNorm::load(&scope.at("final_layer_norm"), width, config.layer_norm_eps)?,
            eos_token_id: config.eos_token_id,
        })
    }

    /// The state of the end-of-text token, normalised: (1, d).
    pub(crate) fn pooled(&self, ids: &[u32]) -> Result<Tensor> {
        // (l, d)
        let tokens = embeddings(&self.tokens, ids)?;
        let mut x = (tokens + self.positions.narrow(0, 0, ids.len())?)?.to_device(&self.device)?;
        for layer in &self.layers {
            x = layer.on(&self.device)?.forward(&x)?;
        }
        // Only the pooled token's state is asked for. (l, d) → (1, d)
        let x = x.narrow(0, self.end_of_text(ids), 1)?.contiguous()?;
        Ok(ops::layer_norm(&x, &self.norm.on(&self.device)?)?)
    }

    /// The same with weights that rest on `device`.
    pub(crate) fn resting_on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            device: self.device.clone(),
            tokens: self.tokens.to_device(device)?,
            positions: self.positions.to_device(device)?,
            layers: self.layers.iter().map(|layer| layer.on(device)).collect::<Result<_>>()?,
            norm: self.norm.on(device)?,
            eos_token_id: self.eos_token_id,
        })
    }

    /// Where the state is taken from: the first end-of-text token.
    fn end_of_text(&self, ids: &[u32]) -> usize {
        // An eos_token_id of 2 was once written by mistake; transformers then takes the highest id,
        // which is what the true end-of-text token has.
        let wanted = match self.eos_token_id {
            2 => ids.iter().copied().max().unwrap_or_default(),
            id => id,
        };
        ids.iter().position(|&id| id == wanted).unwrap_or_default()
    }
}

struct Layer {
    norm1: LayerNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
    heads: usize,
}

impl Layer {
    fn load(config: &ClipConfig, scope: &Scope<'_>) -> Result<Self> {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let attention = scope.at("self_attn");
        let project = |name| Linear::load(&attention.at(name), [width, width]);
        let mlp = scope.at("mlp");
        let eps = config.layer_norm_eps;
        Ok(Self {
            norm1: LayerNorm::load(&scope.at("layer_norm1"), width, eps)?,
            qkv: Linear::stack(&[project("q_proj")?, project("k_proj")?, project("v_proj")?])?,
            out: project("out_proj")?,
            norm2: LayerNorm::load(&scope.at("layer_norm2"), width, eps)?,
            fc1: Linear::load(&mlp.at("fc1"), [hidden, width])?,
            fc2: Linear::load(&mlp.at("fc2"), [width, hidden])?,
            activation: config.activation()?,
            heads: config.num_attention_heads,
        })
    }

    fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            norm1: self.norm1.on(device)?,
            qkv: self.qkv.on(device)?,
            out: self.out.on(device)?,
            norm2: self.norm2.on(device)?,
            fc1: self.fc1.on(device)?,
            fc2: self.fc2.on(device)?,
            activation: self.activation,
            heads: self.heads,
        })
    }

    /// (l, d) → (l, d)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let heads =
            split_heads(&ops::linear(&ops::layer_norm(x, &self.norm1)?, &self.qkv)?, self.heads)?;
        let scores = Scores { mask: Mask::Causal, ..Scores::scaled(heads.q.dim(2)?) };
        let x = ops::linear_onto(&ops::attention(&heads, &scores)?, &self.out, x)?;
        let hidden = ops::layer_norm(&x, &self.norm2)?;
        let hidden = ops::linear_activated(&hidden, &self.fc1, self.activation)?;
        Ok(ops::linear_onto(&hidden, &self.fc2, &x)?)
    }
}
