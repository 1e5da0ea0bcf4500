//! Rotary positions on three axes: text (always 0), row and column of the image.

use candle_core::{Device, Tensor};
use kernels::Rotations;

use crate::{Result, latents::Grid};

/// Base of the geometric series of frequencies.
const THETA: f64 = 10_000.0;

/// Angles of `text_tokens` text tokens, which all stand at (0, 0, 0), then of the image's tokens
/// at (0, row, column), row by row: (l + tokens, d/2), f32.
///
/// Computed in f64 on the host: in a 16-bit dtype the angles of far tokens would be off by a quarter
/// of a radian.
pub(super) fn rotations(
    axes: [usize; 3],
    text_tokens: usize,
    grid: Grid,
    device: &Device,
) -> Result<Rotations> {
    let half: usize = axes.iter().sum::<usize>() / 2;
    // Each axis has few places: the functions are computed once for each, not for each token.
    let tables = [1, grid.rows, grid.columns];
    let tables: Vec<Vec<Angles>> = axes
        .into_iter()
        .zip(tables)
        .map(|(dim, places)| (0..places).map(|place| Angles::new(dim, place)).collect())
        .collect();
    let text = (0..text_tokens).map(|_| [0, 0, 0]);
    let image =
        (0..grid.rows).flat_map(|row| (0..grid.columns).map(move |column| [0, row, column]));
    let length = text_tokens + grid.tokens();
    let (mut cos, mut sin) = (Vec::with_capacity(length * half), Vec::with_capacity(length * half));
    for position in text.chain(image) {
        for (table, place) in tables.iter().zip(position) {
            cos.extend_from_slice(&table[place].cos);
            sin.extend_from_slice(&table[place].sin);
        }
    }
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
    fn new(dim: usize, place: usize) -> Self {
        let angles = (0..dim / 2).map(|i| {
            // θ^(−2i/dim)
            let frequency = THETA.powf(2.0 * i as f64 / dim as f64).recip();
            (place as f64 * frequency).sin_cos()
        });
        let (sin, cos) = angles.map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        Self { cos, sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_rotated_and_images_are_by_row_and_column() {
        let grid = Grid { rows: 2, columns: 3, channels: 16 };
        let rotations = rotations([2, 4, 4], 2, grid, &Device::Cpu).unwrap();
        let sin = rotations.sin.to_vec2::<f32>().unwrap();
        assert_eq!(sin.len(), 2 + 6);
        assert_eq!(sin[1], [0.0; 5]);
        // The last token: row 1, column 2; frequencies 1 and 1/100.
        let expected = [0.0, 1f32.sin(), 0.01f32.sin(), 2f32.sin(), 0.02f32.sin()];
        for (found, expected) in sin[7].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7);
        }
    }
}
