//! Puts the mark into pixels.

use super::{
    lattice::{TILE_PX, tile},
    payload::MarkId,
    plane::Plane,
};

/// Below this no mark is found again once an image was changed.
pub const MIN_MARKED_SIDE_PX: u32 = 256;

/// The least peak signal-to-noise ratio of a marked image to the one that was drawn, in dB, over all three channels.
const MIN_PSNR_DB: f64 = 42.0;
/// What is aimed at: rounding to whole values comes on top.
const AIM_PSNR_DB: f64 = 42.2;
/// The root mean square of the mark where an image is flat, at most, in 255ths.
const FLAT_RMS: f32 = 1.5;
/// By how much the mark is stronger where an image is busy: by this for each 255th that its luma differs from its
/// surroundings, on average, …
const ACTIVITY_GAIN: f32 = 0.15;
/// … up to so many of them.
const MAX_ACTIVITY: f32 = 24.0;

/// Marks an image of RGB pixels, three bytes each, rows from the top. The same pixels are marked alike everywhere.
///
/// An image that is smaller than [`MIN_MARKED_SIDE_PX`] on a side is left as it is.
pub fn mark(width_px: u32, height_px: u32, rgb: &mut [u8], id: MarkId) {
    let (width, height) = (width_px as usize, height_px as usize);
    if width_px.min(height_px) < MIN_MARKED_SIDE_PX || rgb.len() != 3 * width * height {
        return;
    }
    let strength = strength(&Plane::luma(width, height, rgb));
    let (first, second) = id.shifts();
    let tile = tile(first, second);
    let mut change = strength;
    for (y, row) in change.values.chunks_exact_mut(width).enumerate() {
        let waves = &tile[(y % TILE_PX) * TILE_PX..][..TILE_PX];
        for part in row.chunks_mut(TILE_PX) {
            part.iter_mut().zip(waves).for_each(|(value, wave)| *value *= wave);
        }
    }
    let squares: f64 = change.values.chunks(width).map(|row| f64::from(sum_of_squares(row))).sum();
    let mean_square = squares / (width * height) as f64;
    let aimed = 255.0 / 10_f64.powf(AIM_PSNR_DB / 20.0);
    let mut gain = (aimed / mean_square.sqrt()).min(f64::from(FLAT_RMS)) as f32;
    let most = 3.0 * (width * height) as f64 * 255.0_f64.powi(2) / 10_f64.powf(MIN_PSNR_DB / 10.0);
    let mut steps = steps(&change, gain);
    // Never, as a rule.
    while squares_of(rgb, &steps) as f64 > most {
        gain *= 0.98;
        steps = self::steps(&change, gain);
    }
    for (pixel, step) in rgb.chunks_exact_mut(3).zip(&steps) {
        for value in pixel {
            *value = value.saturating_add_signed(*step);
        }
    }
}

/// What is added to each pixel.
fn steps(change: &Plane, gain: f32) -> Vec<i8> {
    // Rounds to whole numbers, ties to even, without a call for each: numbers from here on have no fractions.
    const WHOLE: f32 = 1.5 * (1 << 23) as f32;
    change.values.iter().map(|value| (value * gain + WHOLE - WHOLE) as i8).collect()
}

/// How strong the mark may be at each pixel, 1 where the image is flat.
fn strength(luma: &Plane) -> Plane {
    let differing = luma.mean(4).zip(luma, |mean, value| (value - mean).abs());
    differing.mean(3).map(|activity| 1.0 + ACTIVITY_GAIN * activity.min(MAX_ACTIVITY))
}

fn sum_of_squares(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum()
}

/// The sum of the squares of what these steps change in all channels.
fn squares_of(rgb: &[u8], steps: &[i8]) -> u64 {
    let of_row = |(pixels, steps): (&[u8], &[i8])| {
        let pixels = pixels.chunks_exact(3).zip(steps);
        let squares = pixels.map(|(pixel, step)| {
            let square = |value: &u8| {
                let changed = i32::from(value.saturating_add_signed(*step)) - i32::from(*value);
                changed.unsigned_abs().pow(2)
            };
            square(&pixel[0]) + square(&pixel[1]) + square(&pixel[2])
        });
        u64::from(squares.sum::<u32>())
    };
    // So few that their squares fit.
    const PIXELS: usize = 4096;
    rgb.chunks(3 * PIXELS).zip(steps.chunks(PIXELS)).map(of_row).sum()
}
