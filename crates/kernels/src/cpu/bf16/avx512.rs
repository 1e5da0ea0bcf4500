//! Tiles in vectors: AVX-512 BF16, of processors without AMX or where it is hidden.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VDPBF16PS: sixteen sums
//! of two products each, denormals counting as zero.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_load_ps, _mm512_load_si512,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_store_ps,
};

use super::{
    line::Line,
    tiles::{Block, Left, Machine, Onto, SIDE, STEP, TILE, Tiles},
};

/// Proof that the machine has AVX-512 BF16: only [`Avx512::detect`] makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        has.then_some(Self(()))
    }
}

impl Machine for Avx512 {
    type Tiles = Self;

    fn tiles(self) -> Self {
        self
    }
}

impl Tiles for Avx512 {
    #[inline]
    fn product(&self, a: Left<'_>, b: &[Line], c: &mut Block, onto: Onto, _: &[Line]) {
        if onto == Onto::Zero {
            *c = Block::ZERO;
        }
        if b.len() >= STEP {
            // SAFETY: `self` proves that the machine has both features.
            unsafe { product(a, b, c) }
        }
    }
}

/// Rows whose sums are in registers at once, twice 16 columns each: 16 of 32 registers.
const ROWS: usize = 8;

/// c ← c + a · b, of at least one step.
#[target_feature(enable = "avx512f,avx512bf16")]
fn product(a: Left<'_>, b: &[Line], c: &mut Block) {
    let (strides, lines) = (a.strides(), a.checked(b.len() / STEP));
    for first in (0..SIDE).step_by(ROWS) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for (step, b) in b.as_chunks::<STEP>().0.iter().enumerate() {
            let rows: [&Line; ROWS] = std::array::from_fn(|i| {
                let row = first + i;
                &lines[row / TILE * strides.tile + row % TILE * strides.row + step * strides.step]
            });
            for pair in 0..TILE {
                let right = [load(&b[pair]), load(&b[TILE + pair])];
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let left = broadcast(row, pair);
                    sums[0] = _mm512_dpbf16_ps(sums[0], left, right[0]);
                    sums[1] = _mm512_dpbf16_ps(sums[1], left, right[1]);
                }
            }
        }
        for (row, sums) in c.0[first..].iter_mut().zip(sums) {
            for (half, sum) in row.as_chunks_mut::<TILE>().0.iter_mut().zip(sums) {
                // SAFETY: 16 f32 at a multiple of 64 bytes: half a row of a block.
                unsafe {
                    let before = _mm512_load_ps(half.as_ptr());
                    _mm512_store_ps(half.as_mut_ptr(), _mm512_add_ps(before, sum));
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn load(line: &Line) -> __m512bh {
    // SAFETY: a line is 64 bytes at a multiple of 64.
    let whole = unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) };
    as_bf16(whole)
}

/// Two neighbours of a row, sixteen times.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn broadcast(row: &Line, pair: usize) -> __m512bh {
    let [low, high] = [row.0[2 * pair], row.0[2 * pair + 1]].map(|x| u32::from(x.to_bits()));
    as_bf16(_mm512_set1_epi32((low | high << 16).cast_signed()))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes, of which any are valid.
    unsafe { std::mem::transmute(bits) }
}
