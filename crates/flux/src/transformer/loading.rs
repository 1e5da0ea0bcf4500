//! From a checkpoint's tensors to a transformer: what all models do alike. Names, biases and whose a modulation
//! is differ from model to model, and stand in a file for each.

use super::{
    Transformer,
    blocks::{DoubleBlock, Mlp, SingleBlock, StreamWeights},
    embeddings::Conditioner,
    modulation::ModulationLayers,
    rotary::Axes,
};
use crate::{
    Result,
    checkpoint::{
        VarBuilder,
        renaming::{FusedQkv, IMAGE_QKV, TEXT_QKV},
    },
    layers::{self, Biases},
};

/// Of query and key normalisation.
const QK_EPS: f64 = 1e-6;

/// Sizes of a transformer.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Channels of a packed latent token.
    pub(super) in_channels: usize,
    /// Width of the text encoder's states.
    pub(super) text_width: usize,
    pub(super) width: usize,
    pub(super) head_width: usize,
    /// Between the feed-forward's layers, behind its activation.
    pub(super) mlp_width: usize,
    pub(super) mlp: Mlp,
    pub(super) biases: Biases,
    pub(super) axes: Axes,
}

/// What is loaded by a model's own names.
pub(super) struct Blocks {
    pub(super) conditioner: Conditioner,
    pub(super) modulation: ModulationLayers,
    pub(super) double: Vec<DoubleBlock>,
    pub(super) single: Vec<SingleBlock>,
}

/// What a model calls the parts of a stream.
pub(super) struct StreamNames {
    pub(super) qkv: FusedQkv,
    pub(super) norms: [&'static str; 2],
    pub(super) out: &'static str,
    pub(super) feed_forward: &'static str,
}

pub(super) const IMAGE: StreamNames = StreamNames {
    qkv: IMAGE_QKV,
    norms: ["norm_q", "norm_k"],
    out: "to_out.0",
    feed_forward: "ff",
};

pub(super) const TEXT: StreamNames = StreamNames {
    qkv: TEXT_QKV,
    norms: ["norm_added_q", "norm_added_k"],
    out: "to_add_out",
    feed_forward: "ff_context",
};

impl Shape {
    /// The ends, around `blocks`.
    pub(super) fn transformer(&self, blocks: Blocks, vb: &VarBuilder<'_>) -> Result<Transformer> {
        let (width, channels) = (self.width, self.in_channels);
        let linear = |name, shape| layers::linear_with(&vb.pp(name), shape, self.biases);
        Ok(Transformer {
            image_in: linear("x_embedder", [width, channels])?,
            text_in: linear("context_embedder", [width, self.text_width])?,
            conditioner: blocks.conditioner,
            modulation: blocks.modulation,
            double: blocks.double,
            single: blocks.single,
            norm_out: linear("norm_out.linear", [2 * width, width])?,
            image_out: linear("proj_out", [channels, width])?,
            axes: self.axes.clone(),
            latest_rotations: Default::default(),
        })
    }

    /// A stream of the block under `vb`; `feed_forward` names its two layers.
    pub(super) fn stream(
        &self,
        vb: &VarBuilder<'_>,
        names: &StreamNames,
        feed_forward: [&str; 2],
    ) -> Result<StreamWeights> {
        let (width, attention) = (self.width, vb.pp("attn"));
        let norm = |name| layers::rms_norm(&attention.pp(name), self.head_width, QK_EPS);
        let mlp = vb.pp(names.feed_forward);
        let linear = |vb: &VarBuilder<'_>, shape| layers::block_linear(vb, shape, self.biases);
        Ok(StreamWeights {
            qkv: layers::block_qkv(&attention, &names.qkv, [width, width], self.biases)?,
            norm_q: norm(names.norms[0])?,
            norm_k: norm(names.norms[1])?,
            out: linear(&attention.pp(names.out), [width, width])?,
            mlp: self.mlp,
            fc1: linear(&mlp.pp(feed_forward[0]), [self.fc1_width(), width])?,
            fc2: linear(&mlp.pp(feed_forward[1]), [width, self.mlp_width])?,
        })
    }

    /// Both halves of a gate.
    pub(super) fn fc1_width(&self) -> usize {
        match self.mlp {
            Mlp::Gelu => self.mlp_width,
            Mlp::SwiGlu => 2 * self.mlp_width,
        }
    }

    pub(super) fn qk_norms(&self, vb: &VarBuilder<'_>) -> Result<[kernels::RmsNorm; 2]> {
        let norm = |name| layers::rms_norm(&vb.pp(name), self.head_width, QK_EPS);
        Ok([norm("norm_q")?, norm("norm_k")?])
    }
}
