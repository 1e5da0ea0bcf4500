//! Linear layers: candle's product, then one pass for everything that follows it.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    matrix::Elements,
    simd::{gelu_tanh, quick_gelu, silu, vectorised},
};
use crate::{
    layers::Linear,
    ops::{Activation, Gated},
};

/// Rows that one task finishes, at least: a few hundred KB of work.
pub(super) const MIN_ROWS: usize = 16;

pub(crate) fn linear(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let Some(bias) = &layer.bias else { return x.matmul(&layer.weight.t()?) };
    let bias = Elements::of(bias);
    let bias = bias.slice()?;
    finish(x, layer, |_, row| {
        for (y, b) in row.iter_mut().zip(bias) {
            *y += b;
        }
    })
}

pub(crate) fn linear_activated(x: &Tensor, layer: &Linear, act: Activation) -> Result<Tensor> {
    let bias = Bias::of(layer);
    let bias = bias.slice()?;
    match act {
        Activation::GeluTanh => finish(x, layer, |_, row| activate(row, bias, gelu_tanh)),
        Activation::QuickGelu => finish(x, layer, |_, row| activate(row, bias, quick_gelu)),
        Activation::Silu => finish(x, layer, |_, row| activate(row, bias, silu)),
        Activation::Relu => finish(x, layer, |_, row| activate(row, bias, |x| x.max(0.0))),
        // Not in FLUX.1, so not worth a kernel.
        Activation::GeluErf => linear(x, layer)?.gelu_erf(),
    }
}

pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let product = linear(x, layer)?;
    let (length, width) = product.dims2()?;
    let half = width / 2;
    let product = Elements::of(&product);
    let product = product.slice()?;
    let mut out = vec![0.0; length * half];
    out.par_chunks_mut(half).zip(product.par_chunks(width)).with_min_len(MIN_ROWS).for_each(
        |(out, row)| {
            let (gate, value) = row.split_at(half);
            vectorised(|| {
                for ((y, &g), &v) in out.iter_mut().zip(gate).zip(value) {
                    *y = gelu_tanh(g) * v;
                }
            });
        },
    );
    Tensor::from_vec(out, (length, half), x.device())
}

pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Tensor> {
    let (bias, onto) = (Bias::of(layer), Elements::of(onto));
    let (bias, onto) = (bias.slice()?, onto.slice()?);
    let width = layer.outputs();
    finish(x, layer, |i, row| {
        let onto = &onto[i * width..][..width];
        match bias {
            Some(bias) => {
                for ((y, b), o) in row.iter_mut().zip(bias).zip(onto) {
                    *y += b + o;
                }
            }
            None => {
                for (y, o) in row.iter_mut().zip(onto) {
                    *y += o;
                }
            }
        }
    })
}

pub(crate) fn linear_gated(x: &Tensor, layer: &Linear, gated: &Gated<'_>) -> Result<Tensor> {
    let (gate, onto) = (Elements::of(gated.gate), Elements::of(gated.onto));
    let (gate, onto) = (gate.slice()?, onto.slice()?);
    let bias = Bias::of(layer);
    let Some(bias) = bias.slice()? else {
        candle_core::bail!("a gated layer has a bias");
    };
    let width = layer.outputs();
    finish(x, layer, |i, row| {
        let onto = &onto[i * width..][..width];
        for (((y, b), g), o) in row.iter_mut().zip(bias).zip(gate).zip(onto) {
            *y = (*y + b).mul_add(*g, *o);
        }
    })
}

/// x Wᵀ (l, out), as elements row by row, without bias.
pub(super) fn product(x: &Tensor, layer: &Linear) -> Result<Vec<f32>> {
    let (x, weight) = (Elements::of(x), Elements::of(&layer.weight));
    x.matrix()?.times(&weight.matrix()?.transposed())
}

/// Computes x Wᵀ, then applies `each` to every row (given its index), in parallel.
fn finish(x: &Tensor, layer: &Linear, each: impl Fn(usize, &mut [f32]) + Sync) -> Result<Tensor> {
    let width = layer.outputs();
    let mut y = product(x, layer)?;
    y.par_chunks_mut(width)
        .enumerate()
        .with_min_len(MIN_ROWS)
        .for_each(|(i, row)| vectorised(|| each(i, row)));
    Tensor::from_vec(y, (x.dim(0)?, width), x.device())
}

/// row ← f(row + bias)
#[inline(always)]
pub(super) fn activate(row: &mut [f32], bias: Option<&[f32]>, f: impl Fn(f32) -> f32) {
    match bias {
        Some(bias) => {
            for (y, b) in row.iter_mut().zip(bias) {
                *y = f(*y + b);
            }
        }
        None => {
            for y in row {
                *y = f(*y);
            }
        }
    }
}

/// A layer's bias, where it has one.
pub(super) struct Bias<'a>(Option<Elements<'a>>);

impl<'a> Bias<'a> {
    pub(super) fn of(layer: &'a Linear) -> Self {
        Self(layer.bias.as_ref().map(Elements::of))
    }

    pub(super) fn slice(&self) -> Result<Option<&[f32]>> {
        self.0.as_ref().map(Elements::slice).transpose()
    }
}
