//! Attention in blocks of queries and keys: only a block of scores exists at a time, in the cache.
//!
//! Each block of keys adds to sums that are relative to the largest score seen until then; where a
//! block brings a larger one, the sums so far are scaled down first.

use candle_core::{Error, Result, Tensor};
use rayon::prelude::*;

use super::{
    gemm::{self, Matrix, MatrixMut, Product},
    linear::{Bias, MIN_ROWS, activate},
    matrix::Elements,
    panels::{Rows, TILE_ROWS, multiply},
    simd::{GeluTanh, exp, exp_sum, max, transpose, vectorised},
};
use crate::operand::{Heads, Linear, Mask, Scores};

/// Queries of a block.
const QUERIES: usize = TILE_ROWS;
/// Keys of a block.
const KEYS: usize = 256;

pub(super) fn attention(heads: &Heads, scores: Scores<'_>) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    let mut out = vec![0.0; rows * count * width];
    attend(heads, scores, &mut out, count * width)?;
    Tensor::from_vec(out, (rows, count * width), heads.q.device())
}

pub(super) fn attention_beside_mlp(heads: &Heads, x: &Tensor, mlp: &Linear) -> Result<Tensor> {
    let (rows, count, width) = heads.q.dims3()?;
    let (attended, hidden) = (count * width, mlp.outputs());
    let row = attended + hidden;
    let mut out = vec![0.0; rows * row];
    let bias = Bias::of(mlp);
    let bias = bias.slice()?;
    let beside = Rows { out: &mut out, step: row, start: attended };
    multiply(x, mlp, beside, |_, hidden| activate::<GeluTanh>(hidden, bias))?;
    attend(heads, Scores::scaled(width), &mut out, row)?;
    Tensor::from_vec(out, (rows, row), x.device())
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
    // (n·h, l/256, d, 256): the keys of a block side by side, the last block narrower.
    let mut keys = vec![0.0; images * count * length * width];
    let blocks = keys.par_chunks_mut(length * width).enumerate().flat_map(|(i, all)| {
        all.par_chunks_mut(KEYS * width).enumerate().map(move |(block, to)| (i, block * KEYS, to))
    });
    blocks
        .try_for_each(|(i, first, to)| -> gemm::Result<()> {
            let count = to.len() / width;
            let from = k[i].some_rows(first, count)?;
            transpose(from.elements(), from.steps()[0], to, count);
            Ok(())
        })
        .map_err(Error::wrap)?;
    let head = |head: usize| Head {
        q: q[head],
        k: &keys[head * length * width..][..length * width],
        v: v[head],
        scale: scores.scale,
        mask: match (scores.mask, bias) {
            (Mask::Causal, _) => HeadMask::Causal,
            (_, Some(bias)) => HeadMask::Bias(&bias[head % count * length * length..]),
            _ => HeadMask::None,
        },
    };
    // (n·h, l, d): blocks of queries of one head are adjacent.
    let mut attended = vec![0.0; images * count * length * width];
    attended
        .par_chunks_mut(length * width)
        .enumerate()
        .flat_map(|(i, all)| {
            let blocks = all.par_chunks_mut(QUERIES * width).enumerate();
            blocks.map(move |(block, out)| (i, block * QUERIES, out))
        })
        .try_for_each_init(Block::default, |block, (i, from, out)| {
            block.attend(&head(i), from, out)
        })
        .map_err(Error::wrap)?;
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

/// One head's share.
struct Head<'a> {
    /// (l, d)
    q: Matrix<'a>,
    /// (l/256, d, 256)
    k: &'a [f32],
    /// (l, d)
    v: Matrix<'a>,
    scale: f32,
    mask: HeadMask<'a>,
}

#[derive(Clone, Copy)]
enum HeadMask<'a> {
    None,
    Causal,
    /// (l, l)
    Bias(&'a [f32]),
}

/// What a block of queries needs while it meets the keys; kept from block to block.
#[derive(Default)]
struct Block {
    /// (queries, keys)
    scores: Vec<f32>,
    /// Of each query, the largest score so far.
    largest: Vec<f32>,
    /// Of each query, Σ exp(score − largest) so far.
    sums: Vec<f32>,
}

impl Block {
    /// The queries from `first` on: out (queries, d), which is zero.
    fn attend(&mut self, head: &Head<'_>, first: usize, out: &mut [f32]) -> gemm::Result<()> {
        let [keys, width] = head.v.size();
        let queries = out.len() / width;
        let q = head.q.some_rows(first, queries)?;
        self.scores.resize(QUERIES * KEYS, 0.0);
        self.largest.clear();
        self.sums.clear();
        self.largest.resize(queries, f32::NEG_INFINITY);
        self.sums.resize(queries, 0.0);
        let seen = match head.mask {
            HeadMask::Causal => first + queries,
            HeadMask::None | HeadMask::Bias(_) => keys,
        };
        for from in (0..seen.min(keys)).step_by(KEYS) {
            let count = KEYS.min(keys - from);
            let size = [queries, count];
            let scores = &mut self.scores[..queries * count];
            let keys_here = &head.k[from * width..][..count * width];
            let products = Product { a: q, b: Matrix::new(keys_here, [width, count], [count, 1])? };
            products.write(MatrixMut::new(scores, size, count)?)?;
            let mask = match head.mask {
                HeadMask::None => BlockMask::None,
                HeadMask::Causal => BlockMask::Causal { first, from },
                HeadMask::Bias(bias) => {
                    BlockMask::Bias { rows: &bias[first * keys + from..], step: keys }
                }
            };
            let sums = Sums { largest: &mut self.largest, sums: &mut self.sums, out };
            weigh(scores, sums, head.scale, mask);
            let weights = Matrix::new(scores, size, [count, 1])?;
            let weighed = Product { a: weights, b: head.v.some_rows(from, count)? };
            weighed.add_to(MatrixMut::new(out, [queries, width], width)?)?;
        }
        divide(out, &self.sums);
        Ok(())
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
    /// From the first query's and key's place on, rows beginning every `step`.
    Bias {
        rows: &'a [f32],
        step: usize,
    },
}

/// What is summed up for the queries of a block.
pub(super) struct Sums<'a> {
    largest: &'a mut [f32],
    sums: &'a mut [f32],
    /// Σ weight · value: (queries, d)
    out: &'a mut [f32],
}

vectorised! {
    /// Replaces scores by weights relative to the largest score so far; scales what has been summed
    /// up to the same and counts the new weights.
    fn weigh<'a>(scores: &'a mut [f32], sums: Sums<'a>, scale: f32, mask: BlockMask<'a>) {
        let Sums { largest, sums, out } = sums;
        let (keys, width) = (scores.len() / sums.len(), out.len() / sums.len());
        let rows = scores.chunks_exact_mut(keys).zip(out.chunks_exact_mut(width));
        for (i, ((row, out), (largest, sum))) in rows.zip(largest.iter_mut().zip(sums)).enumerate() {
            match mask {
                BlockMask::None => {
                    for x in row.iter_mut() {
                        *x *= scale;
                    }
                }
                BlockMask::Causal { first, from } => {
                    for (j, x) in row.iter_mut().enumerate() {
                        *x = if from + j > first + i { f32::NEG_INFINITY } else { *x * scale };
                    }
                }
                BlockMask::Bias { rows, step } => {
                    for (x, b) in row.iter_mut().zip(&rows[i * step..]) {
                        *x = x.mul_add(scale, *b);
                    }
                }
            }
            let found = max(row);
            if found > *largest {
                let factor = exp(*largest - found);
                *largest = found;
                *sum *= factor;
                for out in out.iter_mut() {
                    *out *= factor;
                }
            }
            *sum += exp_sum(row, *largest);
        }
    }
}

vectorised! {
    /// Divides each row by its sum.
    fn divide<'a>(out: &'a mut [f32], sums: &'a [f32]) {
        let width = out.len() / sums.len();
        for (row, sum) in out.chunks_exact_mut(width).zip(sums) {
            let factor = sum.recip();
            for out in row {
                *out *= factor;
            }
        }
    }
}
