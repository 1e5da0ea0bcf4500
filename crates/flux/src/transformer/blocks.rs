//! The transformer's two kinds of block.

use candle_core::Tensor;

use super::{modulation::Modulation, rows::of_each};
use crate::{
    Result,
    checkpoint::Scope,
    config::TransformerConfig,
    layers::{Linear, RmsNorm},
    ops::{self, Activation, Gated, Rotations, Scores, Shift, Stream},
};

/// From a layer and the number of its parts to what it makes of the conditions.
type Modulate<'a> = &'a dyn Fn(&Linear, usize) -> Result<Modulation>;

/// Of query and key normalisation.
const QK_EPS: f64 = 1e-6;

/// Text and picture each with weights of their own; they meet in the attention.
pub(super) struct DoubleBlock {
    picture: StreamWeights,
    text: StreamWeights,
}

impl DoubleBlock {
    pub(super) fn load(config: &TransformerConfig, scope: &Scope<'_>) -> Result<Self> {
        Ok(Self {
            picture: StreamWeights::load(config, scope, &PICTURE)?,
            text: StreamWeights::load(config, scope, &TEXT)?,
        })
    }

    /// The layers that every step runs through.
    pub(super) fn layers_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.picture, &mut self.text]
            .into_iter()
            .flat_map(|stream| [&mut stream.qkv, &mut stream.out, &mut stream.fc1, &mut stream.fc2])
    }

    /// The modulation of the picture and of the text: shift, scale, gate of the attention, then of the
    /// feed-forward.
    pub(super) fn modulation(&self, of: Modulate<'_>) -> Result<[Modulation; 2]> {
        Ok([of(&self.picture.modulation, 6)?, of(&self.text.modulation, 6)?])
    }

    /// picture (n·tokens, d), text (n·l, d) → both again.
    pub(super) fn forward(
        &self,
        [picture, text]: [&Tensor; 2],
        [for_picture, for_text]: &[Modulation; 2],
        step: usize,
        rotations: &Rotations,
    ) -> Result<(Tensor, Tensor)> {
        let picture_qkv = self.picture.qkv(picture, for_picture, step)?;
        let text_qkv = self.text.qkv(text, for_text, step)?;
        // Text first: (n·(l + tokens), h, d)
        let streams = [self.text.stream(&text_qkv), self.picture.stream(&picture_qkv)];
        let heads = ops::join_heads(&streams, rotations)?;
        let attended = ops::attention(&heads, &Scores::scaled(heads.q.dim(2)?))?;
        let rows = [text.dim(0)?, picture.dim(0)?];
        let [of_text, of_picture] = of_each(&attended, rows, heads.pictures)?;
        let picture = self.picture.finish(picture, &of_picture, for_picture, step)?;
        Ok((picture, self.text.finish(text, &of_text, for_text, step)?))
    }
}

/// Attention and feed-forward side by side, over text and picture together.
pub(super) struct SingleBlock {
    modulation: Linear,
    /// Queries, keys and values side by side.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    mlp: Linear,
    /// From attention and feed-forward side by side.
    out: Linear,
}

impl SingleBlock {
    pub(super) fn load(config: &TransformerConfig, scope: &Scope<'_>) -> Result<Self> {
        let (width, hidden) = (config.width(), config.mlp_width());
        let attention = scope.at("attn");
        let project = |name| Linear::load(&attention.at(name), [width, width]);
        let norm = |name| RmsNorm::load(&attention.at(name), config.attention_head_dim, QK_EPS);
        Ok(Self {
            modulation: Linear::load(&scope.at("norm.linear"), [3 * width, width])?,
            qkv: Linear::stack(&[project("to_q")?, project("to_k")?, project("to_v")?])?,
            norm_q: norm("norm_q")?,
            norm_k: norm("norm_k")?,
            mlp: Linear::load(&scope.at("proj_mlp"), [hidden, width])?,
            out: Linear::load(&scope.at("proj_out"), [width, width + hidden])?,
        })
    }

    /// The layers that every step runs through.
    pub(super) fn layers_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.qkv, &mut self.mlp, &mut self.out].into_iter()
    }

    /// Shift, scale and gate.
    pub(super) fn modulation(&self, of: Modulate<'_>) -> Result<Modulation> {
        of(&self.modulation, 3)
    }

    /// x (n·(l + tokens), d) → the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        modulation: &Modulation,
        step: usize,
        rotations: &Rotations,
    ) -> Result<Tensor> {
        let [shift, scale, gate] = [0, 1, 2].map(|i| modulation.part(step, i));
        let normal =
            ops::layer_norm_shift_for(&self.qkv, x, &Shift { shift: &shift?, scale: &scale? })?;
        let qkv = ops::linear(&normal, &self.qkv)?;
        let stream = Stream { qkv: &qkv, norm_q: &self.norm_q, norm_k: &self.norm_k };
        let heads = ops::join_heads(&[stream], rotations)?;
        let branches = ops::attention_beside_mlp(&heads, &normal, &self.mlp)?;
        Ok(ops::linear_gated(&branches, &self.out, &Gated { onto: x, gate: &gate? })?)
    }
}

/// One stream of a double block.
struct StreamWeights {
    modulation: Linear,
    /// Queries, keys and values side by side.
    qkv: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    out: Linear,
    fc1: Linear,
    fc2: Linear,
}

/// What diffusers calls the parts of a stream.
struct StreamNames {
    modulation: &'static str,
    qkv: [&'static str; 3],
    norms: [&'static str; 2],
    out: &'static str,
    feed_forward: &'static str,
}

const PICTURE: StreamNames = StreamNames {
    modulation: "norm1.linear",
    qkv: ["to_q", "to_k", "to_v"],
    norms: ["norm_q", "norm_k"],
    out: "to_out.0",
    feed_forward: "ff",
};

const TEXT: StreamNames = StreamNames {
    modulation: "norm1_context.linear",
    qkv: ["add_q_proj", "add_k_proj", "add_v_proj"],
    norms: ["norm_added_q", "norm_added_k"],
    out: "to_add_out",
    feed_forward: "ff_context",
};

impl StreamWeights {
    fn load(config: &TransformerConfig, scope: &Scope<'_>, names: &StreamNames) -> Result<Self> {
        let (width, hidden) = (config.width(), config.mlp_width());
        let attention = scope.at("attn");
        let project = |name| Linear::load(&attention.at(name), [width, width]);
        let norm = |name| RmsNorm::load(&attention.at(name), config.attention_head_dim, QK_EPS);
        let feed_forward = scope.at(names.feed_forward);
        let [q, k, v] = names.qkv;
        Ok(Self {
            modulation: Linear::load(&scope.at(names.modulation), [6 * width, width])?,
            qkv: Linear::stack(&[project(q)?, project(k)?, project(v)?])?,
            norm_q: norm(names.norms[0])?,
            norm_k: norm(names.norms[1])?,
            out: project(names.out)?,
            fc1: Linear::load(&feed_forward.at("net.0.proj"), [hidden, width])?,
            fc2: Linear::load(&feed_forward.at("net.2"), [width, hidden])?,
        })
    }

    /// x (n·l, d) → (n·l, 3·d)
    fn qkv(&self, x: &Tensor, modulation: &Modulation, step: usize) -> Result<Tensor> {
        let (shift, scale) = (modulation.part(step, 0)?, modulation.part(step, 1)?);
        let normal =
            ops::layer_norm_shift_for(&self.qkv, x, &Shift { shift: &shift, scale: &scale })?;
        Ok(ops::linear(&normal, &self.qkv)?)
    }

    fn stream<'a>(&'a self, qkv: &'a Tensor) -> Stream<'a> {
        Stream { qkv, norm_q: &self.norm_q, norm_k: &self.norm_k }
    }

    /// x (n·l, d) and what its queries found (n·l, d) → (n·l, d)
    fn finish(
        &self,
        x: &Tensor,
        attended: &Tensor,
        modulation: &Modulation,
        step: usize,
    ) -> Result<Tensor> {
        let gate = modulation.part(step, 2)?;
        let x = ops::linear_gated(attended, &self.out, &Gated { onto: x, gate: &gate })?;
        let (shift, scale) = (modulation.part(step, 3)?, modulation.part(step, 4)?);
        let normal =
            ops::layer_norm_shift_for(&self.fc1, &x, &Shift { shift: &shift, scale: &scale })?;
        let hidden = ops::linear_activated(&normal, &self.fc1, Activation::GeluTanh)?;
        let gate = modulation.part(step, 5)?;
        Ok(ops::linear_gated(&hidden, &self.fc2, &Gated { onto: &x, gate: &gate })?)
    }
}
