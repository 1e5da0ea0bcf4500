//! What every product in bf16 is made of: C (32, 32) ← C + A (32, 32·k) · B (32·k, 32), in one order of
//! memory for all machines.
//!
//! A tile is 16 lines of 64 bytes. A's hold 16 rows of 32 values. B's hold pairs of K beside each other:
//! line r has rows 2r and 2r + 1 of 16 columns, (r₀c₀, r₁c₀, r₀c₁, r₁c₁, …), which is called VNNI order.
//! A step of K is 32 of its values: two tiles of A, one below the other, and two of B, side by side.

pub(super) use super::super::registers::Onto;
use super::line::Line;

/// Rows and columns of a block of C, and K's values in a step.
pub(super) const SIDE: usize = 32;
/// Lines of a tile.
pub(super) const TILE: usize = 16;
/// Lines of a step of B: two tiles.
pub(super) const STEP: usize = 2 * TILE;

/// A block of C: (32, 32), f32.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block(pub(super) [[f32; SIDE]; SIDE]);

impl Block {
    pub(super) const ZERO: Self = Self([[0.0; SIDE]; SIDE]);
}

/// A block of A's rows from some step of K on.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// From the first row's first line on.
    lines: &'a [Line],
    strides: Strides,
}

/// How A's lines follow each other, counted in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strides {
    /// From one of 16 rows to the next.
    pub(super) row: usize,
    /// From the first of 16 rows to the first of the next 16.
    pub(super) tile: usize,
    /// From a step of K to the next.
    pub(super) step: usize,
}

impl Strides {
    /// Of tiles that follow each other: two of a step, then those of the next.
    pub(super) const PACKED: Self = Self { row: 1, tile: TILE, step: STEP };
}

impl<'a> Left<'a> {
    /// Lines must not end before the last row's last step does; [`Tiles::product`] checks it.
    pub(super) fn new(lines: &'a [Line], strides: Strides) -> Self {
        Self { lines, strides }
    }

    pub(super) fn strides(&self) -> Strides {
        self.strides
    }

    /// The lines, which are enough for so many steps.
    ///
    /// # Panics
    /// Where they are not.
    #[inline(always)]
    pub(super) fn checked(&self, steps: usize) -> &'a [Line] {
        let Strides { row, tile, step } = self.strides;
        let last = (TILE - 1) * row + tile + (steps - 1) * step;
        assert!(last < self.lines.len(), "A ends before K does");
        self.lines
    }
}

/// The tiles of one thread.
pub(super) trait Tiles {
    /// c ← (0 or c) + a · b over as many steps as b, (steps, 2, 16) lines, has. `next` will be read soon.
    ///
    /// Each step adds the sum over even k and the sum over odd k, which begin at zero, so a row's result
    /// depends on nothing but that row, b and the cuts between calls.
    ///
    /// # Panics
    /// Where a is shorter than b.
    fn product(&self, a: Left<'_>, b: &[Line], c: &mut Block, onto: Onto, next: &[Line]);
}

/// A way to multiply tiles that this machine has.
pub(super) trait Machine: Copy + Send + Sync {
    /// What a thread needs while it multiplies.
    type Tiles: Tiles;

    /// Prepares this thread.
    fn tiles(self) -> Self::Tiles;
}
