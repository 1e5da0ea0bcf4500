//! x Wᵀ in the order that is fastest: W in panels that are read front to back, x in a few rows at a
//! time, which the product then reads as they are. What follows the product is done to those rows
//! while they are in the cache.

use candle_core::{Error, Result, Tensor};
use kernels::cpu::{self, Matrix, MatrixMut, Product};
use rayon::prelude::*;

use super::{matrix::Elements, simd::transpose};
use crate::layers::Linear;

/// Outputs of a panel: as many as the product's innermost loop makes at a time.
const PANEL: usize = 64;
/// Rows of a tile: as many as the product reads without packing them.
pub(super) const TILE_ROWS: usize = 48;
/// Below this, laying W out anew costs more than it gains.
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
    let (x, weight) = (Elements::of(x), Elements::of(&layer.weight));
    let (x, weight) = (x.matrix()?, weight.matrix()?);
    let Rows { out, step, start } = to;
    let [[length, _], [outputs, _]] = [x.size(), weight.size()];
    let finish = |first: usize, tile: &mut [f32]| {
        for (i, row) in tile.chunks_exact_mut(step).enumerate() {
            each(first + i, &mut row[start..][..outputs]);
        }
    };
    let tiles = |out| <[f32]>::par_chunks_mut(out, TILE_ROWS * step).enumerate();
    if length < MIN_ROWS {
        MatrixMut::new(&mut out[start..], [length, outputs], step)
            .and_then(|out| Product { a: x, b: weight.transposed() }.write_in_parallel(out))
            .map_err(Error::wrap)?;
        tiles(out).for_each(|(tile, out)| finish(tile * TILE_ROWS, out));
        return Ok(());
    }
    let panels = Panels::of(layer)?;
    tiles(out).try_for_each(|(tile, out)| {
        let first = tile * TILE_ROWS;
        let x = x.some_rows(first, out.len() / step).map_err(Error::wrap)?;
        panels.multiply(x, Rows { out, step, start }).map_err(Error::wrap)?;
        finish(first, out);
        Ok(())
    })
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
        let [rows, _] = x.size();
        for (i, panel) in self.elements.chunks(PANEL * self.inputs).enumerate() {
            let outputs = panel.len() / self.inputs;
            let b = Matrix::new(panel, [self.inputs, outputs], [outputs, 1])?;
            let out = &mut to.out[to.start + i * PANEL..];
            Product { a: x, b }.write(MatrixMut::new(out, [rows, outputs], to.step)?)?;
        }
        Ok(())
    }
}
