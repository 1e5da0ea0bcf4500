//! Scaling images of 8 bits as Pillow does: Lanczos' filter over as many pixels as are brought together, in fixed
//! point, across first and then down, rounded to 8 bits after each.
//!
//! Source: the behaviour of Pillow's `Image.resize(size, Resampling.LANCZOS)` on RGB images.

use protocol::SecretBytes;
use rayon::prelude::*;

/// Red, green and blue, row by row.
#[derive(Clone, Copy)]
pub(crate) struct Rgb<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// Half the width of the filter, in pixels of the smaller image.
const SUPPORT: f64 = 3.0;

/// Fractional bits of a weight: what 32 bits leave beside a byte, and two for sums of weights beyond one.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// To so many columns and rows.
pub(crate) fn lanczos(from: Rgb<'_>, [width, height]: [usize; 2]) -> SecretBytes {
    let across = filters(from.width, width);
    let mut narrowed = SecretBytes::from(vec![0; 3 * width * from.height]);
    narrowed.par_chunks_mut(3 * width).zip(from.bytes.par_chunks(3 * from.width)).for_each(
        |(to, from)| {
            for (to, filter) in to.chunks_exact_mut(3).zip(&across) {
                let pixels = from[3 * filter.first..].chunks_exact(3);
                let mut sums = [HALF; 3];
                for (pixel, &weight) in pixels.zip(&filter.weights) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(value) * weight;
                    }
                }
                to.copy_from_slice(&sums.map(to_byte));
            }
        },
    );
    let down = filters(from.height, height);
    let mut out = SecretBytes::from(vec![0; 3 * width * height]);
    out.par_chunks_mut(3 * width).zip(&down).for_each(|(to, filter)| {
        for (i, to) in to.iter_mut().enumerate() {
            let rows = narrowed.chunks_exact(3 * width).skip(filter.first);
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
