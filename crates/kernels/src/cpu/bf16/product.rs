//! Whole products: which blocks are multiplied when, so that each cache holds what is read again.
//!
//! A task makes a rectangle of C, with sums in f32 beside it. It goes over K in chunks: a chunk of a panel
//! of B (32 KB) stays in the nearest cache while it meets the same chunk of each block of A's rows, which
//! come from the second one, as the sums do. With 320 rows and 256 columns these are 320 KB of A, 256 KB of
//! B and 320 KB of sums: two threads of a core have room for them in 2 MB. From farther away come 2·(320 + 256)·K
//! bytes for 2·320·256·K operations, 7 bytes in the time of 1000.

use std::ops::Range;

use half::bf16;

use super::{
    super::grid::{Grid, Rectangle},
    line::Line,
    packed::Right,
    tiles::{Block, Left, Machine, Onto, SIDE, STEP, Strides, Tiles},
};

/// Steps of K that are multiplied at a time, at most.
const CHUNK: usize = 16;
/// Blocks of rows of a task, at most.
const BLOCKS: usize = 10;
/// Panels of columns of a task, at most.
const PANELS: usize = 8;
/// Tasks for each thread, where there is enough to do.
const TASKS: usize = 3;

/// A of a product: blocks of 32 rows, whose K has one or more parts.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) lines: &'a [Line],
    pub(super) strides: Strides,
    /// Lines from a block to the next.
    pub(super) block: usize,
    /// Lines from a part of K to the next.
    pub(super) part: usize,
}

impl<'a> Rows<'a> {
    /// Of blocks of so many steps that were packed one after the other.
    pub(super) fn packed(lines: &'a [Line], steps: usize) -> Self {
        Self { lines, strides: Strides::PACKED, block: steps * STEP, part: 0 }
    }

    fn at(&self, block: usize, part: usize, step: usize) -> Left<'a> {
        let first = block * self.block + part * self.part + step * self.strides.step;
        Left::new(self.lines.get(first..).unwrap_or_default(), self.strides)
    }
}

/// A whole product A · B: `finish` is given each block of sums (its place in blocks and panels) as soon as
/// it is whole, and the rectangle of `out` that it belongs to.
pub(super) fn multiply_all<M: Machine>(
    machine: M,
    a: Rows<'_>,
    b: Right<'_>,
    out: Grid<'_, bf16>,
    finish: impl Fn([usize; 2], &Block, Rectangle<'_, bf16>) + Send + Sync,
) {
    let [blocks, panels] = [out.rows().div_ceil(SIDE), b.panels()];
    let [blocks, panels] = task(blocks, panels, rayon::current_num_threads());
    let scratch = || (machine.tiles(), Vec::new());
    out.each([blocks * SIDE, panels * SIDE], scratch, |(tiles, sums), mut rectangle| {
        let of = |range: Range<usize>| range.start / SIDE..range.end.div_ceil(SIDE);
        let (blocks, panels) = (of(rectangle.rows()), of(rectangle.columns()));
        multiply(tiles, (a, blocks), (b, panels), sums, |[block, panel], sums| {
            let side = |i: usize| i * SIDE..(i + 1) * SIDE;
            finish([block, panel], sums, rectangle.part(side(block), side(panel)));
        });
    });
}

/// Blocks and panels of a task.
fn task(blocks: usize, panels: usize, threads: usize) -> [usize; 2] {
    let down = blocks.div_ceil(BLOCKS).max(1);
    let mut across = PANELS;
    while across > 1 && down * panels.div_ceil(across) < TASKS * threads {
        across /= 2;
    }
    [blocks.div_ceil(down).max(1), across]
}

/// Some blocks of A times some panels of B, on this thread.
pub(super) fn multiply<T: Tiles>(
    tiles: &T,
    (a, blocks): (Rows<'_>, Range<usize>),
    (b, panels): (Right<'_>, Range<usize>),
    sums: &mut Vec<Block>,
    mut finish: impl FnMut([usize; 2], &mut Block),
) {
    if sums.len() < blocks.len() * panels.len() {
        sums.resize(blocks.len() * panels.len(), Block::ZERO);
    }
    // As even as they can be: a short chunk loads and stores its sums for little.
    let chunk = b.steps.div_ceil(b.steps.div_ceil(CHUNK).max(1)).max(1);
    let from = |part| (0..b.steps).step_by(chunk).map(move |from| (part, from));
    for (part, from) in (0..b.parts).flat_map(from) {
        let steps = chunk.min(b.steps - from);
        let is_first = part == 0 && from == 0;
        let is_last = part + 1 == b.parts && from + steps == b.steps;
        let mut sums = sums.iter_mut();
        for panel in panels.clone() {
            let right = b.chunk(panel, part, from, steps);
            let next = b.chunk(panel + 1, part, from, steps);
            for (i, block) in blocks.clone().enumerate() {
                let Some(sums) = sums.next() else { return };
                let onto = if is_first { Onto::Zero } else { Onto::Itself };
                // Each block fetches its share of the next chunk.
                let next = next.get(4 * i * steps..).unwrap_or_default();
                tiles.product(a.at(block, part, from), right, sums, onto, next);
                if is_last {
                    finish([block, panel], sums);
                }
            }
        }
    }
}
