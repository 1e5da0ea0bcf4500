//! 12 × 32 sums of products of bytes, with AVX-512 VNNI.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPDPBUSD: to each of sixteen sums
//! the products of four bytes without a sign with four that have one, not saturating.

use std::arch::x86_64::{
    __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_storeu_ps,
};

use super::{
    super::registers::{Onto, RowsMut, write},
    operands::{Panel, Tile},
};
use crate::operand::Int8Weight;

/// Rows of x whose sums are in registers at once.
pub(super) const ROWS: usize = 12;
/// Outputs whose sums are: 24 of 32 registers.
pub(super) const COLUMNS: usize = 2 * LANES;
const LANES: usize = 16;
/// Of K, what shares a scale: as many words of four.
const GROUP_WORDS: usize = Int8Weight::GROUP / 4;

/// Proof that the machine has AVX-512 VNNI: only [`Vnni::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vnni(());

impl Vnni {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        has.then_some(Self(()))
    }

    /// As [`super::registers::Registers::multiply`].
    pub(super) fn multiply<'a>(
        self,
        tiles: impl Iterator<Item = Tile<'a>>,
        panel: Panel<'a>,
        out: &mut impl RowsMut,
        onto: Onto,
    ) {
        // SAFETY: `self` proves that the machine has both features.
        unsafe { multiply(tiles, panel, out, onto) }
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply<'a>(
    tiles: impl Iterator<Item = Tile<'a>>,
    panel: Panel<'a>,
    out: &mut impl RowsMut,
    onto: Onto,
) {
    for (i, tile) in tiles.enumerate() {
        write(&sums(tile, panel), out, i * ROWS, onto);
    }
}

/// A tile's sums.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn sums(tile: Tile<'_>, panel: Panel<'_>) -> [[f32; COLUMNS]; ROWS] {
    let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
    let x = tile.words.as_chunks::<ROWS>().0.chunks(GROUP_WORDS);
    let w = panel.bytes.as_chunks::<{ 4 * COLUMNS }>().0.chunks(GROUP_WORDS);
    let of_x = tile.scales.as_chunks::<ROWS>().0.iter().zip(tile.sums.as_chunks::<ROWS>().0);
    let of_w = panel.scales.as_chunks::<COLUMNS>().0;
    for (((x, w), (of_x, sums_of_x)), of_w) in x.zip(w).zip(of_x).zip(of_w) {
        // Each byte of the weight is 128 more than it should be.
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        for i in 0..ROWS {
            sums[i] = [_mm512_set1_epi32(-128 * sums_of_x[i]); 2];
        }
        for (x, w) in x.iter().zip(w) {
            let w = load(w);
            for i in 0..ROWS {
                let x = _mm512_set1_epi32(x[i]);
                for j in 0..2 {
                    sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], w[j], x);
                }
            }
        }
        // SAFETY: twice 16 f32.
        let of_w =
            unsafe { [_mm512_loadu_ps(of_w.as_ptr()), _mm512_loadu_ps(of_w[LANES..].as_ptr())] };
        for i in 0..ROWS {
            let of_x = _mm512_set1_ps(of_x[i]);
            for j in 0..2 {
                let scale = _mm512_mul_ps(of_x, of_w[j]);
                totals[i][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i][j]), scale, totals[i][j]);
            }
        }
    }
    let mut rows = [[0f32; COLUMNS]; ROWS];
    for (row, totals) in rows.iter_mut().zip(totals) {
        for (half, total) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(totals) {
            // SAFETY: 16 f32.
            unsafe { _mm512_storeu_ps(half.as_mut_ptr(), total) }
        }
    }
    rows
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; 4 * COLUMNS]) -> [__m512i; 2] {
    // SAFETY: twice 64 bytes.
    unsafe {
        [_mm512_loadu_si512(bytes.as_ptr().cast()), _mm512_loadu_si512(bytes[64..].as_ptr().cast())]
    }
}
