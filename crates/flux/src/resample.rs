//! Scaling images of 8 bits as Pillow does: Lanczos' filter over as many pixels as are brought together, in fixed
//! point, across and down, rounded to 8 bits after each.
//!
//! Source: the behaviour of Pillow's `Image.resize(size, Resampling.LANCZOS)` on RGB images and on grey ones.

use protocol::SecretBytes;
use rayon::prelude::*;

/// Pixels of so many values, three of colour or one of grey, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Raster<'a, const VALUES: usize> {
    pub(crate) bytes: &'a [u8],
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Half the width of the filter, in pixels of the smaller image.
const SUPPORT: f64 = 3.0;

/// Fractional bits of a weight: what 32 bits leave beside a byte, and two for sums of weights beyond one.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// To no more columns and rows than there are.
pub(crate) fn lanczos<const VALUES: usize>(
    from: Raster<'_, VALUES>,
    [width, height]: [usize; 2],
) -> SecretBytes {
    // Which goes first decides how last bits are rounded. As Pillow 13.0.0 does, found by trying 300 sizes.
    if from.height.saturating_sub(height) > 2 * from.width.saturating_sub(width) {
        let bytes = &down(from, height);
        return across(Raster::<VALUES> { bytes, width: from.width, height }, width);
    }
    let bytes = &across(from, width);
    down(Raster::<VALUES> { bytes, width, height: from.height }, height)
}

fn across<const VALUES: usize>(from: Raster<'_, VALUES>, width: usize) -> SecretBytes {
    let filters = filters(from.width, width);
    let mut out = SecretBytes::from(vec![0; VALUES * width * from.height]);
    let rows = from.bytes.par_chunks(VALUES * from.width);
    out.par_chunks_mut(VALUES * width).zip(rows).for_each(|(to, from)| {
        for (to, filter) in to.chunks_exact_mut(VALUES).zip(&filters) {
            let pixels = from[VALUES * filter.first..].chunks_exact(VALUES);
            let mut sums = [HALF; VALUES];
            for (pixel, &weight) in pixels.zip(&filter.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            to.copy_from_slice(&sums.map(to_byte));
        }
    });
    out
}

fn down<const VALUES: usize>(from: Raster<'_, VALUES>, height: usize) -> SecretBytes {
    let row_bytes = VALUES * from.width;
    let filters = filters(from.height, height);
    let mut out = SecretBytes::from(vec![0; row_bytes * height]);
    out.par_chunks_mut(row_bytes).zip(&filters).for_each(|(to, filter)| {
        for (i, to) in to.iter_mut().enumerate() {
            let rows = from.bytes.chunks_exact(row_bytes).skip(filter.first);
            let sum = rows.zip(&filter.weights).map(|(row, &weight)| i32::from(row[i]) * weight);
            *to = to_byte(HALF + sum.sum::<i32>());
        }
    });
    out
}

/// One half, for rounding.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// What one result is made of, along one axis.
struct Filter {
    first: usize,
    weights: Vec<i32>,
}

fn filters(from: usize, to: usize) -> Vec<Filter> {
    let scale = from as f64 / to as f64;
    // Where an image grows, the filter is as wide as its own pixels.
    let width = scale.max(1.0);
    let (support, inverse) = (SUPPORT * width, 1.0 / width);
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).clamp(0, from as i64) as usize;
            let weights: Vec<f64> = (first..end)
                .map(|pixel| lanczos3((pixel as f64 - centre + 0.5) * inverse))
                .collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: f64| {
                let weight = weight / sum * f64::from(1 << FRACTION_BITS);
                (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32
            };
            Filter { first, weights: weights.into_iter().map(fixed).collect() }
        })
        .collect()
}

/// sinc(x) · sinc(x/3) in −3 to 3.
fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| {
        let angle = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { angle.sin() / angle }
    };
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Digests of what Pillow 13.0.0 makes of `klein_models.input_picture` and of its green channel, by which of both
    /// directions it takes first: down, down, across.
    #[test]
    fn images_are_pillows_bit_by_bit() {
        for (from, to, of_colour, of_grey) in [
            ([101, 75], [96, 64], "2cb6176b9198aba7", "3e189ad0c7a497b7"),
            ([1000, 3000], [591, 1773], "83248ec0a71d62da", "898a02fb83f1d5e8"),
            ([1300, 1100], [1113, 941], "f75d520702db5809", "29555cf9ac749f4e"),
        ] {
            let [width, height] = from;
            let value = |x: u32, y: u32, c: u32| {
                let mixed = x.wrapping_mul(73_856_093)
                    ^ y.wrapping_mul(19_349_663)
                    ^ (c + 1).wrapping_mul(83_492_791);
                (x * (c + 1) / 3 + y * (3 - c) / 2 + (mixed >> 7 & 31)) as u8
            };
            let pixels = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let rgb: Vec<u8> =
                pixels().flat_map(|(x, y)| [0, 1, 2].map(|c| value(x, y, c))).collect();
            let green: Vec<u8> = pixels().map(|(x, y)| value(x, y, 1)).collect();
            let (width, height) = (width as usize, height as usize);
            let colour = lanczos(Raster::<3> { bytes: &rgb, width, height }, to);
            let grey = lanczos(Raster::<1> { bytes: &green, width, height }, to);
            for (scaled, expected) in [(colour, of_colour), (grey, of_grey)] {
                let found = Sha256::digest(&*scaled);
                let found: String =
                    found.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(found, expected, "{from:?} {to:?}");
            }
        }
    }
}
