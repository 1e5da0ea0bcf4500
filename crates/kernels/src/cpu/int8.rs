//! x Wᵀ with W in 8 bits, a scale for each output and 256 of its inputs; x and the result in f32.
//!
//! Rows of x become integers once, of 8 or of 16 bits (`registers`), with a scale for each row and the same 256
//! inputs. Sums of 256 products are exact in 32 bits (256 · 127 · 32767 < 2³¹), and then added up in f32. Otherwise
//! as the product in f32 (`panels`): a task makes a rectangle of the result, a chunk of K at a time, and a row's
//! result does not depend on the rows beside it.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[forbid(unsafe_code)]
mod operands;
#[forbid(unsafe_code)]
mod registers;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::{ops::Range, sync::Arc};

use candle_core::{Device, Error, Result, Tensor};
use rayon::prelude::*;

use self::{
    operands::{Panel, Tile},
    registers::Registers,
};
use super::{
    grid::{Rows, task_size},
    line::Line,
    matrix::{Elements, Matrix},
    memory::Lines,
    registers::Onto,
    simd::{ROUND, vectorised},
};
use crate::operand::{Int8Weight, PackedWeight, Weight, packed_as};

/// Inputs that share a scale.
const GROUP: usize = Int8Weight::GROUP;
/// Rows and columns of a task, at most: whole tiles of 6, of 12 and of 32 rows.
const TASK: [usize; 2] = [192, 512];

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
                *scale = quantise_to_8(row, values);
            }
        });
    Ok(Int8Weight {
        values: Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)?,
        scales: Tensor::from_vec(scales, (outputs, groups), &Device::Cpu)?,
    })
}

/// Below it, values count as zero: what fills so many steps would be infinite.
const TINY: f32 = 1e-30;

/// What x is multiplied by to fill so many steps, and what brings it back; of a value that is no number, or
/// infinite, no number comes back.
#[inline(always)]
fn scales(x: &[f32], steps: f32) -> [f32; 2] {
    // In the order of their bits numbers without a sign lie as they do in size, infinity behind them, then what is
    // no number; and the greatest of integers is found in vectors.
    let mut most = 0;
    for x in x {
        most = most.max(x.to_bits() & 0x7fff_ffff);
    }
    let most = f32::from_bits(most);
    let forth = if most > TINY { steps / most } else { 0.0 };
    [forth, if most < f32::INFINITY { most / steps } else { f32::NAN }]
}

vectorised! {
    /// Values in 8 bits; returns their scale.
    fn quantise_to_8<'a>(x: &'a [f32], to: &'a mut [u8]) -> f32 {
        let [forth, back] = scales(x, 127.0);
        for (to, x) in to.iter_mut().zip(x) {
            *to = (x * forth + ROUND).to_bits() as u8;
        }
        back
    }
}

vectorised! {
    /// Values in 16 bits; returns their scale.
    fn quantise_to_16<'a>(x: &'a [f32], to: &'a mut [u16]) -> f32 {
        let [forth, back] = scales(x, 32_767.0);
        for (to, x) in to.iter_mut().zip(x) {
            *to = (x * forth + ROUND).to_bits() as u16;
        }
        back
    }
}

/// x in integers, for the registers.
struct Left {
    registers: Registers,
    /// Words, (tiles, K/step, rows, step/values); what is missing of the last tile, and of the last step, is zero.
    lines: Vec<Line>,
    /// (tiles, groups, rows)
    scales: Vec<f32>,
    /// (tiles, groups, rows)
    sums: Vec<i32>,
    inputs: usize,
}

impl Left {
    fn of(x: Matrix<'_>, registers: Registers) -> Self {
        let ([rows, inputs], height) = (x.size(), registers.rows());
        let tiles = rows.div_ceil(height);
        let (step, together) = (registers.step(), registers.step() / registers.values());
        let words_of = |inputs: usize| inputs.div_ceil(step) * height * together;
        let groups = inputs.div_ceil(GROUP) * height;
        let bytes = tiles * words_of(inputs) * size_of::<i32>();
        let mut lines = vec![Line::ZERO; bytes.div_ceil(size_of::<Line>())];
        let mut scales = vec![0.0; tiles * groups];
        let mut sums = vec![0; tiles * groups];
        Line::values_mut::<i32>(&mut lines)
            .par_chunks_mut(words_of(inputs).max(1))
            .zip(scales.par_chunks_mut(groups.max(1)))
            .zip(sums.par_chunks_mut(groups.max(1)))
            .enumerate()
            .for_each(|(tile, ((words, scales), sums))| {
                let words = words.chunks_mut(words_of(GROUP));
                let groups = scales.chunks_exact_mut(height).zip(sums.chunks_exact_mut(height));
                for (group, (words, (scales, sums))) in words.zip(groups).enumerate() {
                    let columns = group * GROUP..inputs.min((group + 1) * GROUP);
                    let first = tile * height;
                    for (i, row) in (first..rows.min(first + height)).enumerate() {
                        let steps = words.chunks_exact_mut(height * together);
                        let words = steps.flat_map(|words| &mut words[i * together..][..together]);
                        (scales[i], sums[i]) = lay_out(x, row, columns.clone(), registers, words);
                    }
                }
            });
        Self { registers, lines, scales, sums, inputs }
    }

    /// Some tiles' inputs, from the first of a group on.
    fn tiles(&self, tiles: Range<usize>, inputs: Range<usize>) -> impl Iterator<Item = Tile<'_>> {
        let (height, step) = (self.registers.rows(), self.registers.step());
        let part = move |tile: usize, of: usize, size: usize| {
            let first = tile * self.inputs.div_ceil(of);
            (first + inputs.start / of) * size..(first + inputs.end.div_ceil(of)) * size
        };
        let words = Line::values(&self.lines);
        tiles.map(move |tile| Tile {
            words: &words[part(tile, step, height * step / self.registers.values())],
            scales: &self.scales[part(tile, GROUP, height)],
            sums: &self.sums[part(tile, GROUP, height)],
        })
    }
}

/// A group of a row in words; returns its scale, and the sum of its integers where they have 8 bits.
fn lay_out<'a>(
    x: Matrix<'_>,
    row: usize,
    columns: Range<usize>,
    registers: Registers,
    words: impl Iterator<Item = &'a mut i32>,
) -> (f32, i32) {
    let [row_step, column_step] = x.steps();
    let from = &x.elements()[row * row_step + columns.start * column_step..];
    let mut values = [0.0; GROUP];
    let values = match column_step {
        1 => &from[..columns.len()],
        step => {
            let values = &mut values[..columns.len()];
            values.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, x)| *to = *x);
            values
        }
    };
    match registers {
        Registers::Pairs => {
            let mut to = [0; GROUP];
            let scale = quantise_to_16(values, &mut to);
            for (word, &[low, high]) in words.zip(to.as_chunks::<2>().0) {
                *word = (u32::from(low) | u32::from(high) << 16).cast_signed();
            }
            (scale, 0)
        }
        #[cfg(target_arch = "x86_64")]
        _ => {
            let mut to = [0; GROUP];
            let scale = quantise_to_8(values, &mut to);
            for (word, bytes) in words.zip(to.as_chunks::<4>().0) {
                *word = i32::from_le_bytes(*bytes);
            }
            (scale, to.iter().map(|x| i32::from(x.cast_signed())).sum())
        }
    }
}

/// A weight in 8 bits as panels of 16 or 32 outputs, (in/values, outputs, values) one after the other; the last
/// output's, and the last step's, are filled up.
pub(super) struct Int8Panels {
    registers: Registers,
    /// Bytes.
    lines: Lines,
    /// (panels, groups, outputs)
    scales: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Int8Panels {
    pub(super) fn of(weight: &Int8Weight) -> Result<Self> {
        Self::for_registers(weight, Registers::here())
    }

    fn for_registers(weight: &Int8Weight, registers: Registers) -> Result<Self> {
        let (outputs, inputs) = weight.values.dims2()?;
        let (values, by) = (Elements::of(&weight.values), Elements::of(&weight.scales));
        let groups = inputs.div_ceil(GROUP);
        let (values, by) = (values.slice_of::<u8>()?, by.exactly::<f32>(outputs * groups)?);
        let (width, each) = (registers.columns(), registers.values());
        let panels = outputs.div_ceil(width);
        let panel = inputs.next_multiple_of(registers.step()) * width;
        let mut scales = vec![0.0; panels * groups * width];
        let count = (panels * panel).div_ceil(size_of::<Line>());
        let lines = Lines::new(count, |lines| {
            Line::values_mut::<u8>(lines)
                .par_chunks_mut(panel.max(1))
                .zip(scales.par_chunks_mut((groups * width).max(1)))
                .zip(values.par_chunks((width * inputs).max(1)))
                .zip(by.par_chunks((width * groups).max(1)))
                .for_each(|(((bytes, scales), values), by)| {
                    for (j, row) in values.chunks_exact(inputs.max(1)).enumerate() {
                        let words = bytes.chunks_exact_mut(width * each);
                        for (words, row) in words.zip(row.chunks(each)) {
                            for (to, value) in words[each * j..].iter_mut().zip(row) {
                                *to = value ^ registers.bias();
                            }
                        }
                    }
                    for (j, row) in by.chunks_exact(groups.max(1)).enumerate() {
                        let scales = scales.chunks_exact_mut(width);
                        scales.zip(row).for_each(|(to, scale)| to[j] = *scale);
                    }
                });
        });
        Ok(Self { registers, lines: lines.map_err(Error::wrap)?, scales, inputs, outputs })
    }

    /// Some inputs of a panel, from the first of a group on.
    fn panel(&self, panel: usize, inputs: Range<usize>) -> Panel<'_> {
        let (width, step) = (self.registers.columns(), self.registers.step());
        let part = |of: usize, size: usize| {
            let first = panel * self.inputs.div_ceil(of);
            (first + inputs.start / of) * size..(first + inputs.end.div_ceil(of)) * size
        };
        Panel {
            bytes: &Line::values(&self.lines)[part(step, step * width)],
            scales: &self.scales[part(GROUP, width)],
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
            let (width, each) = (self.registers.columns(), self.registers.values());
            let (panel, j) = (output / width, output % width);
            let panel = self.panel(panel, 0..self.inputs);
            for (i, value) in row.iter_mut().enumerate() {
                let byte = panel.bytes[(i / each * width + j) * each + i % each];
                let scale = panel.scales[i / GROUP * width + j];
                *value = f32::from((byte ^ self.registers.bias()).cast_signed()) * scale;
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
    let registers = panels.registers;
    let (height, width) = (registers.rows(), registers.columns());
    let chunk_size = registers.chunk_words() * registers.values();
    let left = Left::of(x, registers);
    let threads = rayon::current_num_threads();
    let size = task_size([rows, panels.outputs], [height, width], TASK, threads);
    to.grid(panels.outputs).each(
        size,
        || registers.hold(),
        |_, mut rectangle| {
            let (rows, columns) = (rectangle.rows(), rectangle.columns());
            for from in (0..inputs).step_by(chunk_size) {
                let chunk = from..inputs.min(from + chunk_size);
                let onto = if from == 0 { Onto::Zero } else { Onto::Itself };
                for first in columns.clone().step_by(width) {
                    let tiles = rows.start / height..rows.end.div_ceil(height);
                    let panel = panels.panel(first / width, chunk.clone());
                    let mut out = rectangle.part(rows.clone(), first..first + width);
                    registers.multiply(left.tiles(tiles, chunk.clone()), panel, &mut out, onto);
                }
            }
            for (i, row) in rows.enumerate() {
                each(row, columns.clone(), rectangle.row(i));
            }
        },
    );
    Ok(())
}

/// What multiplies 8 bits on this machine, as people are told.
#[must_use]
pub fn int8_description() -> &'static str {
    Registers::here().description()
}

/// Of an integer that a row's value becomes on this machine, its sign included: 8 or 16.
#[must_use]
pub fn int8_row_bits() -> usize {
    32 / Registers::here().values()
}

/// Whether a weight is in 8 bits.
pub(super) fn is_stored_so(weight: &Weight) -> bool {
    match weight {
        Weight::Int8(_) => true,
        Weight::Packed(packed) => packed_as::<Int8Panels>(&**packed).is_some(),
        Weight::Plain(_) | Weight::E4m3 { .. } => false,
    }
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
