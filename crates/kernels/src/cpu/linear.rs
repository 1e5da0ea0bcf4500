//! Linear layers: the product, and with it everything that follows it.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    convert::zeros,
    grid::Rows,
    matrix::Elements,
    product::multiply,
    simd::{Elementwise, GeluTanh, Identity, QuickGelu, Relu, Silu, vectorised},
};
use crate::operand::{Activation, Epilogue, GatedResidual, Linear, rows_each};

/// Rows that one task finishes, at least: a few hundred KB of work.
pub(super) const MIN_ROWS: usize = 16;

pub(super) fn linear(x: &Tensor, layer: &Linear, then: Epilogue<'_>) -> Result<Tensor> {
    match then {
        Epilogue::None => activated::<Identity>(x, layer),
        Epilogue::Activate(Activation::GeluTanh) => activated::<GeluTanh>(x, layer),
        Epilogue::Activate(Activation::QuickGelu) => activated::<QuickGelu>(x, layer),
        Epilogue::Activate(Activation::Silu) => activated::<Silu>(x, layer),
        Epilogue::Activate(Activation::Relu) => activated::<Relu>(x, layer),
        // Not in FLUX.1, so not worth a kernel.
        Epilogue::Activate(Activation::GeluErf) => activated::<Identity>(x, layer)?.gelu_erf(),
        Epilogue::Add(residual) => added(x, layer, residual),
        Epilogue::GatedResidual(GatedResidual { gate, residual }) => {
            gated(x, layer, [gate, residual])
        }
    }
}

/// The activations that gate a feed-forward in the models there are.
#[derive(Clone, Copy)]
pub(super) enum GatedBy {
    GeluTanh,
    Silu,
}

impl GatedBy {
    /// `None` where it gates nowhere.
    pub(super) fn of(gate: Activation) -> Option<Self> {
        match gate {
            Activation::GeluTanh => Some(Self::GeluTanh),
            Activation::Silu => Some(Self::Silu),
            Activation::GeluErf | Activation::QuickGelu | Activation::Relu => None,
        }
    }

    /// out ← activation(gate) · value
    pub(super) fn multiply(self, out: &mut [f32], gate: &[f32], value: &[f32]) {
        match self {
            Self::GeluTanh => multiply_gated::<GeluTanh>(out, gate, value),
            Self::Silu => multiply_gated::<Silu>(out, gate, value),
        }
    }
}

pub(super) fn linear_gated(x: &Tensor, layer: &Linear, gate: GatedBy) -> Result<Tensor> {
    let product = activated::<Identity>(x, layer)?;
    let (length, width) = product.dims2()?;
    let half = width / 2;
    let product = Elements::of(&product);
    let mut out = zeros(length * half);
    out.par_chunks_mut(half)
        .zip(product.slice()?.par_chunks(width))
        .with_min_len(MIN_ROWS)
        .for_each(|(out, row)| gate.multiply(out, &row[..half], &row[half..]));
    Tensor::from_vec(out, (length, half), x.device())
}

fn added(x: &Tensor, layer: &Linear, residual: &Tensor) -> Result<Tensor> {
    let (bias, residual) = (Bias::of(layer), Elements::of(residual));
    let (bias, residual) = (bias.slice()?, residual.slice()?);
    let width = layer.outputs();
    finish(x, layer, |i, columns, row| {
        let residual = &residual[i * width..][columns.clone()];
        add_bias_and(row, of(bias, columns), residual);
    })
}

fn gated(x: &Tensor, layer: &Linear, [gate, residual]: [&Tensor; 2]) -> Result<Tensor> {
    let each = rows_each(x.dim(0)?, gate.dim(0)?)?;
    let (gate, residual) = (Elements::of(gate), Elements::of(residual));
    let (gate, residual) = (gate.slice()?, residual.slice()?);
    let bias = Bias::of(layer);
    let bias = bias.slice()?;
    let width = layer.outputs();
    finish(x, layer, |i, columns, row| {
        activate::<Identity>(row, of(bias, columns.clone()));
        let gate = &gate[i / each * width..][columns.clone()];
        gate_onto(row, gate, &residual[i * width..][columns]);
    })
}

/// F(x Wᵀ + b)
fn activated<F: Elementwise>(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let bias = Bias::of(layer);
    let bias = bias.slice()?;
    finish(x, layer, |_, columns, row| activate::<F>(row, of(bias, columns)))
}

/// Some of a layer's biases.
pub(super) fn of(bias: Option<&[f32]>, outputs: Range<usize>) -> Option<&[f32]> {
    bias.map(|bias| &bias[outputs])
}

/// Computes x Wᵀ, then applies `each` to every piece of a row, in parallel: [`multiply`].
fn finish(
    x: &Tensor,
    layer: &Linear,
    each: impl Fn(usize, Range<usize>, &mut [f32]) + Send + Sync,
) -> Result<Tensor> {
    let (length, width) = (x.dim(0)?, layer.outputs());
    let mut out = zeros(length * width);
    multiply(x, layer, Rows { out: &mut out, step: width, start: 0 }, each)?;
    Tensor::from_vec(out, (length, width), x.device())
}

vectorised! {
    /// row ← F(row + bias)
    fn activate<'a, F: Elementwise>(row: &'a mut [f32], bias: Option<&'a [f32]>) {
        if let Some(bias) = bias {
            for (y, b) in row.iter_mut().zip(bias) {
                *y = F::apply(*y + b);
            }
        } else {
            for y in row {
                *y = F::apply(*y);
            }
        }
    }
}

vectorised! {
    /// row ← row + bias + onto
    fn add_bias_and<'a>(row: &'a mut [f32], bias: Option<&'a [f32]>, onto: &'a [f32]) {
        if let Some(bias) = bias {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
        for (y, o) in row.iter_mut().zip(onto) {
            *y += o;
        }
    }
}

vectorised! {
    /// row ← onto + gate · row
    fn gate_onto<'a>(row: &'a mut [f32], gate: &'a [f32], onto: &'a [f32]) {
        for ((y, g), o) in row.iter_mut().zip(gate).zip(onto) {
            *y = y.mul_add(*g, *o);
        }
    }
}

vectorised! {
    /// out ← F(gate) · value
    fn multiply_gated<'a, F: Elementwise>(out: &'a mut [f32], gate: &'a [f32], value: &'a [f32]) {
        for ((y, &g), &v) in out.iter_mut().zip(gate).zip(value) {
            *y = F::apply(g) * v;
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
