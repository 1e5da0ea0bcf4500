//! x Wᵀ in the order that is fastest: W in panels that are read front to back, x in a few rows at a
//! time, which the product then reads as they are. What follows the product is done to those rows
//! while they are in the cache.
//!
//! A row's result does not depend on the rows beside it, nor on how many there are: every product has at
//! most 48 rows, and 64 columns that are laid out alike, which `gemm` sums up in one order.

use candle_core::{Error, Result, Tensor};
use kernels::cpu::{self, Matrix, MatrixMut, Product};
use rayon::prelude::*;

use super::{matrix::Elements, simd::transpose};
use crate::layers::Linear;

/// Outputs of a panel: as many as the product's innermost loop makes at a time.
const PANEL: usize = 64;
/// Rows of a tile: as many as the product reads without packing them.
pub(super) const TILE_ROWS: usize = 48;
/// Below this, there are too few tiles for all threads, but enough panels.
const MIN_ROWS: usize = 32;

/// Where the rows of a product go.
pub(super) struct Rows<'a> {
    /// Rows of `step` elements.
    pub(super) out: &'a mut [f32],
    pub(super) step: usize,
    /// Of a row's elements, the first that is written.
    pub(super) start: usize,
}

/// Writes x Wᵀ (l, out), then applies `each` to every row of it (given its index), in parallel.
pub(super) fn multiply(
    x: &Tensor,
    layer: &Linear,
    to: Rows<'_>,
    each: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<()> {
    let x = Elements::of(x);
    let x = x.matrix()?;
    let Rows { out, step, start } = to;
    let ([length, _], outputs) = (x.size(), layer.outputs());
    let finish = |first: usize, tile: &mut [f32]| {
        for (i, row) in tile.chunks_exact_mut(step).enumerate() {
            each(first + i, &mut row[start..][..outputs]);
        }
    };
    if length < MIN_ROWS {
        multiply_few(x, layer, Rows { out: &mut *out, step, start })?;
        out.par_chunks_mut(step).enumerate().for_each(|(i, row)| finish(i, row));
        return Ok(());
    }
    let panels = Panels::of(layer)?;
    out.par_chunks_mut(TILE_ROWS * step).enumerate().try_for_each(|(tile, out)| {
        let first = tile * TILE_ROWS;
        let x = x.some_rows(first, out.len() / step).map_err(Error::wrap)?;
        panels.multiply(x, Rows { out, step, start }).map_err(Error::wrap)?;
        finish(first, out);
        Ok(())
    })
}

/// The product of few rows: its panels in parallel, each laid out for itself.
fn multiply_few(x: Matrix<'_>, layer: &Linear, to: Rows<'_>) -> Result<()> {
    let (weight, [rows, inputs]) = (Elements::of(&layer.weight), x.size());
    let panels = weight.slice()?.par_chunks(PANEL * inputs).map(|weight| {
        let outputs = weight.len() / inputs;
        let mut panel = vec![0.0; weight.len()];
        transpose(weight, inputs, &mut panel, outputs);
        let mut out = vec![0.0; rows * outputs];
        let b = Matrix::new(&panel, [inputs, outputs], [outputs, 1])?;
        write(x, b, &mut out, outputs).map(|()| out)
    });
    let panels = panels.collect::<cpu::Result<Vec<_>>>().map_err(Error::wrap)?;
    for (i, row) in to.out.chunks_mut(to.step).enumerate() {
        let row = row[to.start..][..layer.outputs()].chunks_mut(PANEL);
        for (panel, out) in panels.iter().zip(row) {
            out.copy_from_slice(&panel[i * out.len()..][..out.len()]);
        }
    }
    Ok(())
}

/// out ← x · b, rows of `out` beginning every `step`. A row that is alone is multiplied as the first of
/// two: `gemm` would add it up in another order.
fn write(x: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], step: usize) -> cpu::Result<()> {
    let [[rows, inputs], [_, outputs]] = [x.size(), b.size()];
    if rows != 1 {
        return Product { a: x, b }.write(MatrixMut::new(out, [rows, outputs], step)?);
    }
    let a = Matrix::new(x.elements(), [2, inputs], [0, x.steps()[1]])?;
    let mut both = [0.0; 2 * PANEL];
    Product { a, b }.write(MatrixMut::new(&mut both, [2, outputs], outputs)?)?;
    out[..outputs].copy_from_slice(&both[..outputs]);
    Ok(())
}

/// W (out, in) as panels (in, 64), one after the other, the last one narrower.
struct Panels {
    elements: Vec<f32>,
    inputs: usize,
}

impl Panels {
    fn of(layer: &Linear) -> Result<Self> {
        let (outputs, inputs) = layer.weight.dims2()?;
        let weight = Elements::of(&layer.weight);
        let mut elements = vec![0.0; outputs * inputs];
        elements
            .par_chunks_mut(PANEL * inputs)
            .zip(weight.slice()?.par_chunks(PANEL * inputs))
            .for_each(|(panel, rows)| transpose(rows, inputs, panel, rows.len() / inputs));
        Ok(Self { elements, inputs })
    }

    fn multiply(&self, x: Matrix<'_>, to: Rows<'_>) -> cpu::Result<()> {
        for (i, panel) in self.elements.chunks(PANEL * self.inputs).enumerate() {
            let outputs = panel.len() / self.inputs;
            let b = Matrix::new(panel, [self.inputs, outputs], [outputs, 1])?;
            write(x, b, &mut to.out[to.start + i * PANEL..], to.step)?;
        }
        Ok(())
    }
}
