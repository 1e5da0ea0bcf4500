//! The transformer's two kinds of block.

use candle_core::Tensor;
use kernels::{
    Activation, Epilogue, GatedResidual, Heads, LayerInput, Linear, RmsNorm, Rotations, Scores,
    Stream,
};

use super::{
    modulation::{Modulations, ShiftScale},
    rows::of_each,
};
use crate::Result;

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

/// What a feed-forward does between its two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mlp {
    /// gelu(x), in its tanh form.
    Gelu,
    /// silu(first half) · second half.
    SwiGlu,
}

impl Mlp {
    /// x (n·l, d) → (n·l, m)
    fn hidden(self, x: &LayerInput, layer: &Linear) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => kernels::linear(x, layer, Epilogue::Activate(Activation::GeluTanh))?,
            Self::SwiGlu => kernels::linear_gated(x, layer, Activation::Silu)?,
        })
    }

    /// Attention, then the same, side by side: (n·l, d + m)
    fn beside_attention(self, heads: &Heads, x: &LayerInput, layer: &Linear) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => kernels::attention_beside_mlp(heads, x, layer)?,
            Self::SwiGlu => kernels::attention_beside_gated_mlp(heads, x, layer, Activation::Silu)?,
        })
    }
}

/// Text and image each with weights of their own; they meet in the attention.
pub(super) struct DoubleBlock {
    pub(super) image: StreamWeights,
    pub(super) text: StreamWeights,
}

impl DoubleBlock {
    /// image (n·tokens, d), text (n·l, d) → both again. The modulation of each: shift, scale, gate of the
    /// attention, then of the feed-forward.
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
        let scores = Scores::scaled(heads.q.dim(2)?);
        let attended = kernels::attention_between(&heads, scores, &self.image.out)?;
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
    /// Queries, keys and values side by side.
    pub(super) qkv: Linear,
    pub(super) norm_q: RmsNorm,
    pub(super) norm_k: RmsNorm,
    pub(super) mlp: Mlp,
    pub(super) fc1: Linear,
    /// From attention and feed-forward side by side.
    pub(super) out: Linear,
}

impl SingleBlock {
    /// x (n·(l + tokens), d) → the same. The modulation: shift, scale and gate.
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
        let branches = self.mlp.beside_attention(&heads, &normal, &self.fc1)?;
        let gate = modulation.part(step, 2)?;
        Ok(Tokens::Branch { hidden: branches.into(), layer: &self.out, gate, residual: x })
    }
}

/// One stream of a double block.
pub(super) struct StreamWeights {
    /// Queries, keys and values side by side.
    pub(super) qkv: Linear,
    pub(super) norm_q: RmsNorm,
    pub(super) norm_k: RmsNorm,
    pub(super) out: Linear,
    pub(super) mlp: Mlp,
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
}

impl StreamWeights {
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
        let hidden = self.mlp.hidden(&normal, &self.fc1)?.into();
        let gate = modulation.part(step, 5)?;
        Ok(Tokens::Branch { hidden, layer: &self.fc2, gate, residual: x })
    }
}
