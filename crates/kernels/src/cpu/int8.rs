//! x Wᵀ with W in 8 bits, a scale for each output and 256 of its inputs; x and the result in f32.
//!
//! Rows of x become 16-bit integers as they are laid out, with a scale for each row and the same 256 inputs, so that
//! what is lost is W's: half a step of 1/127 of the largest of 256 values. Sums of 256 products are exact in 32 bits
//! (256 · 127 · 32767 < 2³¹), and then added up in f32. Otherwise as the product in f32 (`panels`): a task makes a
//! rectangle of the result, a chunk of K at a time, and a row's result does not depend on the rows beside it.

mod registers;

use std::{ops::Range, sync::Arc};

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use self::registers::{COLUMNS, Pair, Panel, ROWS, Tile};
use super::{
    grid::{Rows, task_size},
    matrix::{Elements, Matrix},
    registers::Onto,
    simd::{ROUND, vectorised},
};
use crate::operand::{Int8Weight, PackedWeight};

/// Inputs that share a scale.
const GROUP: usize = Int8Weight::GROUP;
/// Of K, what is multiplied at a time: of 16 outputs 16 KiB, of 192 rows 384 KiB.
const CHUNK: usize = 4 * GROUP;
/// Rows and columns of a task, at most: for each, its rows are laid out anew.
const TASK: [usize; 2] = [192, 1024];

/// A weight (out, in), contiguous, in f32 or bf16 → in 8 bits.
///
/// # Errors
/// Where it is not on the CPU.
pub(crate) fn quantise(weight: &Tensor) -> Result<Int8Weight> {
    let (outputs, inputs) = weight.dims2()?;
    let elements = Elements::of(weight);
    let rows = elements.wide()?;
    let groups = inputs.div_ceil(GROUP);
    let (mut values, mut scales) = (vec![0u8; outputs * inputs], vec![0f32; outputs * groups]);
    values
        .par_chunks_mut(inputs.max(1))
        .zip(scales.par_chunks_mut(groups.max(1)))
        .zip(rows.par_chunks(inputs.max(1)))
        .for_each(|((values, scales), row)| {
            let values = values.chunks_mut(GROUP).zip(row.chunks(GROUP));
            for (scale, (values, row)) in scales.iter_mut().zip(values) {
                *scale = quantise_weights(row, values);
            }
        });
    Ok(Int8Weight {
        values: Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)?,
        scales: Tensor::from_vec(scales, (outputs, groups), &Device::Cpu)?,
    })
}

/// What x is multiplied by to fill so many steps, and what brings it back; of a value that is no number, or
/// infinite, no number comes back.
#[inline(always)]
fn scales(x: &[f32], steps: f32) -> [f32; 2] {
    let (mut most, mut poison) = (0f32, 0f32);
    for &x in x {
        most = if x.abs() > most { x.abs() } else { most };
        poison += x * 0.0;
    }
    let forth = if most > 0.0 { steps / most } else { 0.0 };
    [forth, most / steps + poison]
}

vectorised! {
    /// Values in 8 bits; returns their scale.
    fn quantise_weights<'a>(x: &'a [f32], to: &'a mut [u8]) -> f32 {
        let [forth, back] = scales(x, 127.0);
        for (to, x) in to.iter_mut().zip(x) {
            *to = (x * forth + ROUND).to_bits() as u8;
        }
        back
    }
}

vectorised! {
    /// Values in 16 bits, two to a word, the last with a zero where there is one too few; returns their scale.
    fn quantise_row<'a>(x: &'a [f32], to: &'a mut [Pair]) -> f32 {
        let [forth, back] = scales(x, 32_767.0);
        let (pairs, rest) = x.as_chunks::<2>();
        for (to, x) in to.iter_mut().zip(pairs) {
            let [low, high] = [(x[0] * forth + ROUND).to_bits(), (x[1] * forth + ROUND).to_bits()];
            *to = ((low & 0xffff) | high << 16).cast_signed();
        }
        if let ([x], Some(to)) = (rest, to.get_mut(pairs.len())) {
            *to = ((x * forth + ROUND).to_bits() & 0xffff).cast_signed();
        }
        back
    }
}

/// Rows of x, for the registers.
#[derive(Default)]
struct Left {
    /// (tiles, K/2, rows)
    pairs: Vec<[Pair; ROWS]>,
    /// (tiles, groups, rows)
    scales: Vec<[f32; ROWS]>,
    tiles: usize,
}

impl Left {
    /// Some of x's rows and columns; what is missing of the last tile, and of the last pair, is zero.
    fn lay_out(&mut self, x: Matrix<'_>, rows: Range<usize>, columns: Range<usize>) {
        let [row_step, column_step] = x.steps();
        let (pairs, groups) = (columns.len().div_ceil(2), columns.len().div_ceil(GROUP));
        self.tiles = rows.len().div_ceil(ROWS);
        self.pairs.resize(self.tiles * pairs, [0; ROWS]);
        self.scales.resize(self.tiles * groups, [0.0; ROWS]);
        let tiles = self.pairs.chunks_exact_mut(pairs).zip(self.scales.chunks_exact_mut(groups));
        for (first, (pairs, scales)) in rows.clone().step_by(ROWS).zip(tiles) {
            let there = ROWS.min(rows.end - first);
            let groups = columns.clone().step_by(GROUP);
            let each = pairs.chunks_mut(GROUP / 2).zip(scales).zip(groups);
            for ((pairs, scales), from) in each {
                let to = columns.end.min(from + GROUP);
                let mut words = [[0; GROUP / 2]; ROWS];
                *scales = [0.0; ROWS];
                for i in 0..there {
                    let row = &x.elements()[(first + i) * row_step + from * column_step..];
                    let words = &mut words[i][..pairs.len()];
                    scales[i] = if column_step == 1 {
                        quantise_row(&row[..to - from], words)
                    } else {
                        let row: Vec<f32> =
                            row.iter().step_by(column_step).take(to - from).copied().collect();
                        quantise_row(&row, words)
                    };
                }
                for (at, to) in pairs.iter_mut().enumerate() {
                    *to = std::array::from_fn(|i| words[i][at]);
                }
            }
        }
    }

    fn tiles(&self) -> impl Iterator<Item = Tile<'_>> {
        let each = |all: usize| (all / self.tiles.max(1)).max(1);
        let pairs = self.pairs.chunks_exact(each(self.pairs.len()));
        let scales = self.scales.chunks_exact(each(self.scales.len()));
        pairs.zip(scales).map(|(pairs, scales)| Tile { pairs, scales })
    }
}

/// A weight in 8 bits as panels of 16 outputs, (in/2, 16, 2) one after the other; the last one is filled up with
/// zeros.
pub(super) struct Int8Panels {
    pairs: Vec<[i8; 2 * COLUMNS]>,
    /// (panels, groups, 16)
    scales: Vec<[f32; COLUMNS]>,
    inputs: usize,
    outputs: usize,
}

impl Int8Panels {
    pub(super) fn of(weight: &Int8Weight) -> Result<Self> {
        let (outputs, inputs) = weight.values.dims2()?;
        let (values, by) = (Elements::of(&weight.values), Elements::of(&weight.scales));
        let groups = inputs.div_ceil(GROUP);
        let (values, by) = (values.slice_of::<u8>()?, by.exactly::<f32>(outputs * groups)?);
        let (panels, pairs_each) = (outputs.div_ceil(COLUMNS), inputs.div_ceil(2));
        let mut pairs = vec![[0; 2 * COLUMNS]; panels * pairs_each];
        let mut scales = vec![[0.0; COLUMNS]; panels * groups];
        pairs
            .par_chunks_mut(pairs_each.max(1))
            .zip(scales.par_chunks_mut(groups.max(1)))
            .zip(values.par_chunks((COLUMNS * inputs).max(1)))
            .zip(by.par_chunks((COLUMNS * groups).max(1)))
            .for_each(|(((pairs, scales), values), by)| {
                for (j, row) in values.chunks_exact(inputs.max(1)).enumerate() {
                    for (pairs, row) in pairs.iter_mut().zip(row.chunks(2)) {
                        for (to, value) in pairs[2 * j..].iter_mut().zip(row) {
                            *to = value.cast_signed();
                        }
                    }
                }
                for (j, row) in by.chunks_exact(groups.max(1)).enumerate() {
                    scales.iter_mut().zip(row).for_each(|(to, scale)| to[j] = *scale);
                }
            });
        Ok(Self { pairs, scales, inputs, outputs })
    }

    /// Some inputs of a panel, from the first of a group on.
    fn panel(&self, panel: usize, inputs: Range<usize>) -> Panel<'_> {
        let (groups, pairs) = (self.inputs.div_ceil(GROUP), self.inputs.div_ceil(2));
        let of = |each: usize| inputs.start / each..inputs.end.div_ceil(each);
        Panel {
            pairs: &self.pairs[panel * pairs..][of(2)],
            scales: &self.scales[panel * groups..][of(GROUP)],
        }
    }
}

impl PackedWeight for Int8Panels {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn to_tensor(&self) -> Result<Tensor> {
        let mut weight = vec![0.0; self.outputs * self.inputs];
        weight.par_chunks_mut(self.inputs.max(1)).enumerate().for_each(|(output, row)| {
            let (panel, j) = (output / COLUMNS, output % COLUMNS);
            let panel = self.panel(panel, 0..self.inputs);
            for (i, value) in row.iter_mut().enumerate() {
                let scale = panel.scales[i / GROUP][j];
                *value = f32::from(panel.pairs[i / 2][2 * j + i % 2]) * scale;
            }
        });
        Tensor::from_vec(weight, (self.outputs, self.inputs), &Device::Cpu)
    }
}

/// Writes x Wᵀ (l, out), then applies `each` to every piece of a row of it, in parallel.
pub(super) fn multiply(
    x: Matrix<'_>,
    panels: &Int8Panels,
    to: Rows<'_>,
    each: impl Fn(usize, Range<usize>, &mut [f32]) + Send + Sync,
) -> Result<()> {
    let [rows, inputs] = x.size();
    if inputs != panels.inputs {
        candle_core::bail!("rows of {inputs} and a weight of {} inputs", panels.inputs)
    }
    let size =
        task_size([rows, panels.outputs], [ROWS, COLUMNS], TASK, rayon::current_num_threads());
    to.grid(panels.outputs).each(size, Left::default, |left, mut rectangle| {
        let (rows, columns) = (rectangle.rows(), rectangle.columns());
        for from in (0..inputs).step_by(CHUNK) {
            let chunk = from..inputs.min(from + CHUNK);
            left.lay_out(x, rows.clone(), chunk.clone());
            let onto = if from == 0 { Onto::Zero } else { Onto::Itself };
            for first in columns.clone().step_by(COLUMNS) {
                let panel = panels.panel(first / COLUMNS, chunk.clone());
                let mut out = rectangle.part(rows.clone(), first..first + COLUMNS);
                registers::multiply(left.tiles(), panel, &mut out, onto);
            }
        }
        for (i, row) in rows.enumerate() {
            each(row, columns.clone(), rectangle.row(i));
        }
    });
    Ok(())
}

/// As products read it.
pub(crate) fn pack(weight: &Int8Weight) -> Result<Arc<dyn PackedWeight>> {
    Ok(Arc::new(Int8Panels::of(weight)?))
}

/// As it was, as far as that is known: (out, in), f32.
pub(crate) fn dequantise(weight: &Int8Weight) -> Result<Tensor> {
    Int8Panels::of(weight)?.to_tensor()
}

#[cfg(test)]
mod tests;
