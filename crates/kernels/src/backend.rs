//! What each backend may have a kernel for.
//!
//! A backend is a file that implements as many methods as it has kernels for: one that is absent, or answers
//! `None`, leaves the operation to the [reference](crate::reference).

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::operand::{
    Activation, Affine, Conv3x3, ConvForm, Epilogue, GatedResidual, GroupNorm, Heads, Input,
    LayerInput, Linear, PackedWeight, RmsNorm, Rotations, Scores, Stream, Unpacking,
};

/// Kernels for the tensors of one device. `None`: the reference computes.
#[allow(unused_variables, reason = "a method that is absent looks at nothing")]
pub trait Backend {
    /// See [`ops::linear`](crate::ops::linear).
    fn linear(&self, x: Input<'_>, layer: &Linear, then: Epilogue<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::linear_gated`](crate::ops::linear_gated).
    fn linear_gated(
        &self,
        x: Input<'_>,
        layer: &Linear,
        gate: Activation,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// x (n·l, d) → (x − mean) / √(var + ε), then `affine`.
    fn layer_norm(&self, x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// The same as e4m3 with a scale for each row, of bf16.
    fn layer_norm_e4m3(
        &self,
        x: &Tensor,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<LayerInput>> {
        Ok(None)
    }

    /// branch (n·l, d) → x = residual + gate ∘ branch, and [`Self::layer_norm`] of x. Behind the branch's
    /// product, where that does not end with the sum.
    fn residual_norm(
        &self,
        branch: &Tensor,
        onto: GatedResidual<'_>,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    /// The same with the normalised rows as e4m3 with a scale for each, of bf16.
    fn residual_norm_e4m3(
        &self,
        branch: &Tensor,
        onto: GatedResidual<'_>,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<(Tensor, LayerInput)>> {
        Ok(None)
    }

    /// Whether it has these two.
    fn has_residual_norm(&self) -> Result<bool> {
        Ok(false)
    }

    /// See [`ops::rms_norm`](crate::ops::rms_norm).
    fn rms_norm(&self, x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::qk_norm_rope`](crate::ops::qk_norm_rope).
    fn qk_norm_rope(&self, streams: &[Stream<'_>], angles: &Rotations) -> Result<Option<Heads>> {
        Ok(None)
    }

    /// See [`ops::attention`](crate::ops::attention).
    fn attention(&self, heads: &Heads, scores: Scores<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::attention_between`](crate::ops::attention_between).
    fn attention_between(
        &self,
        heads: &Heads,
        scores: Scores<'_>,
        _layer: &Linear,
    ) -> Result<Option<Tensor>> {
        self.attention(heads, scores)
    }

    /// See [`ops::attention_beside_mlp`](crate::ops::attention_beside_mlp).
    fn attention_beside_mlp(
        &self,
        heads: &Heads,
        x: Input<'_>,
        mlp: &Linear,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::group_norm`](crate::ops::group_norm).
    fn group_norm(
        &self,
        x: &Tensor,
        norm: &GroupNorm,
        then: Option<Activation>,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::conv3x3`](crate::ops::conv3x3).
    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::unpack`](crate::ops::unpack).
    fn unpack(&self, tokens: &Tensor, how: Unpacking) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::to_bytes`](crate::ops::to_bytes).
    fn to_bytes(&self, image: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A layer's weight (out, in) in the order in which its product reads it.
    fn pack_linear(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(None)
    }

    /// A convolution's weight (out, 3, 3, in) likewise.
    fn pack_conv3x3(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(None)
    }

    /// See [`ops::quantise_rows`](crate::ops::quantise_rows).
    fn quantise_rows(&self, x: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    /// e4m3 values (l, d) and scales (l,) → value · scale: (l, d), f32.
    fn dequantise_rows(&self, values: &Tensor, scales: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// See [`ops::wipe`](crate::ops::wipe).
    fn wipe(&self, x: &Tensor) -> Result<Option<()>> {
        Ok(None)
    }
}
