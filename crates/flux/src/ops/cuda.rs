//! The same operations as kernels on a GPU: bf16 for speed, f32 where there is a kernel for it.
//!
//! Each returns `None` where the kernels have nothing for such tensors, or where the operator turned
//! them off: then the reference computes. [`crate::Doctor`] compares the two.

use candle_core::{Result, Tensor};

use super::{
    Activation, Gated, Heads, Mask, Rotations, Scores, Shift, Stream,
    switches::{Kernel, is_on},
};
use crate::layers::{GroupNorm, LayerNorm, Linear, RmsNorm};

pub(crate) fn linear(x: &Tensor, layer: &Linear) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::Then::Nothing)
}

pub(crate) fn linear_activated(
    x: &Tensor,
    layer: &Linear,
    act: Activation,
) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::Then::Activate(act.into()))
}

pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Option<Tensor>> {
    let Some(both) = linear(x, layer)? else { return Ok(None) };
    run(Kernel::Linear, || kernels::gated_gelu(&both))
}

pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::Then::Add(onto))
}

pub(crate) fn linear_gated(
    x: &Tensor,
    layer: &Linear,
    gated: &Gated<'_>,
) -> Result<Option<Tensor>> {
    linear_then(x, layer, kernels::Then::Gate { gate: gated.gate, onto: gated.onto })
}

fn linear_then(x: &Tensor, layer: &Linear, then: kernels::Then<'_>) -> Result<Option<Tensor>> {
    run(Kernel::Linear, || kernels::linear(x, &layer.into(), then))
}

pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Option<Tensor>> {
    let affine = kernels::Affine::Modulation { scale: by.scale, shift: by.shift };
    run(Kernel::Norm, || kernels::layer_norm(x, &affine, 1e-6))
}

pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Option<Tensor>> {
    let affine = kernels::Affine::Weights { weight: &norm.weight, bias: &norm.bias };
    run(Kernel::Norm, || kernels::layer_norm(x, &affine, norm.eps))
}

pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
    run(Kernel::Norm, || kernels::rms_norm(x, &norm.weight, norm.eps))
}

pub(crate) fn join_heads(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Option<Heads>> {
    let streams: Vec<kernels::Stream<'_>> = streams
        .iter()
        .map(|stream| kernels::Stream {
            qkv: stream.qkv,
            norm_q: (&stream.norm_q.weight, stream.norm_q.eps),
            norm_k: (&stream.norm_k.weight, stream.norm_k.eps),
        })
        .collect();
    let rotations = kernels::Rotations { cos: &rotations.cos, sin: &rotations.sin };
    let heads = run(Kernel::Heads, || kernels::join_heads(&streams, &rotations))?;
    Ok(heads.map(|[q, k, v]| Heads { q, k, v }))
}

pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Option<Tensor>> {
    match scores.mask {
        #[cfg(feature = "cudnn")]
        Mask::None => run(Kernel::Attention, || {
            kernels::attention(&heads.q, &heads.k, &heads.v, scores.scale)
        }),
        #[cfg(not(feature = "cudnn"))]
        Mask::None => Ok(None),
        Mask::Causal => masked_attention(heads, scores.scale, kernels::Bias::Causal),
        Mask::Bias(bias) => masked_attention(heads, scores.scale, kernels::Bias::Tensor(bias)),
    }
}

/// With the scores in memory: the text encoders' sequences are short, and cuDNN's fused attention
/// takes no bias before its version 9.21.
fn masked_attention(heads: &Heads, scale: f32, bias: kernels::Bias<'_>) -> Result<Option<Tensor>> {
    let (length, count, width) = heads.q.dims3()?;
    // (l, h, d) → (h, l, d)
    let [q, k, v] = [&heads.q, &heads.k, &heads.v].map(|x| x.transpose(0, 1)?.contiguous());
    let products = q?.matmul(&k?.t()?)?;
    let weights = run(Kernel::Softmax, || kernels::softmax(&products, scale, bias))?;
    let Some(weights) = weights else { return Ok(None) };
    // (h, l, d) → (l, h·d)
    Ok(Some(weights.matmul(&v?)?.transpose(0, 1)?.reshape((length, count * width))?))
}

#[cfg(feature = "cudnn")]
pub(crate) fn attention_beside_mlp(
    heads: &Heads,
    x: &Tensor,
    mlp: &Linear,
) -> Result<Option<Tensor>> {
    if !is_on(Kernel::Linear) {
        return Ok(None);
    }
    let heads = [&heads.q, &heads.k, &heads.v];
    run(Kernel::Attention, || kernels::attention_beside_mlp(heads, x, &mlp.into()))
}

pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    let then = Some(kernels::Activation::Silu);
    run(Kernel::GroupNorm, || kernels::group_norm(x, &norm.into(), then))
}

pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    run(Kernel::GroupNorm, || kernels::group_norm(x, &norm.into(), None))
}

#[cfg(feature = "cudnn")]
mod convolution {
    use super::{Kernel, Result, Tensor, run};
    use crate::layers::Conv3x3;

    pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::conv3x3(x, &conv.into()))
    }

    pub(crate) fn conv3x3_onto(
        x: &Tensor,
        conv: &Conv3x3,
        onto: &Tensor,
    ) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::conv3x3_onto(x, &conv.into(), onto))
    }

    pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
        run(Kernel::Conv, || kernels::conv3x3(&kernels::doubled(x)?, &conv.into()))
    }

    impl<'a> From<&'a Conv3x3> for kernels::Conv3x3<'a> {
        fn from(conv: &'a Conv3x3) -> Self {
            Self { weight: &conv.weight, bias: &conv.bias }
        }
    }
}

#[cfg(feature = "cudnn")]
pub(crate) use convolution::{conv3x3, conv3x3_onto, upsample_conv3x3};

/// picture (h, w, 3) in −1 to 1 → 8 bits, (h, w, 3).
pub(crate) fn to_bytes(picture: &Tensor) -> Result<Option<Tensor>> {
    run(Kernel::Picture, || kernels::to_bytes(picture))
}

/// Replaces a layer's weight by e4m3 values with a scale for each row, about half as large.
pub(crate) fn quantise(layer: &mut Linear) -> Result<()> {
    let (weight, row_scales) = kernels::quantise_rows(&layer.weight)?;
    (layer.weight, layer.row_scales) = (weight, Some(row_scales));
    Ok(())
}

/// A kernel's result, or `None` where it is off or there is none for such tensors.
fn run<T>(
    kernel: Kernel,
    call: impl FnOnce() -> std::result::Result<T, kernels::Error>,
) -> Result<Option<T>> {
    if !is_on(kernel) {
        return Ok(None);
    }
    match call() {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_unsupported() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl<'a> From<&'a Linear> for kernels::Linear<'a> {
    fn from(layer: &'a Linear) -> Self {
        Self {
            weight: &layer.weight,
            bias: layer.bias.as_ref(),
            row_scales: layer.row_scales.as_ref(),
        }
    }
}

impl<'a> From<&'a GroupNorm> for kernels::GroupNorm<'a> {
    fn from(norm: &'a GroupNorm) -> Self {
        Self { weight: &norm.weight, bias: &norm.bias, groups: norm.groups, eps: GroupNorm::EPS }
    }
}

impl From<Activation> for kernels::Activation {
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
