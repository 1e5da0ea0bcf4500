//! Normalisations, each in one pass over a row that stays in the nearest cache.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    linear::MIN_ROWS,
    matrix::Elements,
    simd::{silu, sum_of, vectorised},
};
use crate::{
    layers::{GroupNorm, LayerNorm, RmsNorm},
    ops::Shift,
};

pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Tensor> {
    let (shift, scale) = (Elements::of(by.shift), Elements::of(by.scale));
    let (shift, scale) = (shift.slice()?, scale.slice()?);
    each_row(x, |x, y| {
        let (mean, factor) = moments(x, 1e-6);
        for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
            *y = ((x - mean) * factor).mul_add(1.0 + scale, *shift);
        }
    })
}

pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    let (weight, bias) = (Elements::of(&norm.weight), Elements::of(&norm.bias));
    let (weight, bias) = (weight.slice()?, bias.slice()?);
    each_row(x, |x, y| {
        let (mean, factor) = moments(x, norm.eps as f32);
        for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
            *y = ((x - mean) * factor).mul_add(*w, *b);
        }
    })
}

pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    let weight = Elements::of(&norm.weight);
    let weight = weight.slice()?;
    each_row(x, |x, y| {
        let factor = inverse_rms(x, norm.eps as f32);
        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
            *y = x * factor * w;
        }
    })
}

pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    each_channel(x, norm, |y| y)
}

pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    each_channel(x, norm, silu)
}

/// 1/√(mean(x²) + ε)
#[inline(always)]
pub(super) fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    (sum_of(row, |x| x * x) / row.len() as f32 + eps).sqrt().recip()
}

/// mean, 1/√(variance + ε)
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum_of(row, |x| x) / width;
    let variance = sum_of(row, |x| (x - mean) * (x - mean)) / width;
    (mean, (variance + eps).sqrt().recip())
}

/// A new tensor (l, d) whose rows `f` makes from those of x.
fn each_row(x: &Tensor, f: impl Fn(&[f32], &mut [f32]) + Sync) -> Result<Tensor> {
    let (length, width) = x.dims2()?;
    let elements = Elements::of(x);
    let elements = elements.slice()?;
    let mut out = vec![0.0; length * width];
    out.par_chunks_mut(width)
        .zip(elements.par_chunks(width))
        .with_min_len(MIN_ROWS)
        .for_each(|(y, x)| vectorised(|| f(x, y)));
    Tensor::from_vec(out, (length, width), x.device())
}

/// f(group norm(x)); x (h, w, c).
fn each_channel(x: &Tensor, norm: &GroupNorm, f: impl Fn(f32) -> f32 + Sync) -> Result<Tensor> {
    /// Pixels whose sums are kept in f32 before they go to f64, and that one task finishes.
    const PIXELS: usize = 256;
    let (_, _, channels) = x.dims3()?;
    let elements = Elements::of(x);
    let elements = elements.slice()?;
    let sums = elements
        .par_chunks(PIXELS * channels)
        .map(|pixels| channel_sums(pixels, channels))
        // Collected first: added up in the order of the picture, whatever the threads do.
        .collect::<Vec<_>>();
    let pixels = elements.len() / channels;
    let (factor, offset) = channel_affine(&sums, pixels, norm)?;
    let mut out = vec![0.0; elements.len()];
    out.par_chunks_mut(PIXELS * channels).zip(elements.par_chunks(PIXELS * channels)).for_each(
        |(y, x)| {
            vectorised(|| {
                for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for (((y, x), a), b) in y.iter_mut().zip(x).zip(&factor).zip(&offset) {
                        *y = f(x.mul_add(*a, *b));
                    }
                }
            });
        },
    );
    Tensor::from_vec(out, x.shape(), x.device())
}

/// Σx of each channel, then Σx² of each.
fn channel_sums(pixels: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0f32; 2 * channels];
    let (plain, squared) = sums.split_at_mut(channels);
    vectorised(|| {
        for pixel in pixels.chunks_exact(channels) {
            for ((plain, squared), x) in plain.iter_mut().zip(squared.iter_mut()).zip(pixel) {
                *plain += x;
                *squared = x.mul_add(*x, *squared);
            }
        }
    });
    sums
}

/// Statistics of each group, and with them the factor and offset of each channel.
fn channel_affine(
    sums: &[Vec<f32>],
    pixels: usize,
    norm: &GroupNorm,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (weight, bias) = (Elements::of(&norm.weight), Elements::of(&norm.bias));
    let (weight, bias) = (weight.slice()?, bias.slice()?);
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
