//! x Wᵀ, with what follows it: W in panels as wide as the registers' sums, read front to back.
//!
//! A task makes a rectangle of the result, 192 rows and 512 columns at most. It goes over K in chunks of 256:
//! the chunk's rows of x, 192 KiB, are laid out for the registers once and stay in the second cache; the chunk
//! of a panel, 16 KiB (32 with AVX-512), stays in the first while all rows meet it. What follows the product is
//! done to the rectangle while it is in the cache.
//!
//! A row's result does not depend on the rows beside it, nor on how many there are or how many threads: each
//! element is the sum of its chunks' sums, in their order.

use std::ops::Range;

use candle_core::{Device, Error, Result, Tensor};
use rayon::prelude::*;

use super::{
    grid::{Rows, task_size},
    line::Line,
    matrix::{Elements, Matrix},
    memory::Lines,
    registers::{Onto, Registers},
    simd::transpose,
};
use crate::operand::PackedWeight;

/// Rows and columns of a task, at most: whole tiles of 6 and of 12 rows.
const TASK: [usize; 2] = [192, 512];
/// Of K, what is multiplied at a time.
const CHUNK: usize = 256;

/// Whether rows become the registers' rows, as A's do, or their columns, as B's do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Rows,
    Columns,
}

/// Writes x Wᵀ (l, out), then applies `each` to every piece of a row of it, in parallel.
pub(super) fn multiply(
    x: Matrix<'_>,
    panels: &Panels,
    to: Rows<'_>,
    each: impl Fn(usize, Range<usize>, &mut [f32]) + Send + Sync,
) -> Result<()> {
    let [rows, inputs] = x.size();
    if inputs != panels.inputs {
        candle_core::bail!("rows of {inputs} and a weight of {} inputs", panels.inputs)
    }
    let tile = [panels.registers.rows(), panels.width()];
    let size = task_size([rows, panels.outputs], tile, TASK, rayon::current_num_threads());
    to.grid(panels.outputs).each(size, Vec::new, |left, mut rectangle| {
        let (rows, columns) = (rectangle.rows(), rectangle.columns());
        for from in (0..inputs).step_by(CHUNK) {
            let chunk = from..inputs.min(from + CHUNK);
            let onto = if from == 0 { Onto::Zero } else { Onto::Itself };
            let height = panels.registers.rows();
            left.resize(rows.len().next_multiple_of(height) * chunk.len(), 0.0);
            lay_out(x, rows.clone(), chunk.clone(), (panels.registers, Side::Rows), left);
            for first in columns.clone().step_by(panels.width()) {
                let right = panels.chunk(first / panels.width(), chunk.clone());
                let mut out = rectangle.part(rows.clone(), first..first + panels.width());
                panels.registers.multiply(left, right, &mut out, onto);
            }
        }
        for (i, row) in rows.enumerate() {
            each(row, columns.clone(), rectangle.row(i));
        }
    });
    Ok(())
}

/// Some of x's rows and columns as (tiles, columns, height), rows side by side, as many as the registers have
/// on that side; what is missing of the last tile is its last row again.
pub(super) fn lay_out(
    x: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    (registers, side): (Registers, Side),
    to: &mut [f32],
) {
    match (registers, side) {
        (Registers::Sixteen, Side::Rows) => lay_out_tiles::<6>(x, rows, columns, to),
        (Registers::Sixteen, Side::Columns) => lay_out_tiles::<16>(x, rows, columns, to),
        (Registers::ThirtyTwo, Side::Rows) => lay_out_tiles::<12>(x, rows, columns, to),
        (Registers::ThirtyTwo, Side::Columns) => lay_out_tiles::<32>(x, rows, columns, to),
    }
}

fn lay_out_tiles<const HEIGHT: usize>(
    x: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    to: &mut [f32],
) {
    let [row_step, column_step] = x.steps();
    let tiles = to.chunks_exact_mut((HEIGHT * columns.len()).max(1));
    for (first, to) in rows.clone().step_by(HEIGHT).zip(tiles) {
        let from: [&[f32]; HEIGHT] = std::array::from_fn(|i| {
            let row = (first + i).min(rows.end - 1);
            &x.elements()[row * row_step + columns.start * column_step..]
        });
        let to = to.as_chunks_mut::<HEIGHT>().0.iter_mut().enumerate();
        if column_step == 1 {
            let from = from.map(|row| &row[..columns.len()]);
            to.for_each(|(j, to)| *to = from.map(|row| row[j]));
        } else {
            to.for_each(|(j, to)| *to = from.map(|row| row[j * column_step]));
        }
    }
}

/// A weight (out, in) as panels (in, width), one after the other; the last one is filled up with zeros.
pub(super) struct Panels {
    /// Elements.
    lines: Lines,
    registers: Registers,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Of a contiguous f32 weight (out, in) on the CPU.
    pub(super) fn of(weight: &Tensor) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let registers = Registers::here();
        let width = registers.columns();
        let weight = Elements::of(weight);
        let rows = weight.slice()?;
        // A panel's row is one line or two.
        let count = outputs.next_multiple_of(width) * inputs * size_of::<f32>() / size_of::<Line>();
        let lines = Lines::new(count, |lines| {
            Line::values_mut::<f32>(lines)
                .par_chunks_mut((width * inputs).max(1))
                .zip(rows.par_chunks((width * inputs).max(1)))
                .for_each(|(panel, rows)| {
                    if rows.len() == panel.len() {
                        transpose(rows, inputs, panel, width);
                    } else {
                        let mut filled = vec![0.0; panel.len()];
                        filled[..rows.len()].copy_from_slice(rows);
                        transpose(&filled, inputs, panel, width);
                    }
                });
        });
        Ok(Self { lines: lines.map_err(Error::wrap)?, registers, inputs, outputs })
    }

    fn width(&self) -> usize {
        self.registers.columns()
    }

    fn elements(&self) -> &[f32] {
        Line::values(&self.lines)
    }

    /// Some of a panel's inputs.
    fn chunk(&self, panel: usize, inputs: Range<usize>) -> &[f32] {
        let first = panel * self.inputs + inputs.start;
        &self.elements()[first * self.width()..][..inputs.len() * self.width()]
    }
}

impl PackedWeight for Panels {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn to_tensor(&self) -> Result<Tensor> {
        let mut weight = vec![0.0; self.outputs * self.inputs];
        weight
            .par_chunks_mut((self.width() * self.inputs).max(1))
            .zip(self.elements().par_chunks((self.width() * self.inputs).max(1)))
            .for_each(|(rows, panel)| transpose(panel, self.width(), rows, self.inputs));
        Tensor::from_vec(weight, (self.outputs, self.inputs), &Device::Cpu)
    }
}
