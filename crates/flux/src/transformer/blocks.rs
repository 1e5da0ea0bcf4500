//! The transformer's two kinds of block.

use candle_core::Tensor;
use kernels::{
    Activation, Epilogue, GatedResidual, LayerInput, Linear, RmsNorm, Rotations, Scores, Stream,
};

use super::{
    modulation::{Modulations, ShiftScale},
    rows::of_each,
};
use crate::{Result, checkpoint::VarBuilder, config::TransformerConfig, layers};

/// From a layer and the number of its parts to what it makes of the conditions.
type Modulate<'a> = &'a dyn Fn(&Linear, usize) -> Result<Modulations>;

/// Of query and key normalisation.
const QK_EPS: f64 = 1e-6;

/// Tokens on their way from block to block (n·l, d): a block's last layer is left to what reads them, so that
/// it can run together with the normalisation that follows.
pub(super) enum Tokens<'a> {
    /// As they are.
    Sum(Tensor),
    /// residual + gate ∘ layer(hidden)
    Branch { hidden: LayerInput, layer: &'a Linear, gate: Tensor, residual: Tensor },
}

impl Tokens<'_> {
    /// As they are.
    pub(super) fn sum(self) -> Result<Tensor> {
        match self {
            Self::Sum(x) => Ok(x),
            Self::Branch { hidden, layer, gate, residual } => {
                let then = GatedResidual { gate: &gate, residual: &residual };
                Ok(kernels::linear(&hidden, layer, Epilogue::GatedResidual(then))?)
            }
        }
    }

    /// As they are, and normalised for the layer that reads them next.
    fn normalised_for(self, next: &Linear, by: &ShiftScale) -> Result<(Tensor, LayerInput)> {
        match self {
            Self::Sum(x) => {
                let normal = kernels::ada_layer_norm_for(next, &x, by.by())?;
                Ok((x, normal))
            }
            Self::Branch { hidden, layer, gate, residual } => {
                let onto = GatedResidual { gate: &gate, residual: &residual };
                Ok(kernels::linear_residual_norm_for(next, &hidden, layer, onto, by.by())?)
            }
        }
    }
}

/// Text and image each with weights of their own; they meet in the attention.
pub(super) struct DoubleBlock {
    image: StreamWeights,
    text: StreamWeights,
}

impl DoubleBlock {
    pub(super) fn load(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            image: StreamWeights::load(config, vb, &IMAGE)?,
            text: StreamWeights::load(config, vb, &TEXT)?,
        })
    }

    /// The modulation of the image and of the text: shift, scale, gate of the attention, then of the
    /// feed-forward.
    pub(super) fn modulation(&self, of: Modulate<'_>) -> Result<[Modulations; 2]> {
        Ok([of(&self.image.modulation, 6)?, of(&self.text.modulation, 6)?])
    }

    /// image (n·tokens, d), text (n·l, d) → both again.
    pub(super) fn forward<'a>(
        &'a self,
        [image, text]: [Tokens<'a>; 2],
        [for_image, for_text]: &[Modulations; 2],
        step: usize,
        rotations: &Rotations,
    ) -> Result<[Tokens<'a>; 2]> {
        let (image, image_qkv) = self.image.qkv(image, for_image, step)?;
        let (text, text_qkv) = self.text.qkv(text, for_text, step)?;
        // Text first: (n·(l + tokens), h, d)
        let streams = [self.text.stream(&text_qkv), self.image.stream(&image_qkv)];
        let heads = kernels::qk_norm_rope(&streams, rotations)?;
        let attended = kernels::attention(&heads, Scores::scaled(heads.q.dim(2)?))?;
        let rows = [text.dim(0)?, image.dim(0)?];
        let [of_text, of_image] = of_each(&attended, rows, heads.images)?;
        Ok([
            self.image.finish(&image, &of_image, for_image, step)?,
            self.text.finish(&text, &of_text, for_text, step)?,
        ])
    }
}

/// Attention and feed-forward side by side, over text and image together.
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
    pub(super) fn load(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.width(), config.mlp_width());
        let attention = vb.pp("attn");
        let norm = |name| layers::rms_norm(&attention.pp(name), config.attention_head_dim, QK_EPS);
        let parts = ["to_q", "to_k", "to_v"];
        Ok(Self {
            modulation: layers::linear(&vb.pp("norm.linear"), [3 * width, width])?,
            qkv: layers::block_qkv(&attention, "to_qkv", parts, [width, width])?,
            norm_q: norm("norm_q")?,
            norm_k: norm("norm_k")?,
            mlp: layers::block_linear(&vb.pp("proj_mlp"), [hidden, width])?,
            out: layers::block_linear(&vb.pp("proj_out"), [width, width + hidden])?,
        })
    }

    /// Shift, scale and gate.
    pub(super) fn modulation(&self, of: Modulate<'_>) -> Result<Modulations> {
        of(&self.modulation, 3)
    }

    /// x (n·(l + tokens), d) → the same.
    pub(super) fn forward<'a>(
        &'a self,
        x: Tokens<'a>,
        modulation: &Modulations,
        step: usize,
        rotations: &Rotations,
    ) -> Result<Tokens<'a>> {
        let (x, normal) = x.normalised_for(&self.qkv, &modulation.shift_scale(step, 0)?)?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        let stream = Stream { qkv: &qkv, norm_q: &self.norm_q, norm_k: &self.norm_k };
        let heads = kernels::qk_norm_rope(&[stream], rotations)?;
        let branches = kernels::attention_beside_mlp(&heads, &normal, &self.mlp)?;
        let gate = modulation.part(step, 2)?;
        Ok(Tokens::Branch { hidden: branches.into(), layer: &self.out, gate, residual: x })
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
    /// Where all three are one tensor.
    fused_qkv: &'static str,
    qkv: [&'static str; 3],
    norms: [&'static str; 2],
    out: &'static str,
    feed_forward: &'static str,
}

const IMAGE: StreamNames = StreamNames {
    modulation: "norm1.linear",
    fused_qkv: "to_qkv",
    qkv: ["to_q", "to_k", "to_v"],
    norms: ["norm_q", "norm_k"],
    out: "to_out.0",
    feed_forward: "ff",
};

const TEXT: StreamNames = StreamNames {
    modulation: "norm1_context.linear",
    fused_qkv: "to_added_qkv",
    qkv: ["add_q_proj", "add_k_proj", "add_v_proj"],
    norms: ["norm_added_q", "norm_added_k"],
    out: "to_add_out",
    feed_forward: "ff_context",
};

impl StreamWeights {
    fn load(config: &TransformerConfig, vb: &VarBuilder<'_>, names: &StreamNames) -> Result<Self> {
        let (width, hidden) = (config.width(), config.mlp_width());
        let attention = vb.pp("attn");
        let norm = |name| layers::rms_norm(&attention.pp(name), config.attention_head_dim, QK_EPS);
        let feed_forward = vb.pp(names.feed_forward);
        Ok(Self {
            modulation: layers::linear(&vb.pp(names.modulation), [6 * width, width])?,
            qkv: layers::block_qkv(&attention, names.fused_qkv, names.qkv, [width, width])?,
            norm_q: norm(names.norms[0])?,
            norm_k: norm(names.norms[1])?,
            out: layers::block_linear(&attention.pp(names.out), [width, width])?,
            fc1: layers::block_linear(&feed_forward.pp("net.0.proj"), [hidden, width])?,
            fc2: layers::block_linear(&feed_forward.pp("net.2"), [width, hidden])?,
        })
    }

    /// x (n·l, d) → the same, and (n·l, 3·d)
    fn qkv(
        &self,
        x: Tokens<'_>,
        modulation: &Modulations,
        step: usize,
    ) -> Result<(Tensor, Tensor)> {
        let (x, normal) = x.normalised_for(&self.qkv, &modulation.shift_scale(step, 0)?)?;
        Ok((x, kernels::linear(&normal, &self.qkv, Epilogue::None)?))
    }

    fn stream<'a>(&'a self, qkv: &'a Tensor) -> Stream<'a> {
        Stream { qkv, norm_q: &self.norm_q, norm_k: &self.norm_k }
    }

    /// x (n·l, d) and what its queries found (n·l, d) → (n·l, d)
    fn finish<'a>(
        &'a self,
        x: &Tensor,
        attended: &Tensor,
        modulation: &Modulations,
        step: usize,
    ) -> Result<Tokens<'a>> {
        let gate = modulation.part(step, 2)?;
        let (x, normal) = kernels::linear_residual_norm_for(
            &self.fc1,
            attended,
            &self.out,
            GatedResidual { gate: &gate, residual: x },
            modulation.shift_scale(step, 3)?.by(),
        )?;
        let then = Epilogue::Activate(Activation::GeluTanh);
        let hidden = kernels::linear(&normal, &self.fc1, then)?.into();
        let gate = modulation.part(step, 5)?;
        Ok(Tokens::Branch { hidden, layer: &self.fc2, gate, residual: x })
    }
}
