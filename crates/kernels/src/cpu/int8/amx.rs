//! 32 × 32 sums of products of bytes, in AMX's tiles.

use super::{
    super::{
        amx::{Amx, AmxTiles, Operands},
        line::Line,
        registers::{Onto, RowsMut, write},
        simd::vectorised,
    },
    operands::{Panel, Tile},
};
use crate::operand::Int8Weight;

/// Rows of x whose sums are in tiles at once.
pub(super) const ROWS: usize = 32;
/// Outputs whose sums are.
pub(super) const COLUMNS: usize = 32;
/// Values of K that one instruction multiplies.
pub(super) const STEP: usize = 64;
/// Of either side, what a step reads.
const STEP_LINES: usize = 32;
/// Of K, what shares a scale.
const GROUP_LINES: usize = Int8Weight::GROUP / STEP * STEP_LINES;

#[repr(C, align(64))]
pub(super) struct Sums([[i32; COLUMNS]; ROWS]);
pub(super) type Totals = [[f32; COLUMNS]; ROWS];

/// As [`super::registers::Registers::multiply`].
pub(super) fn multiply<'a>(
    amx: Amx,
    tiles: impl Iterator<Item = Tile<'a>>,
    panel: Panel<'a>,
    out: &mut impl RowsMut,
    onto: Onto,
) {
    let here = amx.tiles();
    let w = Line::of_bytes(panel.bytes);
    for (i, tile) in tiles.enumerate() {
        let x = Line::of_words(tile.words);
        let mut totals = [[0f32; COLUMNS]; ROWS];
        let groups = x.chunks(GROUP_LINES).zip(w.chunks(GROUP_LINES));
        let of_x = tile.scales.as_chunks::<ROWS>().0;
        let of_w = panel.scales.as_chunks::<COLUMNS>().0;
        for ((x, w), (of_x, of_w)) in groups.zip(of_x.iter().zip(of_w)) {
            add(&sums(&here, x, w), of_x, of_w, &mut totals);
        }
        write(&totals, out, i * ROWS, onto);
    }
}

/// Of a group, or of what there is of it.
#[inline]
fn sums(tiles: &AmxTiles, x: &[Line], w: &[Line]) -> Sums {
    let steps = x.len().min(w.len()) / STEP_LINES;
    let mut sums = Sums([[0; COLUMNS]; ROWS]);
    if steps == 0 {
        return sums;
    }
    let operands = Operands {
        a: x.as_ptr(),
        row: 1,
        tile: STEP_LINES / 2,
        step: STEP_LINES,
        b: w.as_ptr(),
        steps,
        c: (&raw mut sums.0).cast(),
        onto: Onto::Zero,
        next: w.as_ptr_range().end,
    };
    // SAFETY: both have so many steps of 32 lines, and any bits are valid i32.
    unsafe { tiles.multiply_int8(&operands) }
    sums
}

vectorised! {
    /// totals ← totals + sums · (scale of the row · scale of the output), rounded once.
    fn add<'a>(sums: &'a Sums, of_x: &'a [f32; ROWS], of_w: &'a [f32; COLUMNS], totals: &'a mut Totals) {
        for i in 0..ROWS {
            for j in 0..COLUMNS {
                totals[i][j] = (sums.0[i][j] as f32).mul_add(of_x[i] * of_w[j], totals[i][j]);
            }
        }
    }
}
