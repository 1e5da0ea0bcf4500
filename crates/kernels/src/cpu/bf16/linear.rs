//! Linear layers: the product, and what follows it, done to each block of sums while it is in the nearest
//! cache.

use candle_core::{Result, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

use super::{
    super::{
        convert::{narrow, narrow_side, widen, widen_side, zeros},
        grid::{Grid, Rectangle},
        linear::{GatedBy, MIN_ROWS},
        matrix::Elements,
        simd::{Elementwise, GeluTanh, Identity, QuickGelu, Relu, Silu, vectorised},
    },
    level::on_machine,
    line::Line,
    packed::{VnniPanels, pack_step},
    product::{Rows, multiply_all},
    tiles::{Block, SIDE, STEP},
};
use crate::operand::{
    Activation, Epilogue, GatedResidual, Linear, PackedWeight, Weight, packed_as, rows_each,
};

pub(super) fn linear(x: &Tensor, layer: &Linear, then: Epilogue<'_>) -> Result<Tensor> {
    let (rows, width) = (x.dim(0)?, layer.outputs());
    let mut out = zeros(rows * width);
    let to = Grid::new(&mut out, width, 0..width);
    match then {
        Epilogue::None | Epilogue::Activate(Activation::GeluErf) => {
            finish::<Identity>(x, layer, to, After::Nothing)?;
        }
        Epilogue::Activate(activation) => activated(x, layer, to, activation)?,
        Epilogue::Add(residual) => {
            let residual = Elements::of(residual);
            let onto = residual.exactly(rows * width)?;
            finish::<Identity>(x, layer, to, After::Add { onto, width })?;
        }
        Epilogue::GatedResidual(GatedResidual { gate, residual }) => {
            let each = rows_each(rows, gate.dim(0)?)?;
            let (gate, residual) = (Elements::of(gate), Elements::of(residual));
            let (gate, onto) =
                (gate.exactly(rows / each.max(1) * width)?, residual.exactly(rows * width)?);
            finish::<Identity>(x, layer, to, After::Gate { gate, each, onto, width })?;
        }
    }
    let y = Tensor::from_vec(out, (rows, width), x.device())?;
    // Not in FLUX.1, so not worth a kernel.
    if let Epilogue::Activate(Activation::GeluErf) = then { y.gelu_erf() } else { Ok(y) }
}

/// Writes activation(x Wᵀ + b).
pub(super) fn activated(
    x: &Tensor,
    layer: &Linear,
    to: Grid<'_, bf16>,
    activation: Activation,
) -> Result<()> {
    match activation {
        Activation::GeluTanh => finish::<GeluTanh>(x, layer, to, After::Nothing),
        Activation::QuickGelu => finish::<QuickGelu>(x, layer, to, After::Nothing),
        Activation::Silu => finish::<Silu>(x, layer, to, After::Nothing),
        Activation::Relu => finish::<Relu>(x, layer, to, After::Nothing),
        Activation::GeluErf => bail!("GELU by erf follows no product"),
    }
}

pub(super) fn linear_gated(x: &Tensor, layer: &Linear, gate: GatedBy) -> Result<Tensor> {
    let (rows, width) = (x.dim(0)?, layer.outputs());
    let half = width / 2;
    let mut product = zeros(rows * width);
    finish::<Identity>(x, layer, Grid::new(&mut product, width, 0..width), After::Nothing)?;
    let mut out = zeros(rows * half);
    out.par_chunks_mut(half.max(1))
        .zip(product.par_chunks(width.max(1)))
        .with_min_len(MIN_ROWS)
        .for_each(|(out, row)| {
            let (activated, value) = row.split_at(half);
            match gate {
                GatedBy::GeluTanh => multiply_gated::<GeluTanh>(out, activated, value),
                GatedBy::Silu => multiply_gated::<Silu>(out, activated, value),
            }
        });
    Tensor::from_vec(out, (rows, half), x.device())
}

/// What is done behind bias and activation, y being their result.
#[derive(Clone, Copy)]
pub(super) enum After<'a> {
    Nothing,
    /// onto + y
    Add {
        onto: &'a [bf16],
        width: usize,
    },
    /// onto + gate ∘ y, with a row of the gate for `each` rows.
    Gate {
        gate: &'a [bf16],
        each: usize,
        onto: &'a [bf16],
        width: usize,
    },
}

/// Writes F(x Wᵀ + b), and what follows.
fn finish<F: Elementwise>(
    x: &Tensor,
    layer: &Linear,
    to: Grid<'_, bf16>,
    after: After<'_>,
) -> Result<()> {
    let made;
    let panels = match &layer.weight {
        Weight::Packed(packed) => packed_as::<VnniPanels>(&**packed),
        Weight::Plain(weight) => {
            made = VnniPanels::of_linear(weight)?;
            Some(&made)
        }
        Weight::E4m3 { .. } | Weight::Int8(_) => None,
    };
    let Some(panels) = panels else { bail!("a weight of another type than bf16") };
    let (_, inputs) = x.dims2()?;
    if inputs != panels.channels() {
        bail!("{inputs} inputs and a layer of {}", panels.channels())
    }
    let (b, steps) = (panels.right(), inputs.div_ceil(SIDE));
    let a = packed_rows(x, steps)?;
    let a = Rows::packed(a.as_flattened(), steps);
    let bias = layer.bias.as_ref().map(Elements::of);
    let bias = bias.as_ref().map(|bias| bias.exactly(panels.outputs())).transpose()?;
    on_machine!(machine => multiply_all(machine, a, b, to, |[_, panel], sums, out| {
        let bias = bias.and_then(|bias| bias.get(panel * SIDE..)).unwrap_or_default();
        write::<F>(sums, &bias[..bias.len().min(SIDE)], after, out);
    }));
    Ok(())
}

/// x (l, in) as blocks of 32 rows: (l/32, steps, 32).
fn packed_rows(x: &Tensor, steps: usize) -> Result<Vec<[Line; STEP]>> {
    let x = if x.stride()[1] == 1 { x.clone() } else { x.contiguous()? };
    let ((rows, inputs), step) = (x.dims2()?, x.stride()[0]);
    let elements = Elements::of(&x);
    let elements = elements.onwards_of::<bf16>()?;
    let blocks = rows.div_ceil(SIDE);
    Ok((0..blocks * steps)
        .into_par_iter()
        .with_min_len(32)
        .map(|i| {
            let (block, from) = (i / steps, i % steps * SIDE);
            pack_step(|i| {
                let row = block * SIDE + i;
                let values = row * step + from..row * step + inputs.min(from + SIDE);
                if row < rows { &elements[values] } else { &[] }
            })
        })
        .collect())
}

vectorised! {
    /// out ← F(sums + bias), and what follows.
    fn write<'a, F: Elementwise>(
        sums: &'a Block,
        bias: &'a [bf16],
        after: After<'a>,
        out: Rectangle<'a, bf16>,
    ) {
        let mut out = out;
        let bias = widen_side::<SIDE>(bias);
        let (rows, columns) = (out.rows(), out.columns());
        for i in 0..rows.len() {
            let mut y = sums.0[i];
            for j in 0..SIDE {
                y[j] = F::apply(y[j] + bias[j]);
            }
            let row = rows.start + i;
            match after {
                After::Nothing => {}
                After::Add { onto, width } => {
                    let onto = widen_side::<SIDE>(&onto[row * width..][columns.clone()]);
                    for j in 0..SIDE {
                        y[j] += onto[j];
                    }
                }
                After::Gate { gate, each, onto, width } => {
                    let onto = widen_side::<SIDE>(&onto[row * width..][columns.clone()]);
                    let gate = widen_side::<SIDE>(&gate[row / each * width..][columns.clone()]);
                    for j in 0..SIDE {
                        y[j] = y[j].mul_add(gate[j], onto[j]);
                    }
                }
            }
            narrow_side(&y, out.row(i));
        }
    }
}

vectorised! {
    /// out ← F(gate) · value
    fn multiply_gated<'a, F: Elementwise>(
        out: &'a mut [bf16],
        gate: &'a [bf16],
        value: &'a [bf16],
    ) {
        for ((y, &g), &v) in out.iter_mut().zip(gate).zip(value) {
            *y = narrow(F::apply(widen(g)) * widen(v));
        }
    }
}
