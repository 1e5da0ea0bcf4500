//! The innermost loop: a rectangle of sums of 32 bits stays in registers while K goes by.
//!
//! In AMX's tiles and with AVX-512 VNNI both sides have 8 bits; of the latter, one instruction adds four products to
//! each of sixteen sums. AVX2 has none that multiplies signed bytes without losing bits: there x has 16 bits and the weight is widened as it is
//! read (`vpmaddwd`: 192 multiply-adds in 24 operations, where the loop in f32 takes 24 for 96).
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDWD, VPMOVSXBW, VPDPBUSD.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::{
    super::amx::{Amx, AmxTiles},
    amx,
};
use std::sync::OnceLock;

use super::super::{
    registers::{Onto, RowsMut},
    simd::{allows_amx, allows_avx512},
};
use super::operands::{Panel, Tile};
#[cfg(target_arch = "x86_64")]
use super::vnni::{self, Vnni};
use crate::operand::Int8Weight;

/// How a product is made on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registers {
    /// 6 rows of x in 16 bits, 16 outputs; two of K in a word of x.
    Pairs,
    /// 12 rows of x in 8 bits, 32 outputs; four of K in a word.
    #[cfg(target_arch = "x86_64")]
    Quads(Vnni),
    /// 32 rows of x in 8 bits, 32 outputs; four of K in a word, and 16 words in a step.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Tiles(Amx),
}

impl Registers {
    /// The fastest that the machine has, and `OBSCURA_CPU` allows.
    pub(super) fn here() -> Self {
        static HERE: OnceLock<Registers> = OnceLock::new();
        *HERE.get_or_init(Self::find)
    }

    fn find() -> Self {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let (true, Ok(amx)) = (allows_amx(), Amx::enable()) {
            return Self::Tiles(amx);
        }
        #[cfg(target_arch = "x86_64")]
        if let (true, Some(vnni)) = (allows_avx512(), Vnni::detect()) {
            return Self::Quads(vnni);
        }
        Self::Pairs
    }

    /// What is told of it.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Pairs => "rows in 16 bits",
            #[cfg(target_arch = "x86_64")]
            Self::Quads(_) => "AVX-512 VNNI",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => "AMX",
        }
    }

    /// Every way that this machine has, and AMX, which is there in software where it is not in hardware.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Pairs];
        #[cfg(target_arch = "x86_64")]
        all.extend(Vnni::detect().map(Self::Quads));
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        all.push(Self::Tiles(super::super::amx::software::amx()));
        all
    }

    /// Rows of x whose sums are in registers at once.
    pub(super) fn rows(self) -> usize {
        match self {
            Self::Pairs => pairs::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Quads(_) => vnni::ROWS,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => amx::ROWS,
        }
    }

    /// Outputs whose sums are.
    pub(super) fn columns(self) -> usize {
        match self {
            Self::Pairs => pairs::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Self::Quads(_) => vnni::COLUMNS,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => amx::COLUMNS,
        }
    }

    /// Values in a word of x.
    pub(super) fn values(self) -> usize {
        match self {
            Self::Pairs => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Quads(_) => 4,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => 4,
        }
    }

    /// Values of K of one row or output that lie beside each other; what is missing of the last ones is zero.
    pub(super) fn step(self) -> usize {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => amx::STEP,
            other => other.values(),
        }
    }

    /// Words of K that are multiplied at a time: of 192 rows 384 KiB at most, which stay in the second cache; of a
    /// panel 16, 64 or, in half as many words, 32 KiB.
    pub(super) fn chunk_words(self) -> usize {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => 256,
            _ => 512,
        }
    }

    /// What a weight's byte is changed by (exclusive or), as the instruction reads it.
    pub(super) fn bias(self) -> u8 {
        match self {
            Self::Pairs => 0,
            // w + 128, without a sign: what is too much is 128 Σ x.
            #[cfg(target_arch = "x86_64")]
            Self::Quads(_) => 0x80,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(_) => 0,
        }
    }

    /// For a thread that multiplies more than once.
    pub(super) fn hold(self) -> Held {
        Held {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            _tiles: match self {
                Self::Tiles(amx) => Some(amx.tiles()),
                _ => None,
            },
        }
    }

    /// `out` ← x Wᵀ, or as much more, for rows of x in tiles that follow each other. What lies past the end of `out`
    /// is left out.
    ///
    /// Sums of a group are exact, and are added up in f32 from the first group to the last, so that an element depends
    /// on nothing but its row and its column.
    pub(super) fn multiply<'a>(
        self,
        tiles: impl Iterator<Item = Tile<'a>>,
        panel: Panel<'a>,
        out: &mut impl RowsMut,
        onto: Onto,
    ) {
        match self {
            Self::Pairs => pairs::multiply(tiles, panel, out, onto),
            #[cfg(target_arch = "x86_64")]
            Self::Quads(vnni) => vnni.multiply(tiles, panel, out, onto),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Tiles(amx) => amx::multiply(amx, tiles, panel, out, onto),
        }
    }
}

/// What need not be set up for each product while a thread has it.
pub(super) struct Held {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    _tiles: Option<AmxTiles>,
}

/// x in 16 bits.
mod pairs {
    use super::{super::super::registers::write, Int8Weight, Onto, Panel, RowsMut, Tile};

    pub(super) const ROWS: usize = 6;
    pub(super) const COLUMNS: usize = 16;
    /// Of K, what shares a scale: as many pairs.
    const GROUP_PAIRS: usize = Int8Weight::GROUP / 2;

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

    /// A group's words of x and of the weight, and their scales.
    type Group<'a> =
        (&'a [[i32; ROWS]], &'a [[u8; 2 * COLUMNS]], &'a [f32; ROWS], &'a [f32; COLUMNS]);

    #[inline(always)]
    fn groups<'a>(tile: Tile<'a>, panel: Panel<'a>) -> impl Iterator<Item = Group<'a>> {
        let x = tile.words.as_chunks::<ROWS>().0.chunks(GROUP_PAIRS);
        let w = panel.bytes.as_chunks::<{ 2 * COLUMNS }>().0.chunks(GROUP_PAIRS);
        let of_x = tile.scales.as_chunks::<ROWS>().0;
        let of_w = panel.scales.as_chunks::<COLUMNS>().0;
        x.zip(w).zip(of_x.iter().zip(of_w)).map(|((x, w), (of_x, of_w))| (x, w, of_x, of_w))
    }

    /// A tile's sums, on any machine.
    pub(super) fn portable(tile: Tile<'_>, panel: Panel<'_>) -> [[f32; COLUMNS]; ROWS] {
        let mut totals = [[0f32; COLUMNS]; ROWS];
        for (x, w, of_x, of_w) in groups(tile, panel) {
            let mut sums = [[0i32; COLUMNS]; ROWS];
            for (x, w) in x.iter().zip(w) {
                for (sums, &pair) in sums.iter_mut().zip(x) {
                    let [low, high] = [i32::from(pair as i16), pair >> 16];
                    for (sum, w) in sums.iter_mut().zip(w.as_chunks::<2>().0) {
                        let w = w.map(|w| i32::from(w.cast_signed()));
                        *sum += low * w[0] + high * w[1];
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

        use super::{COLUMNS, Onto, Panel, ROWS, RowsMut, Tile, groups, write};

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
            for (x, w, of_x, of_w) in groups(tile, panel) {
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
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{line::Line, registers::Columns},
        *,
    };

    /// Values from end to end of ± `most`.
    fn values(count: usize, seed: usize, most: i32) -> Vec<i32> {
        let range = 2 * most as usize + 1;
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % range) as i32 - most).collect()
    }

    #[test]
    fn sums_are_exact_in_every_corner_and_the_same_without_vectors() {
        for registers in Registers::all() {
            for [rows, k, columns] in
                [[1, 4, 1], [6, 256, 16], [5, 1020, 16], [32, 260, 32], [6, 260, 13], [4, 4, 3]]
            {
                let [height, width] = [registers.rows(), registers.columns()];
                let [rows, columns] = [rows.min(height), columns.min(width)];
                let (each, most) = (registers.values(), 127 << (8 * (4 / registers.values() - 1)));
                let (x, w) = (values(height * k, 1, most), values(width * k, 2, 127));
                let (step, together) = (registers.step(), registers.step() / each);
                let padded = k.next_multiple_of(step);
                let mut lines = vec![Line::ZERO; (padded * height * 4 / each).div_ceil(64)];
                let words = &mut Line::values_mut(&mut lines)[..padded / each * height];
                let mut filled = vec![Line::ZERO; (padded * width).div_ceil(64)];
                let bytes = &mut Line::values_mut(&mut filled)[..padded * width];
                for at in 0..k {
                    let (word, value) = (at / each, at % each);
                    for i in 0..height {
                        let bits = 32 / each;
                        let mask = (1u64 << bits) as u32 as i32 - 1;
                        let place = (at / step * height + i) * together + word % together;
                        words[place] |= (x[i * k + at] & mask) << (value * bits);
                    }
                    for j in 0..width {
                        let byte = (w[j * k + at] as u8) ^ registers.bias();
                        bytes[(word * width + j) * each + value] = byte;
                    }
                }
                let groups = k.div_ceil(Int8Weight::GROUP);
                let group = |group: usize| {
                    group * Int8Weight::GROUP..k.min((group + 1) * Int8Weight::GROUP)
                };
                let sums: Vec<i32> = (0..groups)
                    .flat_map(|of| (0..height).map(move |i| (of, i)))
                    .map(|(of, i)| x[i * k..][group(of)].iter().sum())
                    .collect();
                let (of_x, of_w) = (vec![0.5; groups * height], vec![0.25; groups * width]);
                let tile = Tile { words, scales: &of_x, sums: &sums };
                let panel = Panel { bytes, scales: &of_w };
                // Of each group exact, and then added up in f32.
                let expected = |i: usize, j: usize| -> f32 {
                    (0..groups).fold(0f32, |total, of| {
                        let sum: i32 = group(of).map(|l| x[i * k + l] * w[j * k + l]).sum();
                        (sum as f32).mul_add(0.125, total)
                    })
                };
                let mut elements = vec![1.0; rows * columns];
                for (onto, times) in [(Onto::Zero, 1.0), (Onto::Itself, 2.0)] {
                    let mut out = Columns::all(&mut elements, columns);
                    registers.multiply([tile].into_iter(), panel, &mut out, onto);
                    for (at, &y) in elements.iter().enumerate() {
                        let (i, j) = (at / columns, at % columns);
                        let of = format!("{registers:?} {rows}x{k}x{columns}");
                        assert_eq!(y, times * expected(i, j), "{of}");
                        if registers == Registers::Pairs {
                            assert_eq!(pairs::portable(tile, panel)[i][j], expected(i, j), "{of}");
                        }
                    }
                }
            }
        }
    }
}
