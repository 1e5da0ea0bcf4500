//! Tiles in software: for machines that multiply nothing in bf16, and to test on any machine what the
//! others compute with. In the order in which TDPBF16PS adds, so that its results differ in nothing but
//! denormals.

use super::{
    super::simd::vectorised,
    line::Line,
    tiles::{Block, Left, Machine, Onto, SIDE, STEP, TILE, Tiles},
};

/// Every machine has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

impl Machine for Portable {
    type Tiles = Self;

    fn tiles(self) -> Self {
        self
    }
}

impl Tiles for Portable {
    fn product(&self, a: Left<'_>, b: &[Line], c: &mut Block, onto: Onto, _: &[Line]) {
        if onto == Onto::Zero {
            *c = Block::ZERO;
        }
        if b.len() >= STEP {
            add_product(a, b, c);
        }
    }
}

/// Rows whose sums are in registers at once: with 16 columns each, of even and of odd k, half of AVX2's.
const ROWS: usize = 2;

vectorised! {
    /// c ← c + a · b, of at least one step.
    fn add_product<'a>(a: Left<'a>, b: &'a [Line], c: &'a mut Block) {
        let (strides, lines) = (a.strides(), a.checked(b.len() / STEP));
        for (step, b) in b.as_chunks::<STEP>().0.iter().enumerate() {
            for (half, b) in b.as_chunks::<TILE>().0.iter().enumerate() {
                for first in (0..SIDE).step_by(ROWS) {
                    let line = first / TILE * strides.tile + first % TILE * strides.row;
                    let rows = [&lines[line + step * strides.step],
                        &lines[line + strides.row + step * strides.step]];
                    let mut even = [[0f32; TILE]; ROWS];
                    let mut odd = [[0f32; TILE]; ROWS];
                    for (pair, line) in b.iter().enumerate() {
                        let words = line.words();
                        let (mut b_even, mut b_odd) = ([0f32; TILE], [0f32; TILE]);
                        for j in 0..TILE {
                            b_even[j] = f32::from_bits(words[j] << 16);
                            b_odd[j] = f32::from_bits(words[j] & 0xffff_0000);
                        }
                        for i in 0..ROWS {
                            let word = rows[i].words()[pair];
                            let a_even = f32::from_bits(word << 16);
                            let a_odd = f32::from_bits(word & 0xffff_0000);
                            for j in 0..TILE {
                                even[i][j] = a_even.mul_add(b_even[j], even[i][j]);
                                odd[i][j] = a_odd.mul_add(b_odd[j], odd[i][j]);
                            }
                        }
                    }
                    for i in 0..ROWS {
                        let row = &mut c.0[first + i];
                        for j in 0..TILE {
                            row[half * TILE + j] += even[i][j] + odd[i][j];
                        }
                    }
                }
            }
        }
    }
}
