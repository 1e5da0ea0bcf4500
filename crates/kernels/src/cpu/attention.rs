//! Attention in blocks of queries and keys: only a block of scores exists at a time, in the cache.
//!
//! Each block of keys adds to sums that are relative to the largest score seen until then; where a
//! block brings a larger one, the sums so far are scaled down first.
//!
//! Both products are turned: scores are K·Qᵀ and the result Vᵀ·weights, so that queries are lanes. Then no
//! row is ever summed up across a register, and the weights stand as the second product reads them.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{
    bf16,
    convert::{narrowed, widen_all, zeros},
    grid::Rows,
    int8,
    linear::{Bias, MIN_ROWS, activate, of},
    mask::HeadMask,
    matrix::{Elements, Matrix},
    panels::{Side, lay_out},
    product::multiply,
    registers::{Columns, Onto, Registers},
    simd::{GeluTanh, exp, vectorised},
};
use crate::operand::{Heads, Linear, Mask, Scores};

/// Keys of a block: whole tiles of 6 and of 12.
const KEYS: usize = 252;
/// Queries of a task, at most.
const QUERIES: usize = 64;

pub(super) fn attention(heads: &Heads, scores: Scores<'_>) -> Result<Tensor> {
    written(heads, |out, row| attend(heads, scores, out, row))
}

pub(super) fn attention_between(
    heads: &Heads,
    scores: Scores<'_>,
    layer: &Linear,
) -> Result<Tensor> {
    written(heads, |out, row| attend_between(heads, scores, layer, out, row))
}

/// A result of its own, (n·l, h·d): `attend` is given it, and the length of a row.
fn written(heads: &Heads, attend: impl FnOnce(&mut [f32], usize) -> Result<()>) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    let row = count * width;
    let mut out = zeros(rows * row);
    attend(&mut out, row)?;
    Tensor::from_vec(out, (rows, row), heads.q.device())
}

pub(super) fn attention_beside_mlp(heads: &Heads, x: &Tensor, mlp: &Linear) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    let (attended, hidden) = (count * width, mlp.outputs());
    let row = attended + hidden;
    let mut out = zeros(rows * row);
    let bias = Bias::of(mlp);
    let bias = bias.slice()?;
    let beside = Rows { out: &mut out, step: row, start: attended };
    multiply(x, mlp, beside, |_, columns, hidden| {
        activate::<GeluTanh>(hidden, of(bias, columns));
    })?;
    attend_between(heads, Scores::scaled(width), mlp, &mut out, row)?;
    Tensor::from_vec(out, (rows, row), x.device())
}

/// As [`attend`]; in bf16 where the layers around have 8 bits, and the machine multiplies bf16 faster than f32.
fn attend_between(
    heads: &Heads,
    scores: Scores<'_>,
    layer: &Linear,
    out: &mut [f32],
    row: usize,
) -> Result<()> {
    if !(int8::is_stored_so(&layer.weight) && bf16::is_multiplied_as_such()) {
        return attend(heads, scores, out, row);
    }
    let Heads { q, k, v, images } = heads;
    let narrow = Heads { q: narrowed(q)?, k: narrowed(k)?, v: narrowed(v)?, images: *images };
    let attended = bf16::attention(&narrow, scores)?;
    let width = attended.dim(1)?;
    let attended = Elements::of(&attended);
    out.par_chunks_mut(row)
        .zip(attended.slice_of()?.par_chunks(width.max(1)))
        .with_min_len(MIN_ROWS)
        .for_each(|(out, attended)| widen_all(attended, &mut out[..width]));
    Ok(())
}

/// Writes softmax(q·kᵀ · scale + mask) · v into the first h·d elements of each of `out`'s rows.
fn attend(heads: &Heads, scores: Scores<'_>, out: &mut [f32], row: usize) -> Result<()> {
    let elements = [&heads.q, &heads.k, &heads.v].map(Elements::of);
    let images = heads.images;
    let [q, k, v] = [0, 1, 2].map(|i| elements[i].heads(images));
    let [q, k, v] = [q?, k?, v?];
    let bias = match scores.mask {
        Mask::Bias(bias) => Some(Elements::of(bias)),
        Mask::None | Mask::Causal => None,
    };
    let bias = bias.as_ref().map(Elements::slice).transpose()?;
    let [length, count, width] = heads.shape()?;
    let registers = Registers::here();
    let padded = |count: usize| count.next_multiple_of(registers.rows());
    // (n·h, l/rows, d, rows), rows of keys side by side.
    let key_part = padded(length) * width;
    let mut keys = vec![0.0; images * count * key_part];
    keys.par_chunks_mut(key_part.max(1)).zip(&k).for_each(|(to, k)| {
        lay_out(*k, 0..length, 0..width, (registers, Side::Rows), to);
    });
    // (n·h, l/252, d/rows, 252, rows), the last block shorter.
    let value_part = length * padded(width);
    let mut values = vec![0.0; images * count * value_part];
    values.par_chunks_mut(value_part.max(1)).zip(&v).for_each(|(to, v)| {
        for (block, to) in to.chunks_mut(KEYS * padded(width)).enumerate() {
            lay_out_values(*v, block * KEYS, registers.rows(), to);
        }
    });
    let head = |head: usize| Head {
        registers,
        q: q[head],
        k: &keys[head * key_part..][..key_part],
        v: &values[head * value_part..][..value_part],
        scale: scores.scale,
        mask: HeadMask::of(scores.mask, bias, [head % count, length]),
    };
    // (n·h, l, d): blocks of queries of one head are adjacent.
    let mut attended = zeros(images * count * length * width);
    attended
        .par_chunks_mut((length * width).max(1))
        .enumerate()
        .flat_map(|(i, all)| {
            let blocks = all.par_chunks_mut(QUERIES * width).enumerate();
            blocks.map(move |(block, out)| (i, block * QUERIES, out))
        })
        .for_each_init(Block::default, |block, (i, from, out)| block.attend(&head(i), from, out));
    // (n, h, l, d) → (n·l, h·d)
    out.par_chunks_mut(row).with_min_len(MIN_ROWS).enumerate().for_each(|(i, out)| {
        let (image, i) = (i / length, i % length);
        for (head, out) in out.chunks_exact_mut(width).take(count).enumerate() {
            let head = image * count + head;
            out.copy_from_slice(&attended[(head * length + i) * width..][..width]);
        }
    });
    Ok(())
}

/// Values (keys, d) from the first on, as many as `to` holds: (d/height, keys, height), filled up with zeros.
fn lay_out_values(v: Matrix<'_>, first: usize, height: usize, to: &mut [f32]) {
    let ([_, width], [step, _]) = (v.size(), v.steps());
    let keys = to.len() / width.next_multiple_of(height);
    for i in 0..keys {
        let from = &v.elements()[(first + i) * step..][..width];
        for (from, to) in from.chunks(height).zip(to.chunks_exact_mut(keys * height)) {
            to[i * height..][..from.len()].copy_from_slice(from);
        }
    }
}

/// One head's share.
struct Head<'a> {
    registers: Registers,
    /// (l, d)
    q: Matrix<'a>,
    /// (l/rows, d, rows)
    k: &'a [f32],
    /// (l/252, d/rows, 252, rows)
    v: &'a [f32],
    scale: f32,
    mask: HeadMask<'a>,
}

/// What some queries need while they meet the keys; kept from task to task. Queries are lanes: beside each
/// other in every row, as many as registers have columns.
#[derive(Default)]
struct Block {
    /// (queries/lanes, d, lanes), times the scale.
    queries: Vec<f32>,
    /// Scores, then weights, of one block of keys: (keys, lanes).
    scores: Vec<f32>,
    /// Of each query, the largest score so far: (queries/lanes, lanes).
    largest: Vec<f32>,
    /// Of each query, Σ exp(score − largest) so far.
    sums: Vec<f32>,
    /// Σ exp(score − largest) · value so far: (queries/lanes, d, lanes).
    weighed: Vec<f32>,
}

impl Block {
    /// The queries from `first` on: out (queries, d).
    fn attend(&mut self, head: &Head<'_>, first: usize, out: &mut [f32]) {
        let ([length, width], lanes) = (head.q.size(), head.registers.columns());
        let (count, height) = (out.len() / width, head.registers.rows());
        let rounded = count.next_multiple_of(lanes);
        for (kept, elements, from) in [
            (&mut self.queries, rounded * width, 0.0),
            (&mut self.weighed, rounded * width, 0.0),
            (&mut self.sums, rounded, 0.0),
            (&mut self.largest, rounded, f32::NEG_INFINITY),
        ] {
            kept.clear();
            kept.resize(elements, from);
        }
        self.scores.resize(KEYS * lanes, 0.0);
        let side = (head.registers, Side::Columns);
        lay_out(head.q, first..first + count, 0..width, side, &mut self.queries);
        self.queries.iter_mut().for_each(|x| *x *= head.scale);
        let seen = match head.mask {
            HeadMask::Causal => first + count,
            HeadMask::None | HeadMask::Bias(_) => length,
        };
        for from in (0..seen).step_by(KEYS) {
            let keys = KEYS.min(length - from);
            let k = &head.k[from * width..][..keys.next_multiple_of(height) * width];
            let padded = width.next_multiple_of(height);
            let v = &head.v[from * padded..][..keys * padded];
            let panels = self.queries.chunks_exact(width * lanes);
            let sums = self.largest.chunks_exact_mut(lanes).zip(self.sums.chunks_exact_mut(lanes));
            let weighed = self.weighed.chunks_exact_mut(width * lanes);
            for (panel, ((queries, weighed), (largest, sums))) in
                panels.zip(weighed).zip(sums).enumerate()
            {
                let scores = &mut self.scores[..keys * lanes];
                let mut rows = Columns::all(scores, lanes);
                head.registers.multiply(k, queries, &mut rows, Onto::Zero);
                let first = first + panel * lanes;
                let mask = match head.mask {
                    HeadMask::None => BlockMask::None,
                    HeadMask::Causal => BlockMask::Causal { first, from },
                    HeadMask::Bias(bias) => {
                        let rows = &bias[(first * length + from).min(bias.len())..];
                        BlockMask::Bias { rows, step: length }
                    }
                };
                let state = Sums { largest, sums, weighed };
                match head.registers {
                    Registers::Sixteen => weigh_16(scores, state, mask),
                    Registers::ThirtyTwo => weigh_32(scores, state, mask),
                }
                let mut rows = Columns::all(weighed, lanes);
                head.registers.multiply(v, scores, &mut rows, Onto::Itself);
            }
        }
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let factor = self.sums[i].recip();
            let weighed = &self.weighed[i / lanes * lanes * width + i % lanes..];
            for (out, x) in out.iter_mut().zip(weighed.iter().step_by(lanes)) {
                *out = x * factor;
            }
        }
    }
}

/// The mask of one block's scores.
#[derive(Clone, Copy)]
pub(super) enum BlockMask<'a> {
    None,
    /// The first query's and the first key's positions.
    Causal {
        first: usize,
        from: usize,
    },
    /// From the first query's and key's place on, a query's rows beginning every `step`.
    Bias {
        rows: &'a [f32],
        step: usize,
    },
}

/// What is summed up for the queries of a panel.
pub(super) struct Sums<'a> {
    /// (lanes,)
    largest: &'a mut [f32],
    /// (lanes,)
    sums: &'a mut [f32],
    /// (d, lanes)
    weighed: &'a mut [f32],
}

vectorised! {
    fn weigh_16<'a>(scores: &'a mut [f32], state: Sums<'a>, mask: BlockMask<'a>) {
        weigh::<16>(scores, state, mask);
    }
}

vectorised! {
    fn weigh_32<'a>(scores: &'a mut [f32], state: Sums<'a>, mask: BlockMask<'a>) {
        weigh::<32>(scores, state, mask);
    }
}

/// Replaces scores by weights relative to the largest score so far; scales what has been summed up to the
/// same and counts the new weights.
#[inline(always)]
fn weigh<const LANES: usize>(scores: &mut [f32], state: Sums<'_>, mask: BlockMask<'_>) {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let ([largest], [sums]) =
        (state.largest.as_chunks_mut::<LANES>().0, state.sums.as_chunks_mut::<LANES>().0)
    else {
        return;
    };
    match mask {
        BlockMask::None => {}
        BlockMask::Causal { first, from } => {
            for (key, row) in scores.iter_mut().enumerate() {
                for (lane, x) in row.iter_mut().enumerate() {
                    *x = if from + key > first + lane { f32::NEG_INFINITY } else { *x };
                }
            }
        }
        BlockMask::Bias { rows, step } => {
            // Lanes past the last query have no row.
            for (lane, bias) in rows.chunks(step).take(LANES).enumerate() {
                for (row, bias) in scores.iter_mut().zip(bias) {
                    row[lane] += bias;
                }
            }
        }
    }
    let mut found = *largest;
    for row in scores.iter() {
        for lane in 0..LANES {
            found[lane] = if row[lane] > found[lane] { row[lane] } else { found[lane] };
        }
    }
    if found != *largest {
        let mut factors = [0f32; LANES];
        for lane in 0..LANES {
            factors[lane] = exp(largest[lane] - found[lane]);
            sums[lane] *= factors[lane];
        }
        for row in state.weighed.as_chunks_mut::<LANES>().0 {
            for lane in 0..LANES {
                row[lane] *= factors[lane];
            }
        }
        *largest = found;
    }
    let mut total = *sums;
    for row in scores.iter_mut() {
        for lane in 0..LANES {
            row[lane] = exp(row[lane] - found[lane]);
            total[lane] += row[lane];
        }
    }
    *sums = total;
}
