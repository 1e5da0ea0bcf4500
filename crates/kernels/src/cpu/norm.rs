//! Normalisations, each in one pass over a row that stays in the nearest cache.

use candle_core::{DType, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    element::Element,
    linear::MIN_ROWS,
    matrix::Elements,
    simd::{Elementwise, Identity, Silu, sum, sum_of_squares, vectorised},
};
use crate::operand::{Affine, GroupNorm, RmsNorm, rows_each};

pub(super) fn layer_norm(x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Tensor> {
    let eps = eps as f32;
    match affine {
        Affine::Modulation(by) => {
            let (shift, scale) = (Elements::of(by.shift), Elements::of(by.scale));
            let (shift, scale) = (shift.wide()?, scale.wide()?);
            let each = rows_each(x.dim(0)?, by.scale.dim(0)?)?;
            each_row(x, |i, x, y| {
                standardise(x, y, eps);
                let of_image = i / each * x.len()..(i / each + 1) * x.len();
                scale_and_shift(y, &scale[of_image.clone()], &shift[of_image]);
            })
        }
        Affine::Weights { weight, bias } => {
            let (weight, bias) = (Elements::of(weight), Elements::of(bias));
            let (weight, bias) = (weight.wide()?, bias.wide()?);
            each_row(x, |_, x, y| {
                standardise(x, y, eps);
                scale_and_add(y, &weight, &bias);
            })
        }
    }
}

pub(super) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    let weight = Elements::of(&norm.weight);
    let weight = weight.wide()?;
    each_row(x, |_, x, y| divide_by_rms(x, y, &weight, norm.eps as f32))
}

pub(super) fn group_norm(x: &Tensor, norm: &GroupNorm, silu: bool) -> Result<Tensor> {
    match (x.dtype(), silu) {
        (DType::BF16, true) => each_channel::<bf16, Silu>(x, norm),
        (DType::BF16, false) => each_channel::<bf16, Identity>(x, norm),
        (_, true) => each_channel::<f32, Silu>(x, norm),
        (_, false) => each_channel::<f32, Identity>(x, norm),
    }
}

/// 1/√(mean(x²) + ε)
#[inline(always)]
pub(super) fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    (sum_of_squares(row, 0.0) / row.len() as f32 + eps).sqrt().recip()
}

vectorised! {
    /// y ← (x − mean) / √(variance + ε)
    fn standardise<'a>(x: &'a [f32], y: &'a mut [f32], eps: f32) {
        let width = x.len() as f32;
        let mean = sum(x) / width;
        let factor = (sum_of_squares(x, mean) / width + eps).sqrt().recip();
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * factor;
        }
    }
}

vectorised! {
    /// y ← y · (1 + scale) + shift
    fn scale_and_shift<'a>(y: &'a mut [f32], scale: &'a [f32], shift: &'a [f32]) {
        for ((y, scale), shift) in y.iter_mut().zip(scale).zip(shift) {
            *y = y.mul_add(1.0 + scale, *shift);
        }
    }
}

vectorised! {
    /// y ← y · weight + bias
    fn scale_and_add<'a>(y: &'a mut [f32], weight: &'a [f32], bias: &'a [f32]) {
        for ((y, w), b) in y.iter_mut().zip(weight).zip(bias) {
            *y = y.mul_add(*w, *b);
        }
    }
}

vectorised! {
    /// y ← x / √(mean(x²) + ε) · weight
    fn divide_by_rms<'a>(x: &'a [f32], y: &'a mut [f32], weight: &'a [f32], eps: f32) {
        let factor = inverse_rms(x, eps);
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * factor * w;
        }
    }
}

vectorised! {
    /// y ← F(x · factor + offset), channel by channel.
    fn scale_channels<'a, F: Elementwise>(
        x: &'a [f32],
        y: &'a mut [f32],
        factor: &'a [f32],
        offset: &'a [f32],
    ) {
        let channels = factor.len();
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for (((y, x), a), b) in y.iter_mut().zip(x).zip(factor).zip(offset) {
                *y = F::apply(x.mul_add(*a, *b));
            }
        }
    }
}

vectorised! {
    /// Adds Σx of each channel to `plain`, Σx² to `squared`.
    fn add_channel_sums<'a>(x: &'a [f32], plain: &'a mut [f32], squared: &'a mut [f32]) {
        for pixel in x.chunks_exact(plain.len()) {
            for ((plain, squared), x) in plain.iter_mut().zip(squared.iter_mut()).zip(pixel) {
                *plain += x;
                *squared = x.mul_add(*x, *squared);
            }
        }
    }
}

/// A new tensor (l, d) whose rows `f` makes from those of x, given their index.
fn each_row(x: &Tensor, f: impl Fn(usize, &[f32], &mut [f32]) + Sync) -> Result<Tensor> {
    match x.dtype() {
        DType::BF16 => each_row_of::<bf16>(x, f),
        _ => each_row_of::<f32>(x, f),
    }
}

fn each_row_of<E: Element>(
    x: &Tensor,
    f: impl Fn(usize, &[f32], &mut [f32]) + Sync,
) -> Result<Tensor> {
    let (length, width) = x.dims2()?;
    let elements = Elements::of(x);
    let mut out = E::zeros(length * width);
    out.par_chunks_mut(width)
        .zip(elements.slice_of::<E>()?.par_chunks(width))
        .enumerate()
        .with_min_len(MIN_ROWS)
        .for_each_init(Default::default, |(from, to), (i, (y, x))| {
            let x = E::read(x, from);
            E::write(y, to, |y| f(i, x, y));
        });
    Tensor::from_vec(out, (length, width), x.device())
}

/// F(group norm(x)); x (h, w, c).
fn each_channel<E: Element, F: Elementwise>(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    /// Pixels whose sums are kept in f32 before they go to f64, and that one task finishes.
    const PIXELS: usize = 256;
    let (_, _, channels) = x.dims3()?;
    let elements = Elements::of(x);
    let elements = elements.slice_of::<E>()?;
    let sums = elements
        .par_chunks(PIXELS * channels)
        .map_init(Vec::new, |scratch, pixels| {
            let mut sums = vec![0.0; 2 * channels];
            let (plain, squared) = sums.split_at_mut(channels);
            add_channel_sums(E::read(pixels, scratch), plain, squared);
            sums
        })
        // Collected first: added up in the order of the image, whatever the threads do.
        .collect::<Vec<_>>();
    let pixels = elements.len() / channels;
    let (factor, offset) = channel_affine(&sums, pixels, norm)?;
    let mut out = E::zeros(elements.len());
    out.par_chunks_mut(PIXELS * channels)
        .zip(elements.par_chunks(PIXELS * channels))
        .for_each_init(Default::default, |(from, to), (y, x)| {
            let x = E::read(x, from);
            E::write(y, to, |y| scale_channels::<F>(x, y, &factor, &offset));
        });
    Tensor::from_vec(out, x.shape(), x.device())
}

/// Statistics of each group, and with them the factor and offset of each channel.
fn channel_affine(
    sums: &[Vec<f32>],
    pixels: usize,
    norm: &GroupNorm,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (weight, bias) = (Elements::of(&norm.weight), Elements::of(&norm.bias));
    let (weight, bias) = (weight.wide()?, bias.wide()?);
    let channels = weight.len();
    let per_group = channels / norm.groups;
    let total = |i: usize| sums.iter().map(|sums| f64::from(sums[i])).sum::<f64>();
    let (mut factor, mut offset) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for group in 0..norm.groups {
        let members = group * per_group..(group + 1) * per_group;
        let count = (pixels * per_group) as f64;
        let mean = members.clone().map(total).sum::<f64>() / count;
        let square = members.clone().map(|i| total(channels + i)).sum::<f64>() / count;
        let scale = ((square - mean * mean).max(0.0) + GroupNorm::EPS).sqrt().recip();
        for i in members {
            let a = scale * f64::from(weight[i]);
            factor.push(a as f32);
            offset.push((f64::from(bias[i]) - mean * a) as f32);
        }
    }
    Ok((factor, offset))
}
