//! A 3×3 convolution of an image whose pixels are doubled both ways, without doubling them.
//!
//! A result at (2y + i, 2x + j) sees two rows and two columns of the image, one of each twice: its kernel is
//! 2×2, with sums of the 3×3 kernel's weights, and there are four of them. They take 16 products where the
//! doubled image takes 36. Sums are made in f32 and rounded once.

use rayon::prelude::*;

use super::{
    super::convert::{narrow, widen},
    line::Line,
    packed::{Right, VnniPanels},
    tiles::STEP,
};

/// The 2×2 kernel of a quarter of the results.
pub(super) struct Phase {
    lines: Vec<Line>,
    steps: usize,
    /// Of those results in each square of four, the row and the column.
    pub(super) place: [usize; 2],
}

impl Phase {
    pub(super) fn right(&self) -> Right<'_> {
        Right { lines: &self.lines, parts: 2, steps: self.steps }
    }
}

/// Of the kernel's rows, or columns, those that see one row of the image; by the result's and that row's.
const SEEN: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];

pub(super) fn phases(kernel: &VnniPanels) -> [Phase; 4] {
    let whole = kernel.right();
    let pixel = whole.steps / 3;
    [[0, 0], [0, 1], [1, 0], [1, 1]].map(|place| {
        let steps = 2 * pixel;
        // (panels, 2, 2, pixel) steps, as they are read.
        let lines: Vec<[Line; STEP]> = (0..whole.panels() * 2 * steps)
            .into_par_iter()
            .map(|at| {
                let (panel, part) = (at / steps / 2, at / steps % 2);
                let (column, step) = (at % steps / pixel, at % pixel);
                let rows = SEEN[place[0]][part].iter();
                let seen = rows.flat_map(|&y| SEEN[place[1]][column].iter().map(move |&x| (y, x)));
                sum(seen.map(|(y, x)| whole.chunk(panel, y, x * pixel + step, 1)))
            })
            .collect();
        Phase { lines: lines.into_flattened(), steps, place }
    })
}

fn sum<'a>(steps: impl Iterator<Item = &'a [Line]>) -> [Line; STEP] {
    let mut sums = [[0f32; 32]; STEP];
    for lines in steps {
        for (sums, line) in sums.iter_mut().zip(lines) {
            for (sum, x) in sums.iter_mut().zip(line.0) {
                *sum += widen(x);
            }
        }
    }
    sums.map(|sums| Line(sums.map(narrow)))
}
