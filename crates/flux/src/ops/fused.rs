//! Each operation's fused kernel, where the device of its tensors has one; `None` where it has not,
//! and the composed reference computes. `doctor` compares the two.

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{
    Activation, Gated, Heads, Input, Normalised, Rotations, Scores, Shift, Stream, Unpacking, cpu,
};
use crate::layers::{Conv3x3, GroupNorm, LayerNorm, Linear, RmsNorm};

/// Asks the tensor's device; what ends in «cudnn» has a GPU's kernel only in builds with cuDNN.
macro_rules! ask {
    ($x:expr, $op:ident($($argument:expr),*)) => {{
        #[cfg(feature = "cuda")]
        if $x.device().is_cuda() {
            return cuda::$op($($argument),*);
        }
        ask_cpu!($x, $op($($argument),*))
    }};
    ($x:expr, $op:ident($($argument:expr),*), cudnn) => {{
        #[cfg(feature = "cudnn")]
        if $x.device().is_cuda() {
            return cuda::$op($($argument),*);
        }
        ask_cpu!($x, $op($($argument),*))
    }};
}

macro_rules! ask_cpu {
    ($x:expr, $op:ident($($argument:expr),*)) => {
        if is_fast_on_cpu($x) { cpu::$op($($argument),*).map(Some) } else { Ok(None) }
    };
}

fn is_fast_on_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

pub(crate) fn linear(x: Input<'_>, layer: &Linear) -> Result<Option<Tensor>> {
    ask!(x.values, linear(x, layer))
}

pub(crate) fn linear_activated(
    x: Input<'_>,
    layer: &Linear,
    act: Activation,
) -> Result<Option<Tensor>> {
    ask!(x.values, linear_activated(x, layer, act))
}

pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Option<Tensor>> {
    ask!(x, linear_gated_gelu(x, layer))
}

pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Option<Tensor>> {
    ask!(x, linear_onto(x, layer, onto))
}

pub(crate) fn linear_gated(
    x: &Tensor,
    layer: &Linear,
    gated: &Gated<'_>,
) -> Result<Option<Tensor>> {
    ask!(x, linear_gated(x, layer, gated))
}

pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Option<Tensor>> {
    ask!(x, layer_norm_shift(x, by))
}

/// There is no composed form: what computes in 8 bits is a GPU.
pub(crate) fn layer_norm_shift_e4m3(x: &Tensor, by: &Shift<'_>) -> Result<Option<Normalised>> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::layer_norm_shift_e4m3(x, by);
    }
    let _ = (x, by);
    Ok(None)
}

pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Option<Tensor>> {
    ask!(x, layer_norm(x, norm))
}

pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
    ask!(x, rms_norm(x, norm))
}

pub(crate) fn join_heads(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Option<Heads>> {
    ask!(streams[0].qkv, join_heads(streams, rotations))
}

pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Option<Tensor>> {
    ask!(&heads.q, attention(heads, scores))
}

pub(crate) fn attention_beside_mlp(
    heads: &Heads,
    x: Input<'_>,
    mlp: &Linear,
) -> Result<Option<Tensor>> {
    ask!(x.values, attention_beside_mlp(heads, x, mlp))
}

pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    ask!(x, group_norm_silu(x, norm))
}

pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Option<Tensor>> {
    ask!(x, group_norm(x, norm))
}

pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
    ask!(x, conv3x3(x, conv), cudnn)
}

pub(crate) fn conv3x3_onto(x: &Tensor, conv: &Conv3x3, onto: &Tensor) -> Result<Option<Tensor>> {
    ask!(x, conv3x3_onto(x, conv, onto), cudnn)
}

pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Option<Tensor>> {
    ask!(x, upsample_conv3x3(x, conv), cudnn)
}

/// On a CPU the composed form is a copy, which nothing improves on.
pub(crate) fn unpack(tokens: &Tensor, how: &Unpacking) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if tokens.device().is_cuda() {
        return cuda::unpack(tokens, how);
    }
    let _ = (tokens, how);
    Ok(None)
}

pub(crate) fn to_bytes(picture: &Tensor) -> Result<Option<Tensor>> {
    #[cfg(feature = "cuda")]
    if picture.device().is_cuda() {
        return cuda::to_bytes(picture);
    }
    let _ = picture;
    Ok(None)
}
