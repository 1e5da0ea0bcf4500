//! Rotary positions on several axes: time, row, column and, where there is a fourth, place in the text.
//!
//! Source: the behaviour of diffusers' `FluxPosEmbed` and `Flux2PosEmbed`.

use candle_core::{Device, Tensor};
use kernels::Rotations;

use crate::{Result, latents::Grid};

/// How a head's width is divided among the axes, and how fast each turns.
#[derive(Debug, Clone)]
pub(super) struct Axes {
    /// Values of a head for each axis: time, row, column, place in the text. The last may be missing.
    pub(super) dims: Vec<usize>,
    /// Base of the geometric series of frequencies.
    pub(super) theta: f64,
}

/// What stands where: text tokens, the image's, and those of input images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) text_tokens: usize,
    pub(super) image: Grid,
    pub(super) references: Vec<Grid>,
}

impl Sequence {
    /// Time of the i-th input image; the image itself is drawn at time 0.
    fn time(reference: usize) -> usize {
        10 + 10 * reference
    }

    fn positions(&self) -> impl Iterator<Item = [usize; 4]> {
        let text = (0..self.text_tokens).map(|place| [0, 0, 0, place]);
        let references = self.references.iter().enumerate().map(|(i, &grid)| (Self::time(i), grid));
        let images = std::iter::once((0, self.image)).chain(references);
        text.chain(images.flat_map(|(time, grid)| {
            (0..grid.rows)
                .flat_map(move |row| (0..grid.columns).map(move |column| [time, row, column, 0]))
        }))
    }

    /// How many places each axis has.
    fn places(&self) -> [usize; 4] {
        let grids = || self.references.iter().chain([&self.image]);
        let most = |side: fn(&Grid) -> usize| grids().map(side).max().unwrap_or_default();
        let times = self.references.len().checked_sub(1).map_or(0, Self::time) + 1;
        [times, most(|grid| grid.rows), most(|grid| grid.columns), self.text_tokens.max(1)]
    }
}

/// Angles of text tokens at (0, 0, 0, i), then of the image's tokens at (0, row, column, 0), row by row, then of
/// each input image's at (10 + 10·i, row, column, 0): (l, d/2), f32.
///
/// Computed in f64 on the host: in a 16-bit dtype the angles of far tokens would be off by a quarter
/// of a radian.
pub(super) fn rotations(axes: &Axes, sequence: &Sequence, device: &Device) -> Result<Rotations> {
    let half: usize = axes.dims.iter().sum::<usize>() / 2;
    // Each axis has few places: the functions are computed once for each, not for each token.
    let tables: Vec<Vec<Angles>> = axes
        .dims
        .iter()
        .zip(sequence.places())
        .map(|(&dim, places)| {
            (0..places).map(|place| Angles::new(dim, place, axes.theta)).collect()
        })
        .collect();
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for position in sequence.positions() {
        for (table, place) in tables.iter().zip(position) {
            cos.extend_from_slice(&table[place].cos);
            sin.extend_from_slice(&table[place].sin);
        }
    }
    let length = cos.len() / half.max(1);
    Ok(Rotations {
        cos: Tensor::from_vec(cos, (length, half), device)?,
        sin: Tensor::from_vec(sin, (length, half), device)?,
    })
}

/// Cosines and sines of one place on an axis.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    fn new(dim: usize, place: usize, theta: f64) -> Self {
        let angles = (0..dim / 2).map(|i| {
            // θ^(−2i/dim)
            let frequency = theta.powf(2.0 * i as f64 / dim as f64).recip();
            (place as f64 * frequency).sin_cos()
        });
        let (sin, cos) = angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        Self { cos, sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
    }

    #[test]
    fn text_is_not_rotated_and_images_are_by_row_and_column() {
        let axes = Axes { dims: vec![2, 4, 4], theta: 10_000.0 };
        let image = Grid { rows: 2, columns: 3, channels: 16 };
        let sequence = Sequence { text_tokens: 2, image, references: Vec::new() };
        let rotations = rotations(&axes, &sequence, &Device::Cpu).unwrap();
        let sin = rotations.sin.to_vec2::<f32>().unwrap();
        assert_eq!(sin.len(), 2 + 6);
        assert_eq!(sin[1], [0.0; 5]);
        // The last token: row 1, column 2; frequencies 1 and 1/100.
        near(&sin[7], &[0.0, 1f32.sin(), 0.01f32.sin(), 2f32.sin(), 0.02f32.sin()]);
    }

    #[test]
    fn a_fourth_axis_counts_text_and_time_tells_input_images_apart() {
        let axes = Axes { dims: vec![2, 2, 2, 2], theta: 2000.0 };
        let grid = |rows, columns| Grid { rows, columns, channels: 32 };
        let sequence = Sequence {
            text_tokens: 3,
            image: grid(1, 2),
            references: vec![grid(1, 1), grid(2, 1)],
        };
        let rotations = rotations(&axes, &sequence, &Device::Cpu).unwrap();
        let sin = rotations.sin.to_vec2::<f32>().unwrap();
        assert_eq!(sin.len(), 3 + 2 + 1 + 2);
        near(&sin[2], &[0.0, 0.0, 0.0, 2f32.sin()]);
        near(&sin[4], &[0.0, 0.0, 1f32.sin(), 0.0]);
        near(&sin[5], &[10f32.sin(), 0.0, 0.0, 0.0]);
        near(&sin[7], &[20f32.sin(), 1f32.sin(), 0.0, 0.0]);
    }
}
