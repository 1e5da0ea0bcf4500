//! CLIP's text encoder (ViT-L/14 in FLUX.1): tokens → one pooled vector.
//!
//! Source: the behaviour of transformers' `CLIPTextModel`.

use candle_core::{Device, Tensor};
use kernels::{Activation, Epilogue, LayerNorm, Linear, Mask, Scores};

use super::{embeddings, split_heads};
use crate::{Result, checkpoint::VarBuilder, config::ClipConfig, layers};

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
    pub(crate) fn load(config: &ClipConfig, device: &Device, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.hidden_size;
        // Older releases of transformers write the inner module's name before every tensor's.
        let inner;
        let vb = if vb.has("text_model.final_layer_norm.weight") {
            inner = vb.pp("text_model");
            &inner
        } else {
            vb
        };
        let embeddings = vb.pp("embeddings");
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::load(config, &vb.pp("encoder.layers").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            device: device.clone(),
            tokens: embeddings.pp("token_embedding").get("weight", &[config.vocab_size, width])?,
            positions: embeddings
                .pp("position_embedding")
                .get("weight", &[config.max_position_embeddings, width])?,
            layers,
            norm: layers::layer_norm(&vb.pp("final_layer_norm"), width, config.layer_norm_eps)?,
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
        Ok(kernels::layer_norm(&x, &self.norm.on(&self.device)?)?)
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
    fn load(config: &ClipConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let attention = vb.pp("self_attn");
        let mlp = vb.pp("mlp");
        let eps = config.layer_norm_eps;
        Ok(Self {
            norm1: layers::layer_norm(&vb.pp("layer_norm1"), width, eps)?,
            qkv: layers::stacked(&attention, &["q_proj", "k_proj", "v_proj"], [width, width])?,
            out: layers::linear(&attention.pp("out_proj"), [width, width])?,
            norm2: layers::layer_norm(&vb.pp("layer_norm2"), width, eps)?,
            fc1: layers::linear(&mlp.pp("fc1"), [hidden, width])?,
            fc2: layers::linear(&mlp.pp("fc2"), [width, hidden])?,
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
        let normal = kernels::layer_norm(x, &self.norm1)?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        let heads = split_heads(&qkv, self.heads)?;
        let scores = Scores { mask: Mask::Causal, ..Scores::scaled(heads.q.dim(2)?) };
        let attended = kernels::attention(&heads, scores)?;
        let x = kernels::linear(&attended, &self.out, Epilogue::Add(x))?;
        let hidden = kernels::layer_norm(&x, &self.norm2)?;
        let hidden = kernels::linear(&hidden, &self.fc1, Epilogue::Activate(self.activation))?;
        Ok(kernels::linear(&hidden, &self.fc2, Epilogue::Add(&x))?)
    }
}
