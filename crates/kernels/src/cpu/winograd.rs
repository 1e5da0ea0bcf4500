//! Winograd's F(2×2, 3×3): a 2×2 tile of a 3×3 convolution from 16 products where the plain form
//! has 36.
//!
//! y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, for a 4×4 patch d of the image and the kernel g. With many
//! channels, ⊙ is a matrix product at each of the 16 points. All factors are 0, ±1 and ±½, so that the
//! result is as exact as the plain form's. Source: Lavin and Gray, arXiv:1509.09308, section 4.1.

use rayon::prelude::*;

use super::simd::vectorised;

/// Points of a tile: 4 × 4.
pub(super) const POINTS: usize = 16;

/// Channels that are transformed together: one AVX-512 register, two of AVX2.
const LANES: usize = 16;

/// Kernel (o, 3, 3, c) → G g Gᵀ: (16, c, o).
pub(super) fn transform_kernel(kernel: &[f32], outputs: usize) -> Vec<f32> {
    const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let channels = kernel.len() / (9 * outputs);
    let mut transformed = vec![0.0; POINTS * channels * outputs];
    transformed.par_chunks_mut(channels * outputs).enumerate().for_each(|(point, matrix)| {
        let factors: [f32; 9] =
            std::array::from_fn(|tap| G[point / 4][tap / 3] * G[point % 4][tap % 3]);
        // (16, c)
        let mut rows = vec![0.0; LANES * channels];
        for (i, taps) in kernel.chunks(LANES * 9 * channels).enumerate() {
            let count = taps.len() / (9 * channels);
            for (row, taps) in rows.chunks_exact_mut(channels).zip(taps.chunks_exact(9 * channels))
            {
                combine_taps(taps, factors, row);
            }
            for (c, outputs) in matrix.chunks_exact_mut(outputs).enumerate() {
                for (j, to) in outputs[i * LANES..][..count].iter_mut().enumerate() {
                    *to = rows[j * channels + c];
                }
            }
        }
    });
    transformed
}

/// G g Gᵀ (16, c, o) → the kernel (o, 3, 3, c), to the last bits: of its rows and columns, the first and the
/// last are there as they were, the middle is half a difference twice.
pub(super) fn restore_kernel(transformed: &[f32], [channels, outputs]: [usize; 2]) -> Vec<f32> {
    /// g = H (G g Gᵀ) Hᵀ
    const H: [[f32; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]];
    let mut kernel = vec![0.0; 9 * channels * outputs];
    for (point, matrix) in transformed.chunks_exact(channels * outputs).enumerate() {
        for tap in 0..9 {
            let factor = H[tap / 3][point / 4] * H[tap % 3][point % 4];
            if factor == 0.0 {
                continue;
            }
            for (c, row) in matrix.chunks_exact(outputs).enumerate() {
                for (o, x) in row.iter().enumerate() {
                    kernel[(o * 9 + tap) * channels + c] += factor * x;
                }
            }
        }
    }
    kernel
}

/// Where the transformed values of one tile stand: at each point, `step` after the last.
#[derive(Clone, Copy)]
pub(super) struct PointStride {
    pub(super) start: usize,
    pub(super) step: usize,
}

vectorised! {
    /// out ← Σ factor · tap; taps (9, c), out (c,).
    fn combine_taps<'a>(taps: &'a [f32], factors: [f32; 9], out: &'a mut [f32]) {
        out.fill(0.0);
        for (tap, factor) in taps.chunks_exact(out.len()).zip(factors) {
            for (out, x) in out.iter_mut().zip(tap) {
                *out = x.mul_add(factor, *out);
            }
        }
    }
}

vectorised! {
    /// Bᵀ d B of a patch of 4×4 pixels, row by row, (c,) each.
    fn transform_patch<'a>(patch: [&'a [f32]; POINTS], points: &'a mut [f32], place: PointStride) {
        let channels = patch[0].len();
        let whole = channels / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            patch_lanes::<LANES>(&patch, points, place, at);
        }
        for at in whole..channels {
            patch_lanes::<1>(&patch, points, place, at);
        }
    }
}

vectorised! {
    /// Aᵀ m A + bias: the tile's pixels (2, 2, o).
    fn transform_tile<'a>(points: &'a [f32], place: PointStride, bias: &'a [f32], tile: &'a mut [f32]) {
        let outputs = bias.len();
        let whole = outputs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            tile_lanes::<LANES>(points, place, (bias, at), tile);
        }
        for at in whole..outputs {
            tile_lanes::<1>(points, place, (bias, at), tile);
        }
    }
}

#[inline(always)]
fn patch_lanes<const N: usize>(
    patch: &[&[f32]; POINTS],
    points: &mut [f32],
    place: PointStride,
    at: usize,
) {
    let mut half = [[0.0; N]; POINTS];
    for x in 0..4 {
        let d0 = load::<N>(patch[x], at);
        let d1 = load::<N>(patch[4 + x], at);
        let d2 = load::<N>(patch[8 + x], at);
        let d3 = load::<N>(patch[12 + x], at);
        half[x] = difference(&d0, &d2);
        half[4 + x] = sum(&d1, &d2);
        half[8 + x] = difference(&d2, &d1);
        half[12 + x] = difference(&d1, &d3);
    }
    for y in 0..4 {
        let d = &half[4 * y..4 * y + 4];
        let row = [
            difference(&d[0], &d[2]),
            sum(&d[1], &d[2]),
            difference(&d[2], &d[1]),
            difference(&d[1], &d[3]),
        ];
        for (x, lanes) in row.iter().enumerate() {
            let to = place.start + (4 * y + x) * place.step + at;
            points[to..to + N].copy_from_slice(lanes);
        }
    }
}

#[inline(always)]
fn tile_lanes<const N: usize>(
    points: &[f32],
    place: PointStride,
    (bias, at): (&[f32], usize),
    tile: &mut [f32],
) {
    let mut half = [[0.0; N]; 8];
    for x in 0..4 {
        let from = place.start + x * place.step + at;
        let m0 = load::<N>(points, from);
        let m1 = load::<N>(points, from + 4 * place.step);
        let m2 = load::<N>(points, from + 8 * place.step);
        let m3 = load::<N>(points, from + 12 * place.step);
        half[x] = sum(&sum(&m0, &m1), &m2);
        half[4 + x] = difference(&difference(&m1, &m2), &m3);
    }
    let b = load::<N>(bias, at);
    for y in 0..2 {
        let m = &half[4 * y..4 * y + 4];
        let left = sum(&sum(&sum(&m[0], &m[1]), &m[2]), &b);
        let right = sum(&difference(&difference(&m[1], &m[2]), &m[3]), &b);
        let to = 2 * y * bias.len() + at;
        tile[to..to + N].copy_from_slice(&left);
        let to = to + bias.len();
        tile[to..to + N].copy_from_slice(&right);
    }
}

#[inline(always)]
fn load<const N: usize>(x: &[f32], at: usize) -> [f32; N] {
    let mut lanes = [0.0; N];
    lanes.copy_from_slice(&x[at..at + N]);
    lanes
}

#[inline(always)]
fn sum<const N: usize>(a: &[f32; N], b: &[f32; N]) -> [f32; N] {
    let mut out = [0.0; N];
    for i in 0..N {
        out[i] = a[i] + b[i];
    }
    out
}

#[inline(always)]
fn difference<const N: usize>(a: &[f32; N], b: &[f32; N]) -> [f32; N] {
    let mut out = [0.0; N];
    for i in 0..N {
        out[i] = a[i] - b[i];
    }
    out
}
