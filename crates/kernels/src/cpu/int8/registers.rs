//! The innermost loop: 6 × 16 sums of 32 bits stay in registers while pairs of K go by.
//!
//! x has 16 bits and the weight 8, which are widened as they are read: AVX2 multiplies sixteen 16-bit integers and
//! adds neighbours up in one instruction (`vpmaddwd`), so that 192 multiply-adds take 24 operations on integers
//! where the loop in f32 takes 24 for 96. Products of 8 bits alone (`vpmaddubsw`) would take as many, and lose x's
//! other 8 bits.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDWD and VPMOVSXBW.

use super::super::registers::{Onto, RowsMut};

/// Rows of x whose sums are in registers at once.
pub(super) const ROWS: usize = 6;
/// Outputs whose sums are in registers at once.
pub(super) const COLUMNS: usize = 16;

/// Two neighbours of a row of x in 16 bits, the first in the low half.
pub(super) type Pair = i32;

/// Rows of x, and what each is multiplied by.
pub(super) struct Tile<'a> {
    /// (K/2, rows)
    pub(super) pairs: &'a [[Pair; ROWS]],
    pub(super) scales: &'a [f32; ROWS],
}

/// Outputs of a weight, and what each is multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// (K/2, outputs, 2)
    pub(super) pairs: &'a [[i8; 2 * COLUMNS]],
    pub(super) scales: &'a [f32; COLUMNS],
}

/// The first rows of `out` ← x Wᵀ, or as much more: as many as there are, of `ROWS`.
pub(super) fn multiply(
    tile: &Tile<'_>,
    panel: Panel<'_>,
    out: &mut impl RowsMut,
    first: usize,
    onto: Onto,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(avx2::Multiply { simd, tile, panel, out, first, onto });
    }
    finish(&sums(tile, panel), tile, panel, out, first, onto);
}

/// The same sums, on any machine.
fn sums(tile: &Tile<'_>, panel: Panel<'_>) -> [[i32; COLUMNS]; ROWS] {
    let mut sums = [[0i32; COLUMNS]; ROWS];
    for (x, w) in tile.pairs.iter().zip(panel.pairs) {
        for (sums, &pair) in sums.iter_mut().zip(x) {
            let [low, high] = [i32::from(pair as i16), pair >> 16];
            for (sum, w) in sums.iter_mut().zip(w.as_chunks::<2>().0) {
                *sum += low * i32::from(w[0]) + high * i32::from(w[1]);
            }
        }
    }
    sums
}

/// Sums become f32, by their scales.
#[inline(always)]
fn finish(
    sums: &[[i32; COLUMNS]; ROWS],
    tile: &Tile<'_>,
    panel: Panel<'_>,
    out: &mut impl RowsMut,
    first: usize,
    onto: Onto,
) {
    let count = out.count().saturating_sub(first).min(ROWS);
    for (i, (sums, scale)) in sums.iter().zip(tile.scales).enumerate().take(count) {
        let out = out.at(first + i);
        let mut y = [0f32; COLUMNS];
        for j in 0..COLUMNS {
            y[j] = sums[j] as f32 * (scale * panel.scales[j]);
        }
        match (out.as_chunks_mut::<COLUMNS>(), onto) {
            (([out], []), Onto::Zero) => *out = y,
            (([out], []), Onto::Itself) => {
                for j in 0..COLUMNS {
                    out[j] += y[j];
                }
            }
            ((_, out), Onto::Zero) => out.copy_from_slice(&y[..out.len()]),
            ((_, out), Onto::Itself) => {
                for (out, y) in out.iter_mut().zip(y) {
                    *out += y;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use pulp::{NullaryFnOnce, cast, i8x16, i16x16, x86::V3};

    use super::{COLUMNS, Onto, Panel, ROWS, RowsMut, Tile, finish};

    pub(super) struct Multiply<'a, R> {
        pub(super) simd: V3,
        pub(super) tile: &'a Tile<'a>,
        pub(super) panel: Panel<'a>,
        pub(super) out: &'a mut R,
        pub(super) first: usize,
        pub(super) onto: Onto,
    }

    impl<R: RowsMut> NullaryFnOnce for Multiply<'_, R> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { simd, tile, panel, out, first, onto } = self;
            let mut sums = [[simd.splat_i32x8(0); 2]; ROWS];
            for (x, w) in tile.pairs.iter().zip(panel.pairs) {
                let [low, high]: [i8x16; 2] = cast(*w);
                let w = [low, high].map(|w| simd.convert_i8x16_to_i16x16(w));
                for i in 0..ROWS {
                    let x: i16x16 = cast(simd.splat_i32x8(x[i]));
                    for j in 0..2 {
                        let product = simd.multiply_wrapping_add_adjacent_i16x16(x, w[j]);
                        sums[i][j] = simd.wrapping_add_i32x8(sums[i][j], product);
                    }
                }
            }
            let sums = sums.map(cast::<_, [i32; COLUMNS]>);
            finish(&sums, tile, panel, out, first, onto);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::registers::Columns, *};

    /// Values from end to end of their ranges.
    fn values(count: usize, seed: usize) -> Vec<i32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 65_535) as i32 - 32_767).collect()
    }

    #[test]
    fn sums_are_exact_in_every_corner_and_the_same_without_vectors() {
        for [rows, k, columns] in [[1, 2, 1], [6, 256, 16], [5, 254, 16], [6, 8, 13], [4, 2, 3]] {
            let x = values(ROWS * k, 1);
            let w: Vec<i32> = values(COLUMNS * k, 2).iter().map(|w| w % 128).collect();
            let mut pairs = vec![[0; ROWS]; k / 2];
            let mut right = vec![[0; 2 * COLUMNS]; k / 2];
            for (at, (pairs, right)) in pairs.iter_mut().zip(&mut right).enumerate() {
                for (i, pair) in pairs.iter_mut().enumerate() {
                    let [low, high] = [x[i * k + 2 * at], x[i * k + 2 * at + 1]];
                    *pair = (low & 0xffff) | high << 16;
                }
                for (j, w8) in right.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    *w8 = [w[j * k + 2 * at] as i8, w[j * k + 2 * at + 1] as i8];
                }
            }
            let tile = Tile { pairs: &pairs, scales: &[0.5; ROWS] };
            let panel = Panel { pairs: &right, scales: &[0.25; COLUMNS] };
            let expected =
                |i: usize, j: usize| -> i32 { (0..k).map(|l| x[i * k + l] * w[j * k + l]).sum() };
            let portable = sums(&tile, panel);
            let mut elements = vec![1.0; rows * columns];
            for (onto, times) in [(Onto::Zero, 1.0), (Onto::Itself, 2.0)] {
                let mut out = Columns::all(&mut elements, columns);
                multiply(&tile, panel, &mut out, 0, onto);
                for (at, &y) in elements.iter().enumerate() {
                    let (i, j) = (at / columns, at % columns);
                    assert_eq!(portable[i][j], expected(i, j), "{rows}x{k}x{columns}");
                    assert_eq!(y, times * (expected(i, j) as f32 * 0.125), "{rows}x{k}x{columns}");
                }
            }
        }
    }
}
