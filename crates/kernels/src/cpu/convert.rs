//! Between bf16, which is stored, and f32, which is computed in.

use candle_core::{Result, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::{matrix::Elements, simd::vectorised};

/// The nearest bf16, of two as near the even one; NaNs stay NaN, if quiet, as all that are computed are.
#[inline(always)]
pub(super) fn narrow(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    bf16::from_bits((rounded >> 16) as u16)
}

#[inline(always)]
pub(super) fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Up to so many values, then zeros.
#[inline(always)]
pub(super) fn widen_side<const SIDE: usize>(values: &[bf16]) -> [f32; SIDE] {
    let mut wide = [0.0; SIDE];
    if let Ok(values) = <&[bf16; SIDE]>::try_from(values) {
        for j in 0..SIDE {
            wide[j] = widen(values[j]);
        }
    } else {
        for (wide, x) in wide.iter_mut().zip(values) {
            *wide = widen(*x);
        }
    }
    wide
}

/// As many as fit.
#[inline(always)]
pub(super) fn narrow_side<const SIDE: usize>(values: &[f32; SIDE], out: &mut [bf16]) {
    if let Ok(out) = <&mut [bf16; SIDE]>::try_from(&mut *out) {
        for j in 0..SIDE {
            out[j] = narrow(values[j]);
        }
    } else {
        for (out, x) in out.iter_mut().zip(values) {
            *out = narrow(*x);
        }
    }
}

vectorised! {
    /// out ← x
    fn widen_all<'a>(x: &'a [bf16], out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = widen(*x);
        }
    }
}

vectorised! {
    /// out ← x, rounded.
    fn narrow_all<'a>(x: &'a [f32], out: &'a mut [bf16]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = narrow(*x);
        }
    }
}

/// x in f32, rounded to bf16: contiguous.
pub(super) fn narrowed(x: &Tensor) -> Result<Tensor> {
    const CHUNK: usize = 4096;
    let x = x.contiguous()?;
    let elements = Elements::of(&x);
    let wide = elements.slice()?;
    let mut narrow = zeros(wide.len());
    narrow
        .par_chunks_mut(CHUNK)
        .zip(wide.par_chunks(CHUNK))
        .for_each(|(narrow, wide)| narrow_all(wide, narrow));
    Tensor::from_vec(narrow, x.dims(), x.device())
}

/// So many zeros, written by all threads: memory that the allocator has kept would otherwise be cleared by
/// one, and fresh pages be made by it, which takes as long as the product of many.
pub(super) fn zeros<T: Copy + Default + Send>(count: usize) -> Vec<T> {
    const CHUNK: usize = 4096;
    if count < 16 * CHUNK {
        return vec![T::default(); count];
    }
    let chunks = (0..count.div_ceil(CHUNK)).into_par_iter().with_min_len(16);
    let mut all = chunks.map(|_| [T::default(); CHUNK]).collect::<Vec<_>>().into_flattened();
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for i in 0..200_000u32 {
            let x = f32::from_bits(i.wrapping_mul(2_654_435_761));
            if x.is_nan() {
                continue;
            }
            assert_eq!(narrow(x), bf16::from_f32(x), "{x:e}");
            assert_eq!(widen(narrow(x)), narrow(x).to_f32());
        }
        assert!(widen(narrow(f32::NAN)).is_nan());
        assert_eq!(widen(narrow(f32::INFINITY)), f32::INFINITY);
    }
}
