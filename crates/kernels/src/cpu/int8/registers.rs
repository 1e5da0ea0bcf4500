//! The innermost loop: 6 × 16 sums of 32 bits stay in registers while pairs of K go by.
//!
//! x has 16 bits and the weight 8, which are widened as they are read: AVX2 multiplies sixteen 16-bit integers and
//! adds neighbours up in one instruction (`vpmaddwd`), so that 192 multiply-adds take 24 operations on integers
//! where the loop in f32 takes 24 for 96. Products of 8 bits alone (`vpmaddubsw`) would take as many, and lose x's
//! other 8 bits.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDWD and VPMOVSXBW.

use super::super::registers::{Onto, RowsMut};
use crate::operand::Int8Weight;

/// Rows of x whose sums are in registers at once.
pub(super) const ROWS: usize = 6;
/// Outputs whose sums are in registers at once.
pub(super) const COLUMNS: usize = 16;

/// Two neighbours of a row of x in 16 bits, the first in the low half.
pub(super) type Pair = i32;

/// Rows of x: some groups of inputs, and what each row of a group is multiplied by.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// (K/2, rows)
    pub(super) pairs: &'a [[Pair; ROWS]],
    /// (groups, rows)
    pub(super) scales: &'a [[f32; ROWS]],
}

/// The same of a weight's outputs.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// (K/2, outputs, 2)
    pub(super) pairs: &'a [[i8; 2 * COLUMNS]],
    /// (groups, outputs)
    pub(super) scales: &'a [[f32; COLUMNS]],
}

/// Of K, what shares a scale: as many pairs.
const GROUP_PAIRS: usize = Int8Weight::GROUP / 2;

/// `out` ← x Wᵀ, or as much more, for rows of x in tiles that follow each other. What lies past the end of `out` is
/// left out.
///
/// Sums of a group are exact, and are added up in f32 from the first group to the last, so that an element depends on
/// nothing but its row and its column.
pub(super) fn multiply<'a>(
    tiles: impl Iterator<Item = Tile<'a>>,
    panel: Panel<'a>,
    out: &mut impl RowsMut,
    onto: Onto,
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(avx2::Multiply { simd, tiles, panel, out, onto });
    }
    for (i, tile) in tiles.enumerate() {
        write(&portable(tile, panel), out, i * ROWS, onto);
    }
}

/// As many rows of a tile as `out` has from `first` on.
#[inline(always)]
fn write(tile: &[[f32; COLUMNS]; ROWS], out: &mut impl RowsMut, first: usize, onto: Onto) {
    let count = out.count().saturating_sub(first);
    for (i, sums) in tile.iter().enumerate().take(count) {
        let out = out.at(first + i);
        match (out.as_chunks_mut::<COLUMNS>(), onto) {
            (([out], []), Onto::Zero) => *out = *sums,
            (([out], []), Onto::Itself) => {
                for j in 0..COLUMNS {
                    out[j] += sums[j];
                }
            }
            ((_, out), Onto::Zero) => out.copy_from_slice(&sums[..out.len()]),
            ((_, out), Onto::Itself) => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += sum;
                }
            }
        }
    }
}

/// A tile's sums, on any machine.
fn portable(tile: Tile<'_>, panel: Panel<'_>) -> [[f32; COLUMNS]; ROWS] {
    let mut totals = [[0f32; COLUMNS]; ROWS];
    let pairs = tile.pairs.chunks(GROUP_PAIRS).zip(panel.pairs.chunks(GROUP_PAIRS));
    for ((x, w), (of_x, of_w)) in pairs.zip(tile.scales.iter().zip(panel.scales)) {
        let mut sums = [[0i32; COLUMNS]; ROWS];
        for (x, w) in x.iter().zip(w) {
            for (sums, &pair) in sums.iter_mut().zip(x) {
                let [low, high] = [i32::from(pair as i16), pair >> 16];
                for (sum, w) in sums.iter_mut().zip(w.as_chunks::<2>().0) {
                    *sum += low * i32::from(w[0]) + high * i32::from(w[1]);
                }
            }
        }
        for ((totals, sums), of_x) in totals.iter_mut().zip(sums).zip(of_x) {
            for ((total, sum), of_w) in totals.iter_mut().zip(sums).zip(of_w) {
                *total = (sum as f32).mul_add(of_x * of_w, *total);
            }
        }
    }
    totals
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use pulp::{NullaryFnOnce, cast, f32x8, i8x16, i16x16, x86::V3};

    use super::{COLUMNS, GROUP_PAIRS, Onto, Panel, ROWS, RowsMut, Tile, write};

    pub(super) struct Multiply<'a, T, R> {
        pub(super) simd: V3,
        pub(super) tiles: T,
        pub(super) panel: Panel<'a>,
        pub(super) out: &'a mut R,
        pub(super) onto: Onto,
    }

    impl<'a, T: Iterator<Item = Tile<'a>>, R: RowsMut> NullaryFnOnce for Multiply<'_, T, R> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { simd, tiles, panel, out, onto } = self;
            for (i, tile) in tiles.enumerate() {
                write(&sums(simd, tile, panel), out, i * ROWS, onto);
            }
        }
    }

    #[inline(always)]
    fn sums(simd: V3, tile: Tile<'_>, panel: Panel<'_>) -> [[f32; COLUMNS]; ROWS] {
        let mut totals = [[simd.splat_f32x8(0.0); 2]; ROWS];
        let pairs = tile.pairs.chunks(GROUP_PAIRS).zip(panel.pairs.chunks(GROUP_PAIRS));
        for ((x, w), (of_x, of_w)) in pairs.zip(tile.scales.iter().zip(panel.scales)) {
            let mut sums = [[simd.splat_i32x8(0); 2]; ROWS];
            for (x, w) in x.iter().zip(w) {
                let [low, high]: [i8x16; 2] = cast(*w);
                let w = [simd.convert_i8x16_to_i16x16(low), simd.convert_i8x16_to_i16x16(high)];
                for i in 0..ROWS {
                    let x: i16x16 = cast(simd.splat_i32x8(x[i]));
                    for j in 0..2 {
                        let product = simd.multiply_wrapping_add_adjacent_i16x16(x, w[j]);
                        sums[i][j] = simd.wrapping_add_i32x8(sums[i][j], product);
                    }
                }
            }
            let of_w: [f32x8; 2] = cast(*of_w);
            for i in 0..ROWS {
                let of_x = simd.splat_f32x8(of_x[i]);
                for j in 0..2 {
                    let scale = simd.mul_f32x8(of_x, of_w[j]);
                    let sum = simd.convert_i32x8_to_f32x8(sums[i][j]);
                    totals[i][j] = simd.mul_add_f32x8(sum, scale, totals[i][j]);
                }
            }
        }
        cast(totals)
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
        for [rows, k, columns] in [[1, 2, 1], [6, 256, 16], [5, 1022, 16], [6, 258, 13], [4, 2, 3]]
        {
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
            let groups = k.div_ceil(2 * GROUP_PAIRS);
            let tile = Tile { pairs: &pairs, scales: &vec![[0.5; ROWS]; groups] };
            let panel = Panel { pairs: &right, scales: &vec![[0.25; COLUMNS]; groups] };
            // Of each group exact, and then added up in f32.
            let expected = |i: usize, j: usize| -> f32 {
                let products: Vec<i32> = (0..k).map(|l| x[i * k + l] * w[j * k + l]).collect();
                let groups =
                    products.chunks(2 * GROUP_PAIRS).map(|group| group.iter().sum::<i32>());
                groups.fold(0f32, |total, sum| (sum as f32).mul_add(0.125, total))
            };
            let portable = portable(tile, panel);
            let mut elements = vec![1.0; rows * columns];
            for (onto, times) in [(Onto::Zero, 1.0), (Onto::Itself, 2.0)] {
                let mut out = Columns::all(&mut elements, columns);
                multiply([tile].into_iter(), panel, &mut out, onto);
                for (at, &y) in elements.iter().enumerate() {
                    let (i, j) = (at / columns, at % columns);
                    assert_eq!(portable[i][j], expected(i, j), "{rows}x{k}x{columns}");
                    assert_eq!(y, times * expected(i, j), "{rows}x{k}x{columns}");
                }
            }
        }
    }
}
