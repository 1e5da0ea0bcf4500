//! x Wᵀ in the order that is fastest: W in panels that are read front to back, x in a few rows at a
//! time, which the product then reads as they are. What follows the product is done to those rows
//! while they are in the cache.
//!
//! A row's result does not depend on the rows beside it, nor on how many there are: every product has at
//! most 48 rows, and 64 columns that are laid out alike, which `gemm` sums up in one order.

use candle_core::{Device, Error, Result, Tensor};
use rayon::prelude::*;

use super::{
    gemm::{self, Matrix, MatrixMut, Product},
    matrix::Elements,
    simd::transpose,
};
use crate::operand::{Linear, PackedWeight, Weight, packed_as};

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
    let made;
    let panels = match &layer.weight {
        Weight::Packed(packed) => packed_as::<Panels>(&**packed),
        Weight::Plain(weight) => {
            made = Panels::of(weight)?;
            Some(&made)
        }
        Weight::E4m3 { .. } => None,
    };
    let Some(panels) = panels else { candle_core::bail!("a weight of another type than f32") };
    let ([length, _], outputs) = (x.size(), panels.outputs);
    let finish = |first: usize, tile: &mut [f32]| {
        for (i, row) in tile.chunks_exact_mut(step).enumerate() {
            each(first + i, &mut row[start..][..outputs]);
        }
    };
    if length < MIN_ROWS {
        panels.multiply_few(x, Rows { out: &mut *out, step, start }).map_err(Error::wrap)?;
        out.par_chunks_mut(step).enumerate().for_each(|(i, row)| finish(i, row));
        return Ok(());
    }
    out.par_chunks_mut(TILE_ROWS * step).enumerate().try_for_each(|(tile, out)| {
        let first = tile * TILE_ROWS;
        let x = x.some_rows(first, out.len() / step).map_err(Error::wrap)?;
        panels.multiply(x, Rows { out, step, start }).map_err(Error::wrap)?;
        finish(first, out);
        Ok(())
    })
}

/// out ← x · b, rows of `out` beginning every `step`. A row that is alone is multiplied as the first of
/// two: `gemm` would add it up in another order.
fn write(x: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], step: usize) -> gemm::Result<()> {
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

/// A weight (out, in) as panels (in, 64), one after the other, the last one narrower.
pub(super) struct Panels {
    elements: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Of a contiguous f32 weight (out, in) on the CPU.
    pub(super) fn of(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = Elements::of(weight);
        let mut elements = vec![0.0; outputs * inputs];
        elements
            .par_chunks_mut((PANEL * inputs).max(1))
            .zip(weight.slice()?.par_chunks((PANEL * inputs).max(1)))
            .for_each(|(panel, rows)| transpose(rows, inputs, panel, rows.len() / inputs));
        Ok(Self { elements, inputs, outputs })
    }

    /// Each panel: (in, out)
    fn panels(&self) -> impl IndexedParallelIterator<Item = gemm::Result<Matrix<'_>>> {
        self.elements.par_chunks((PANEL * self.inputs).max(1)).map(|panel| self.panel(panel))
    }

    fn panel<'a>(&self, panel: &'a [f32]) -> gemm::Result<Matrix<'a>> {
        let outputs = panel.len() / self.inputs;
        Matrix::new(panel, [self.inputs, outputs], [outputs, 1])
    }

    fn multiply(&self, x: Matrix<'_>, to: Rows<'_>) -> gemm::Result<()> {
        for (i, panel) in self.elements.chunks((PANEL * self.inputs).max(1)).enumerate() {
            write(x, self.panel(panel)?, &mut to.out[to.start + i * PANEL..], to.step)?;
        }
        Ok(())
    }

    /// The product of few rows: its panels in parallel.
    fn multiply_few(&self, x: Matrix<'_>, to: Rows<'_>) -> gemm::Result<()> {
        let [rows, _] = x.size();
        let products = self.panels().map(|panel| {
            let panel = panel?;
            let [_, outputs] = panel.size();
            let mut out = vec![0.0; rows * outputs];
            write(x, panel, &mut out, outputs).map(|()| out)
        });
        let products = products.collect::<gemm::Result<Vec<_>>>()?;
        for (i, row) in to.out.chunks_mut(to.step).enumerate() {
            let row = row[to.start..][..self.outputs].chunks_mut(PANEL);
            for (product, out) in products.iter().zip(row) {
                out.copy_from_slice(&product[i * out.len()..][..out.len()]);
            }
        }
        Ok(())
    }
}

impl PackedWeight for Panels {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn to_tensor(&self) -> Result<Tensor> {
        let mut weight = vec![0.0; self.elements.len()];
        weight
            .par_chunks_mut((PANEL * self.inputs).max(1))
            .zip(self.elements.par_chunks((PANEL * self.inputs).max(1)))
            .for_each(|(rows, panel)| {
                let outputs = panel.len() / self.inputs;
                transpose(panel, outputs, rows, self.inputs);
            });
        Tensor::from_vec(weight, (self.outputs, self.inputs), &Device::Cpu)
    }
}
