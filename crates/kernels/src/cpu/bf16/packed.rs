//! Operands of products in the order in which tiles read them.

use candle_core::{Device, Error, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    super::{convert::zeros, matrix::Elements},
    line::Line,
    memory::Lines,
    tiles::{SIDE, STEP, TILE},
};
use crate::operand::PackedWeight;

/// A weight in bf16 as panels of 32 outputs, each a step of its inputs after the other, in VNNI order.
///
/// Inputs may have parts: those of a 3×3 kernel are its three rows, each of three pixels' channels. Outputs,
/// and the inputs of a pixel, are filled up to multiples of 32 with zeros.
pub(super) struct VnniPanels {
    lines: Lines,
    /// Of the weight as it was.
    shape: Shape,
}

/// What the inputs of a weight are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    outputs: usize,
    /// How many times `channels` stand beside each other in a row of the weight.
    pixels: usize,
    channels: usize,
    /// Of K, read one after the other.
    parts: usize,
}

impl Shape {
    /// Of a pixel.
    fn steps(self) -> usize {
        self.channels.div_ceil(SIDE)
    }

    fn panel_lines(self) -> usize {
        self.pixels * self.steps() * STEP
    }

    /// Of a row of the weight, what a step reads.
    fn values(self, step: usize) -> std::ops::Range<usize> {
        let (pixel, from) = (step / self.steps(), step % self.steps() * SIDE);
        let start = pixel * self.channels + from;
        start..start + SIDE.min(self.channels - from)
    }
}

impl VnniPanels {
    /// Of a contiguous weight (out, in), bf16, on the CPU.
    pub(super) fn of_linear(weight: &Tensor) -> Result<Self> {
        let (outputs, channels) = weight.dims2()?;
        Self::pack(weight, Shape { outputs, pixels: 1, channels, parts: 1 })
    }

    /// Of a contiguous kernel (out, 3, 3, in), bf16, on the CPU.
    pub(super) fn of_kernel(weight: &Tensor) -> Result<Self> {
        let (outputs, _, _, channels) = weight.dims4()?;
        Self::pack(weight, Shape { outputs, pixels: 9, channels, parts: 3 })
    }

    fn pack(weight: &Tensor, shape: Shape) -> Result<Self> {
        let elements = Elements::of(weight);
        let weight = elements.slice_of::<bf16>()?;
        let width = shape.pixels * shape.channels;
        let panel_lines = shape.panel_lines();
        let count = shape.outputs.div_ceil(SIDE) * panel_lines;
        let lines = Lines::new(count, |lines| {
            lines.par_chunks_mut(panel_lines.max(1)).enumerate().for_each(|(panel, lines)| {
                for (step, lines) in lines.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                    let values = shape.values(step);
                    *lines = pack_columns(|i| {
                        let row = panel * SIDE + i;
                        let row = (row < shape.outputs).then(|| &weight[row * width..][..width]);
                        row.map_or(&[][..], |row| &row[values.clone()])
                    });
                }
            });
        });
        Ok(Self { lines: lines.map_err(Error::wrap)?, shape })
    }

    /// Of a row, or of a pixel.
    pub(super) fn channels(&self) -> usize {
        self.shape.channels
    }

    pub(super) fn right(&self) -> Right<'_> {
        let Shape { pixels, parts, .. } = self.shape;
        Right { lines: &self.lines, parts, steps: pixels / parts * self.shape.steps() }
    }
}

impl PackedWeight for VnniPanels {
    fn outputs(&self) -> usize {
        self.shape.outputs
    }

    fn to_tensor(&self) -> Result<Tensor> {
        let shape = self.shape;
        let width = shape.pixels * shape.channels;
        let mut weight = zeros(shape.outputs * width);
        let panels = self.lines.par_chunks(shape.panel_lines().max(1));
        weight.par_chunks_mut((SIDE * width).max(1)).zip(panels).for_each(|(rows, lines)| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for (step, lines) in lines.as_chunks::<STEP>().0.iter().enumerate() {
                    for (at, value) in row[shape.values(step)].iter_mut().enumerate() {
                        *value = lines[i / TILE * TILE + at / 2].0[2 * (i % TILE) + at % 2];
                    }
                }
            }
        });
        let dims = match shape.pixels {
            1 => vec![shape.outputs, shape.channels],
            _ => vec![shape.outputs, 3, 3, shape.channels],
        };
        Tensor::from_vec(weight, dims, &Device::Cpu)
    }
}

/// B of a product: panels of 32 columns, each `parts` of so many `steps`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) lines: &'a [Line],
    pub(super) parts: usize,
    pub(super) steps: usize,
}

impl<'a> Right<'a> {
    pub(super) fn panels(&self) -> usize {
        self.lines.len() / (self.parts * self.steps * STEP).max(1)
    }

    /// Some steps of a panel; nothing of one that is not there.
    pub(super) fn chunk(&self, panel: usize, part: usize, from: usize, steps: usize) -> &'a [Line] {
        let first = (panel * self.parts + part) * self.steps + from;
        self.lines.get(first * STEP..(first + steps) * STEP).unwrap_or_default()
    }
}

/// A step of B from its columns, up to 32 values each: a transposition of pairs.
pub(super) fn pack_columns<'a>(column: impl Fn(usize) -> &'a [bf16]) -> [Line; STEP] {
    let mut lines = [Line::ZERO; STEP];
    for (half, lines) in lines.as_chunks_mut::<TILE>().0.iter_mut().enumerate() {
        let mut columns = [Line::ZERO; TILE];
        for (i, line) in columns.iter_mut().enumerate() {
            line.fill(column(half * TILE + i));
        }
        for (pair, line) in lines.iter_mut().enumerate() {
            let words = line.words_mut();
            for i in 0..TILE {
                words[i] = columns[i].words()[pair];
            }
        }
    }
    lines
}

/// A step of B from its rows, up to 32 values each.
pub(super) fn pack_rows<'a>(row: impl Fn(usize) -> &'a [bf16]) -> [Line; STEP] {
    let mut lines = [Line::ZERO; STEP];
    let mut both = [Line::ZERO; 2];
    for pair in 0..TILE {
        both[0].fill(row(2 * pair));
        both[1].fill(row(2 * pair + 1));
        for half in 0..2 {
            let words = lines[half * TILE + pair].words_mut();
            for (i, word) in words.iter_mut().enumerate() {
                let [even, odd] = [0, 1].map(|j| u32::from(both[j].0[half * TILE + i].to_bits()));
                *word = even | odd << 16;
            }
        }
    }
    lines
}

/// A step of A from its rows, up to 32 values each.
pub(super) fn pack_step<'a>(row: impl Fn(usize) -> &'a [bf16]) -> [Line; STEP] {
    let mut lines = [Line::ZERO; STEP];
    for (i, line) in lines.iter_mut().enumerate() {
        line.fill(row(i));
    }
    lines
}
