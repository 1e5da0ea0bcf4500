//! The same operations as kernels on a GPU: bf16 for speed, f32 where there is a kernel for it.
//!
//! Each returns `None` where the kernels have nothing for such tensors, or where the operator turned
//! them off: then the reference computes. `doctor` compares the two.

use std::cell::Cell;

use candle_core::{Result, Tensor};

use super::{
    Activation, Gated, Heads, Input, Mask, Normalised, Rotations, Scores, Shift, Stream, Unpacking,
    switches::{Kernel, is_on},
};
use crate::{
    latents::Grid,
    layers::{GroupNorm, LayerNorm, Linear, RmsNorm},
};

pub(crate) fn linear(x: Input<'_>, layer: &Linear) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::cuda::Then::Nothing)
}

pub(crate) fn linear_activated(
    x: Input<'_>,
    layer: &Linear,
    act: Activation,
) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::cuda::Then::Activate(act.into()))
}

pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Option<Tensor>> {
    let Some(both) = linear(x.into(), layer)? else { return Ok(None) };
    run(Kernel::Linear, || kernels::cuda::gated_gelu(&both))
}

pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Option<Tensor>> {
    linear_then(x.into(), layer, kernels::cuda::Then::Add(onto))
}

pub(crate) fn linear_gated(
    x: &Tensor,
    layer: &Linear,
    gated: &Gated<'_>,
) -> Result<Option<Tensor>> {
    let then = kernels::cuda::Then::Gate { gate: gated.gate, onto: gated.onto };
    linear_then(x.into(), layer, then)
}

fn linear_then(
    x: Input<'_>,
    layer: &Linear,
    then: kernels::cuda::Then<'_>,
) -> Result<Option<Tensor>> {
    run(Kernel::Linear, || kernels::cuda::linear(x.into(), &layer.into(), then))
}

pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Option<Tensor>> {
    run(Kernel::Norm, || kernels::cuda::layer_norm(x, &by.into(), 1e-6))
}

/// The same, quantised where it is made.
pub(crate) fn layer_norm_shift_e4m3(x: &Tensor, by: &Shift<'_>) -> Result<Option<Normalised>> {
    let made = run(Kernel::Norm, || kernels::cuda::layer_norm_e4m3(x, &by.into(), 1e-6))?;
    Ok(made.map(|(values, scales)| Normalised { values, row_scales: Some(scales) }))
}

pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Option<Tensor>> {
    let affine = kernels::cuda::Affine::Weights { weight: &norm.weight, bias: &norm.bias };
    run(Kernel::Norm, || kernels::cuda::layer_norm(x, &affine, norm.eps))
}

pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
    run(Kernel::Norm, || kernels::cuda::rms_norm(x, &norm.weight, norm.eps))
}

pub(crate) fn join_heads(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Option<Heads>> {
    let pictures = super::pictures_of(streams, rotations)?;
    let streams: Vec<kernels::cuda::Stream<'_>> = streams
        .iter()
        .map(|stream| kernels::cuda::Stream {
            qkv: stream.qkv,
            norm_q: (&stream.norm_q.weight, stream.norm_q.eps),
            norm_k: (&stream.norm_k.weight, stream.norm_k.eps),
        })
        .collect();
    let rotations = kernels::cuda::Rotations { cos: &rotations.cos, sin: &rotations.sin };
    let heads = run(Kernel::Heads, || kernels::cuda::join_heads(&streams, &rotations))?;
    Ok(heads.map(|[q, k, v]| Heads { q, k, v, pictures }))
}

pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Option<Tensor>> {
    match scores.mask {
        Mask::None => match fused_attention(heads, scores.scale)? {
            Some(attended) => Ok(Some(attended)),
            None => attention_in_memory(heads, scores.scale, kernels::cuda::Bias::None),
        },
        Mask::Causal => attention_in_memory(heads, scores.scale, kernels::cuda::Bias::Causal),
        Mask::Bias(bias) => {
            attention_in_memory(heads, scores.scale, kernels::cuda::Bias::Tensor(bias))
        }
    }
}

/// Scores that are never in memory: cuDNN's, in bf16.
#[cfg(feature = "cudnn")]
fn fused_attention(heads: &Heads, scale: f32) -> Result<Option<Tensor>> {
    let heads = kernels::cuda::Heads::from(heads);
    if !heads.support_fused_attention() {
        return Ok(None);
    }
    run(Kernel::Attention, || kernels::cuda::attention(&heads, scale))
}

#[cfg(not(feature = "cudnn"))]
fn fused_attention(_: &Heads, _: f32) -> Result<Option<Tensor>> {
    Ok(None)
}

/// With the scores in memory. For the text encoders, whose sequences are short: cuDNN's fused
/// attention takes no bias before its version 9.21. And for heads that no fast kernel is wide
/// enough for: the autoencoder's single one of 512.
fn attention_in_memory(
    heads: &Heads,
    scale: f32,
    bias: kernels::cuda::Bias<'_>,
) -> Result<Option<Tensor>> {
    run(Kernel::Softmax, || kernels::cuda::attention_in_memory(&heads.into(), scale, bias))
}

pub(crate) fn attention_beside_mlp(
    heads: &Heads,
    x: Input<'_>,
    mlp: &Linear,
) -> Result<Option<Tensor>> {
    #[cfg(feature = "cudnn")]
    let fused = kernels::cuda::Heads::from(heads);
    #[cfg(feature = "cudnn")]
    if is_on(Kernel::Linear) && fused.support_fused_attention() {
        let side_by_side = run(Kernel::Attention, || {
            kernels::cuda::attention_beside_mlp(&fused, x.into(), &mlp.into())
        })?;
        if side_by_side.is_some() {
            return Ok(side_by_side);
        }
    }
    let attended = attention(heads, &Scores::scaled(heads.q.dim(2)?))?;
    let hidden = linear_activated(x, mlp, Activation::GeluTanh)?;
    let (Some(attended), Some(hidden)) = (attended, hidden) else { return Ok(None) };
    Ok(Some(Tensor::cat(&[attended, hidden], 1)?))
}

pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    let then = Some(kernels::cuda::Activation::Silu);
    run(Kernel::GroupNorm, || kernels::cuda::group_norm(x, &norm.into(), then))
}

pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    run(Kernel::GroupNorm, || kernels::cuda::group_norm(x, &norm.into(), None))
}

#[cfg(feature = "cudnn")]
mod convolution {
    use super::{Kernel, Result, Tensor, run};
    use crate::layers::Conv3x3;

    pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::cuda::conv3x3(x, &conv.into()))
    }

    pub(crate) fn conv3x3_onto(
        x: &Tensor,
        conv: &Conv3x3,
        onto: &Tensor,
    ) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::cuda::conv3x3_onto(x, &conv.into(), onto))
    }

    pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::cuda::conv3x3(&kernels::cuda::doubled(x)?, &conv.into()))
    }

    impl<'a> From<&'a Conv3x3> for kernels::cuda::Conv3x3<'a> {
        fn from(conv: &'a Conv3x3) -> Self {
            Self { weight: &conv.weight, bias: &conv.bias }
        }
    }
}

#[cfg(feature = "cudnn")]
pub(crate) use convolution::{conv3x3, conv3x3_onto, upsample_conv3x3};

/// tokens (rows·columns, 4·c), f32 → latent pixels (h, w, c).
pub(crate) fn unpack(tokens: &Tensor, how: &Unpacking) -> Result<Option<Tensor>> {
    let Grid { rows, columns, channels } = how.grid;
    let how = kernels::cuda::Unpacking {
        grid: [rows, columns],
        channels,
        scaling: how.scaling,
        shift: how.shift,
        dtype: how.dtype,
    };
    run(Kernel::Picture, || kernels::cuda::unpack(tokens, &how))
}

/// picture (h, w, 3) in −1 to 1 → 8 bits, (h, w, 3).
pub(crate) fn to_bytes(picture: &Tensor) -> Result<Option<Tensor>> {
    run(Kernel::Picture, || kernels::cuda::to_bytes(picture))
}

/// Replaces a layer's weight by e4m3 values with a scale for each row, about half as large.
pub(crate) fn quantise(layer: &mut Linear) -> Result<()> {
    let (weight, row_scales) = kernels::cuda::quantise_rows(&layer.weight)?;
    (layer.weight, layer.row_scales) = (weight, Some(row_scales));
    Ok(())
}

/// A kernel's result, or `None` where it is off or there is none for such tensors.
fn run<T>(
    kernel: Kernel,
    call: impl FnOnce() -> std::result::Result<T, kernels::cuda::Error>,
) -> Result<Option<T>> {
    if !is_on(kernel) {
        return Ok(None);
    }
    match call() {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_unsupported() => {
            REFUSAL.set(Some(error.to_string()));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

thread_local! {
    /// Why a kernel was last not there, for those who ask.
    static REFUSAL: Cell<Option<String>> = const { Cell::new(None) };
}

/// Why the last kernel that was not there was not, on this thread; `None` where it is turned off.
pub(crate) fn take_refusal() -> Option<String> {
    REFUSAL.take()
}

impl<'a> From<&Shift<'a>> for kernels::cuda::Affine<'a> {
    fn from(by: &Shift<'a>) -> Self {
        Self::Modulation { scale: by.scale, shift: by.shift }
    }
}

impl<'a> From<Input<'a>> for kernels::cuda::Input<'a> {
    fn from(Input { values, row_scales }: Input<'a>) -> Self {
        Self { values, row_scales }
    }
}

impl<'a> From<&'a Linear> for kernels::cuda::Linear<'a> {
    fn from(layer: &'a Linear) -> Self {
        Self {
            weight: &layer.weight,
            bias: layer.bias.as_ref(),
            row_scales: layer.row_scales.as_ref(),
        }
    }
}

impl<'a> From<&'a GroupNorm> for kernels::cuda::GroupNorm<'a> {
    fn from(norm: &'a GroupNorm) -> Self {
        Self { weight: &norm.weight, bias: &norm.bias, groups: norm.groups, eps: GroupNorm::EPS }
    }
}

impl<'a> From<&'a Heads> for kernels::cuda::Heads<'a> {
    fn from(heads: &'a Heads) -> Self {
        Self { q: &heads.q, k: &heads.k, v: &heads.v, pictures: heads.pictures }
    }
}

impl From<Activation> for kernels::cuda::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::GeluTanh => Self::GeluTanh,
            Activation::GeluErf => Self::GeluErf,
            Activation::QuickGelu => Self::QuickGelu,
            Activation::Relu => Self::Relu,
            Activation::Silu => Self::Silu,
        }
    }
}
