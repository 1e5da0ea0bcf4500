//! Every operation composed of plain candle operations: any device, any floating dtype.
//!
//! Slow and plain on purpose: this is what fused kernels are compared with. Statistics and softmax
//! are computed in f32 whatever the dtype, as diffusers' kernels do.

use candle_core::{D, DType, Device, Result, Tensor};

use super::{
    Activation, Gated, Heads, Input, Mask, Rotations, Scores, Shift, Stream, Unpacking,
    pictures_of, rows_each,
};
use crate::layers::{Conv3x3, GroupNorm, LayerNorm, Linear, RmsNorm};

pub(crate) fn linear(x: Input<'_>, layer: &Linear) -> Result<Tensor> {
    let x = plain(x)?;
    let y = x.matmul(&plain_weight(layer, x.dtype())?.t()?)?;
    layer.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
}

pub(crate) fn linear_activated(x: Input<'_>, layer: &Linear, act: Activation) -> Result<Tensor> {
    activate(&linear(x, layer)?, act)
}

pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    // (l, 2m) → 2 × (l, m)
    let halves = linear(x.into(), layer)?.chunk(2, 1)?;
    activate(&halves[0], Activation::GeluTanh)? * &halves[1]
}

pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Tensor> {
    onto + linear(x.into(), layer)?
}

pub(crate) fn linear_gated(x: &Tensor, layer: &Linear, gated: &Gated<'_>) -> Result<Tensor> {
    let y = by_picture(&linear(x.into(), layer)?, gated.gate)?;
    gated.onto + y.broadcast_mul(&gated.gate.unsqueeze(1)?)?.reshape(gated.onto.shape())?
}

pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Tensor> {
    let normal = standardise(&x.to_dtype(DType::F32)?, 1e-6)?.to_dtype(x.dtype())?;
    by_picture(&normal, by.scale)?
        .broadcast_mul(&(by.scale + 1.0)?.unsqueeze(1)?)?
        .broadcast_add(&by.shift.unsqueeze(1)?)?
        .reshape(x.shape())
}

pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    standardise(&x.to_dtype(DType::F32)?, norm.eps)?
        .to_dtype(x.dtype())?
        .broadcast_mul(&norm.weight)?
        .broadcast_add(&norm.bias)
}

pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    wide.broadcast_div(&(mean_square + norm.eps)?.sqrt()?)?
        .to_dtype(x.dtype())?
        .broadcast_mul(&norm.weight)
}

pub(crate) fn join_heads(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Heads> {
    let pictures = pictures_of(streams, rotations)?;
    let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
    for stream in streams {
        let width = stream.norm_q.weight.elem_count();
        let (rows, joined) = stream.qkv.dims2()?;
        // (n·l, 3·h·d) → (n, l, 3, h, d)
        let shape = [pictures, rows_each(rows, pictures)?, 3, joined / (3 * width), width];
        let qkv = stream.qkv.reshape(&shape[..])?;
        q.push(rms_norm(&qkv.narrow(2, 0, 1)?.squeeze(2)?, stream.norm_q)?);
        k.push(rms_norm(&qkv.narrow(2, 1, 1)?.squeeze(2)?, stream.norm_k)?);
        v.push(qkv.narrow(2, 2, 1)?.squeeze(2)?);
    }
    // (n, l₁ + l₂ + …, h, d) → (n·(l₁ + l₂ + …), h, d)
    let joined = |parts: &[Tensor]| Tensor::cat(parts, 1);
    Ok(Heads {
        q: rotate(&joined(&q)?, rotations)?.flatten(0, 1)?,
        k: rotate(&joined(&k)?, rotations)?.flatten(0, 1)?,
        v: joined(&v)?.flatten(0, 1)?,
        pictures,
    })
}

pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Tensor> {
    let [length, count, width] = heads.shape()?;
    // (n·l, h, d) → (n, h, l, d)
    let apart = (heads.pictures, length, count, width);
    let [q, k, v] =
        [&heads.q, &heads.k, &heads.v].map(|x| x.reshape(apart)?.transpose(1, 2)?.contiguous());
    let products = q?.matmul(&k?.t()?)?.to_dtype(DType::F32)?;
    let products = (products * f64::from(scores.scale))?;
    let products = match scores.mask {
        Mask::None => products,
        Mask::Causal => products.broadcast_add(&causal(length, heads.q.device())?)?,
        Mask::Bias(bias) => products.broadcast_add(&bias.to_dtype(DType::F32)?)?,
    };
    let weights = softmax(&products)?.to_dtype(heads.q.dtype())?;
    // (n, h, l, d) → (n·l, h·d)
    weights.matmul(&v?)?.transpose(1, 2)?.reshape((heads.pictures * length, count * width))
}

pub(crate) fn attention_beside_mlp(heads: &Heads, x: Input<'_>, mlp: &Linear) -> Result<Tensor> {
    let attended = attention(heads, &Scores::scaled(heads.q.dim(2)?))?;
    Tensor::cat(&[attended, linear_activated(x, mlp, Activation::GeluTanh)?], 1)
}

pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    activate(&group_norm(x, norm)?, Activation::Silu)
}

pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    // (h, w, c) → (g, c/g · h · w)
    let grouped = x
        .to_dtype(DType::F32)?
        .permute((2, 0, 1))?
        .reshape((norm.groups, channels / norm.groups * height * width))?;
    standardise(&grouped, GroupNorm::EPS)?
        .reshape((channels, height, width))?
        .permute((1, 2, 0))?
        .contiguous()?
        .to_dtype(x.dtype())?
        .broadcast_mul(&norm.weight)?
        .broadcast_add(&norm.bias)
}

pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    // (h, w, c) → (1, c, h, w), and the weight (o, 3, 3, c) → (o, c, 3, 3)
    let planes = x.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)?;
    let weight = conv.weight.permute((0, 3, 1, 2))?.contiguous()?;
    // (1, o, h, w) → (h, w, o)
    let y = planes.conv2d(&weight, 1, 1, 1, 1)?.squeeze(0)?.permute((1, 2, 0))?.contiguous()?;
    y.broadcast_add(&conv.bias)
}

pub(crate) fn conv3x3_onto(x: &Tensor, conv: &Conv3x3, onto: &Tensor) -> Result<Tensor> {
    onto + conv3x3(x, conv)?
}

pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    // (h, w, c) → (h, 2, w, 2, c) → (2h, 2w, c)
    let doubled = x
        .reshape((height, 1, width, 1, channels))?
        .broadcast_as((height, 2, width, 2, channels))?
        .reshape((2 * height, 2 * width, channels))?;
    conv3x3(&doubled, conv)
}

pub(crate) fn unpack(tokens: &Tensor, how: &Unpacking) -> Result<Tensor> {
    ((how.grid.unpack(tokens)? / how.scaling)? + how.shift)?.to_dtype(how.dtype)
}

/// Rows as they were before they were stored in e4m3, as far as that is known: (l, in).
pub(crate) fn plain(x: Input<'_>) -> Result<Tensor> {
    match x.row_scales {
        None => Ok(x.values.clone()),
        Some(scales) => dequantised(x.values, scales)?.to_dtype(DType::BF16),
    }
}

/// A layer's weight as it was before it was stored in e4m3, as far as that is known: (out, in).
fn plain_weight(layer: &Linear, dtype: DType) -> Result<Tensor> {
    match &layer.row_scales {
        None => Ok(layer.weight.clone()),
        Some(scales) => dequantised(&layer.weight, scales)?.to_dtype(dtype),
    }
}

/// e4m3 (l, d) and a scale for each row → f32
pub(crate) fn dequantised(values: &Tensor, scales: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if values.device().is_cuda() {
        return Ok(kernels::cuda::dequantise_rows(values, scales)?);
    }
    values.to_dtype(DType::F32)?.broadcast_mul(&scales.unsqueeze(1)?)
}

/// x (n·l, d) → (n, l, d), as many pictures as `of` has rows.
fn by_picture(x: &Tensor, of: &Tensor) -> Result<Tensor> {
    let ((rows, width), pictures) = (x.dims2()?, of.dim(0)?);
    x.reshape((pictures, rows_each(rows, pictures)?, width))
}

/// (x − mean) / √(var + ε) over the last dimension, f32.
fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

fn activate(x: &Tensor, act: Activation) -> Result<Tensor> {
    match act {
        Activation::GeluTanh => x.gelu(),
        Activation::GeluErf => x.gelu_erf(),
        Activation::Relu => x.relu(),
        Activation::QuickGelu => x / ((x * -1.702)?.exp()? + 1.0)?,
        Activation::Silu => x.silu(),
    }
}

/// Rotates each pair of neighbours (x₂ᵢ, x₂ᵢ₊₁) of a head by its angle, in f32. x (n, l, h, d).
fn rotate(x: &Tensor, rotations: &Rotations) -> Result<Tensor> {
    let (pictures, length, count, width) = x.dims4()?;
    // (n, l, h, d) → (n, l, h, d/2, 2)
    let shape = [pictures, length, count, width / 2, 2];
    let pairs = x.to_dtype(DType::F32)?.reshape(&shape[..])?;
    let (even, odd) = (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?);
    let (cos, sin) = (rotations.cos.unsqueeze(1)?, rotations.sin.unsqueeze(1)?);
    let real = (even.broadcast_mul(&cos)? - odd.broadcast_mul(&sin)?)?;
    let imaginary = (odd.broadcast_mul(&cos)? + even.broadcast_mul(&sin)?)?;
    // 2 × (n, l, h, d/2) → (n, l, h, d/2, 2) → (n, l, h, d)
    Tensor::stack(&[real, imaginary], 4)?.reshape(x.shape())?.to_dtype(x.dtype())
}

/// (l, l): 0 where the key is not behind the query, −∞ elsewhere.
fn causal(length: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..length * length)
        .map(|i| if i % length > i / length { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_vec(mask, (length, length), device)
}

/// Over the last dimension, f32.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let weights = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}
