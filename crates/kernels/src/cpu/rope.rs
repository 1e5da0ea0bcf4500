//! Queries and keys: normalised, rotated and written to their place among all streams, in one pass.

use candle_core::{DType, Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{
    element::Element, linear::MIN_ROWS, matrix::Elements, norm::inverse_rms, simd::vectorised,
};
use crate::operand::{Heads, Rotations, Stream, images_of, rows_each};

pub(super) fn qk_norm_rope(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Heads> {
    match streams[0].qkv.dtype() {
        DType::BF16 => heads_of::<bf16>(streams, rotations),
        _ => heads_of::<f32>(streams, rotations),
    }
}

fn heads_of<E: Element>(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Heads> {
    let images = images_of(streams, rotations)?;
    let width = streams[0].norm_q.weight.elem_count();
    let row = streams[0].qkv.dim(1)? / 3;
    let length = images * rotations.cos.dim(0)?;
    let mut joint = [(); 3].map(|()| E::zeros(length * row));
    let mut from = 0;
    for image in 0..images {
        let mut position = 0;
        for stream in streams {
            let here = rows_each(stream.qkv.dim(0)?, images)?;
            let [q, k, v] = &mut joint;
            let [q, k, v] = [q, k, v].map(|joint| &mut joint[from * row..(from + here) * row]);
            let place = StreamSpan { rotations, first: image * here, position, row, width };
            join(stream, &place, [q, k, v])?;
            (from, position) = (from + here, position + here);
        }
    }
    let device = streams[0].qkv.device();
    let [q, k, v] =
        joint.map(|elements| Tensor::from_vec(elements, (length, row / width, width), device));
    Ok(Heads { q: q?, k: k?, v: v?, images })
}

/// Which of a stream's tokens are joined, and where they stand in their image.
struct StreamSpan<'a> {
    rotations: &'a Rotations,
    /// The first of the stream's rows.
    first: usize,
    /// Its position in the image.
    position: usize,
    /// h · d
    row: usize,
    /// d
    width: usize,
}

/// As many tokens as q, k and v have rows.
fn join<E: Element>(
    stream: &Stream<'_>,
    place: &StreamSpan<'_>,
    [q, k, v]: [&mut [E]; 3],
) -> Result<()> {
    let &StreamSpan { rotations, first, position, row, width } = place;
    let elements = [&rotations.cos, &rotations.sin, stream.qkv].map(Elements::of);
    let (cos, sin) = (elements[0].slice()?, elements[1].slice()?);
    let qkv = elements[2].slice_of::<E>()?;
    let norms = [stream.norm_q, stream.norm_k].map(|norm| Elements::of(&norm.weight));
    let (weight_q, weight_k) = (norms[0].wide()?, norms[1].wide()?);
    let (eps_q, eps_k) = (stream.norm_q.eps as f32, stream.norm_k.eps as f32);
    let out = q.par_chunks_mut(row).zip(k.par_chunks_mut(row)).zip(v.par_chunks_mut(row));
    let qkv = &qkv[first * 3 * row..];
    out.zip(qkv.par_chunks(3 * row)).enumerate().with_min_len(MIN_ROWS).for_each_init(
        Default::default,
        |(from, to), (i, (((q, k), v), qkv))| {
            let half = width / 2;
            let angles = (position + i) * half..(position + i + 1) * half;
            let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
            v.copy_from_slice(&qkv[2 * row..]);
            let (q_here, k_here) = (&qkv[..row], &qkv[row..2 * row]);
            for (x, y, norm) in [(q_here, q, (&weight_q, eps_q)), (k_here, k, (&weight_k, eps_k))] {
                let (x, (weight, eps)) = (E::read(x, from), norm);
                E::write(y, to, |y| normalise_and_rotate(x, y, (weight, eps), (cos, sin)));
            }
        },
    );
    Ok(())
}

vectorised! {
    /// All heads of one token. Each is normalised, then its pairs of neighbours are rotated:
    /// (a, b) → (a cos − b sin, b cos + a sin).
    fn normalise_and_rotate<'a>(
        x: &'a [f32],
        y: &'a mut [f32],
        norm: (&'a [f32], f32),
        angles: (&'a [f32], &'a [f32]),
    ) {
        let ((weight, eps), (cos, sin)) = (norm, angles);
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let factor = inverse_rms(x, eps);
            let pairs = x.as_chunks::<2>().0.iter().zip(weight.as_chunks::<2>().0);
            let angles = cos.iter().zip(sin);
            for ((y, (x, w)), (cos, sin)) in
                y.as_chunks_mut::<2>().0.iter_mut().zip(pairs).zip(angles)
            {
                let (a, b) = (x[0] * factor * w[0], x[1] * factor * w[1]);
                *y = [a * cos - b * sin, b * cos + a * sin];
            }
        }
    }
}
