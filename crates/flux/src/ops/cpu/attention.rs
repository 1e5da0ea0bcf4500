//! Attention in blocks of queries: no more than a block of scores exists at a time, in the cache.

use candle_core::{CpuStorage, Result, Tensor};
use rayon::prelude::*;

use super::{
    linear::{Bias, activate, product},
    matrix::{Elements, Matrix},
    simd::{GeluTanh, exp_sum, max, vectorised},
};
use crate::{
    layers::Linear,
    ops::{Heads, Mask, Scores},
};

/// Queries of a block.
const QUERIES: usize = 128;

pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Tensor> {
    let (length, count, width) = heads.q.dims3()?;
    let mut out = vec![0.0; length * count * width];
    attend(heads, scores, &mut out, count * width)?;
    Tensor::from_vec(out, (length, count * width), heads.q.device())
}

pub(crate) fn attention_beside_mlp(heads: &Heads, x: &Tensor, mlp: &Linear) -> Result<Tensor> {
    let (length, count, width) = heads.q.dims3()?;
    let (attended, hidden) = (count * width, mlp.outputs());
    let row = attended + hidden;
    let mut out = vec![0.0; length * row];
    let bias = Bias::of(mlp);
    let bias = bias.slice()?;
    let raw = product(x, mlp)?;
    out.par_chunks_mut(row).zip(raw.par_chunks(hidden)).for_each(|(out, raw)| {
        let out = &mut out[attended..];
        out.copy_from_slice(raw);
        activate::<GeluTanh>(out, bias);
    });
    drop(raw);
    attend(heads, &Scores::scaled(width), &mut out, row)?;
    Tensor::from_vec(out, (length, row), x.device())
}

/// Writes softmax(q·kᵀ · scale + mask) · v into the first h·d elements of each of `out`'s rows.
fn attend(heads: &Heads, scores: &Scores<'_>, out: &mut [f32], row: usize) -> Result<()> {
    let elements = [&heads.q, &heads.k, &heads.v].map(Elements::of);
    let [q, k, v] = [elements[0].heads()?, elements[1].heads()?, elements[2].heads()?];
    let bias = match scores.mask {
        Mask::Bias(bias) => Some(Elements::of(bias)),
        Mask::None | Mask::Causal => None,
    };
    let bias = bias.as_ref().map(Elements::slice).transpose()?;
    let width = q[0].columns();
    out.par_chunks_mut(QUERIES * row).enumerate().try_for_each(|(block, out)| {
        let from = block * QUERIES;
        let queries = out.len() / row;
        for head in 0..q.len() {
            let keys = k[head].rows();
            let mask = match (scores.mask, bias) {
                (Mask::Causal, _) => RowMask::Causal { from },
                (_, Some(bias)) => RowMask::Bias(&bias[(head * keys + from) * keys..]),
                _ => RowMask::None,
            };
            let q = q[head].some_rows(from, queries)?;
            let mut weights = q.times(&k[head].transposed())?;
            let mut sums = vec![0.0; queries];
            softmax(&mut weights, &mut sums, scores.scale, mask);
            let weights = CpuStorage::F32(weights);
            let weights = Matrix::new(&weights, 0, [queries, keys], [keys, 1])?;
            let attended = weights.times(&v[head])?;
            let rows = out.chunks_exact_mut(row).zip(attended.chunks_exact(width));
            for ((out, attended), sum) in rows.zip(sums) {
                divide(&mut out[head * width..][..width], attended, sum);
            }
        }
        Ok(())
    })
}

/// The mask of one block's scores.
#[derive(Clone, Copy)]
pub(super) enum RowMask<'a> {
    None,
    /// The first query's position.
    Causal {
        from: usize,
    },
    /// From the first query's row on.
    Bias(&'a [f32]),
}

vectorised! {
    /// Replaces each row of scores by weights that are too large by the sums it returns.
    fn softmax<'a>(scores: &'a mut [f32], sums: &'a mut [f32], scale: f32, mask: RowMask<'a>) {
        let keys = scores.len() / sums.len();
        for (i, (row, sum)) in scores.chunks_exact_mut(keys).zip(sums).enumerate() {
            match mask {
                RowMask::None => {
                    for x in row.iter_mut() {
                        *x *= scale;
                    }
                }
                RowMask::Causal { from } => {
                    for (j, x) in row.iter_mut().enumerate() {
                        *x = if j > from + i { f32::NEG_INFINITY } else { *x * scale };
                    }
                }
                RowMask::Bias(bias) => {
                    for (x, b) in row.iter_mut().zip(&bias[i * keys..]) {
                        *x = x.mul_add(scale, *b);
                    }
                }
            }
            let max = max(row);
            *sum = exp_sum(row, max);
        }
    }
}

vectorised! {
    /// out ← attended / sum
    fn divide<'a>(out: &'a mut [f32], attended: &'a [f32], sum: f32) {
        let factor = sum.recip();
        for (out, attended) in out.iter_mut().zip(attended) {
            *out = attended * factor;
        }
    }
}
