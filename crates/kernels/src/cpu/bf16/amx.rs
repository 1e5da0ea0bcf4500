//! Tiles in hardware, for bf16.

use super::{
    super::amx::{Amx, AmxTiles, Operands},
    line::Line,
    tiles::{Block, Left, Machine, Onto, STEP, Tiles},
};

impl Machine for Amx {
    type Tiles = AmxTiles;

    fn tiles(self) -> AmxTiles {
        self.tiles()
    }
}

impl Tiles for AmxTiles {
    #[inline]
    fn product(&self, a: Left<'_>, b: &[Line], c: &mut Block, onto: Onto, next: &[Line]) {
        let steps = b.len() / STEP;
        if steps == 0 {
            if onto == Onto::Zero {
                *c = Block::ZERO;
            }
            return;
        }
        let strides = a.strides();
        let operands = Operands {
            a: a.checked(steps).as_ptr(),
            row: strides.row,
            tile: strides.tile,
            step: strides.step,
            b: b.as_ptr(),
            steps,
            c: (&raw mut *c).cast(),
            onto,
            next: next.as_ptr(),
        };
        // SAFETY: `b` has so many steps, and lines of `a` up to the last one are there, which `checked` saw. `c` is
        // 32 rows of 32 f32, borrowed mutably, for which any bits are valid.
        unsafe { self.multiply_bf16(&operands) }
    }
}
