//! What an image is made of, frequency by frequency, each as strong as its neighbours.

use super::{
    fft::{Complex, Fft, transform_2d},
    plane::Plane,
};

/// Higher frequencies are not looked at, in cycles a pixel.
const MAX_FREQUENCY: f64 = 0.48;
/// A frequency is levelled by the mean power of those around it, up to so many cycles a pixel away.
const LEVELLED_OVER: f64 = 0.005;
/// The least power that is levelled, as a part of the mean.
const FLOOR: f32 = 0.02;
/// No frequency is stronger than so many times its neighbours' root mean square.
const MAX_MAGNITUDE: f32 = 2.0;
/// What is added to the local contrast before luma is levelled by it, in 255ths.
const CONTRAST_FLOOR: f32 = 1.0;
/// An image's borders fade over this part of its side.
const FADING: f64 = 0.1;

/// Of a real image: the frequencies whose second one is not negative.
pub(super) struct Spectrum {
    /// Both powers of two.
    width: usize,
    height: usize,
    /// At (kx, ky) of `kx * (height / 2) + ky`, seen from the image's middle.
    values: Vec<Complex>,
}

impl Spectrum {
    pub(super) fn of(luma: &Plane) -> Self {
        let field = levelled(luma);
        // With room around, what lies between two frequencies can be read from both.
        let room = |side: usize| (side + side / 4).next_power_of_two();
        let (width, height) = (room(field.width), room(field.height));
        let mut padded = vec![Complex::default(); width * height];
        let (fade_x, fade_y) = (fading(field.width), fading(field.height));
        for (y, row) in field.values.chunks_exact(field.width).enumerate() {
            let to = (y + height - field.height / 2) % height;
            for (x, value) in row.iter().enumerate() {
                let at = (x + width - field.width / 2) % width;
                padded[to * width + at].re = value * fade_x[x] * fade_y[y];
            }
        }
        let whole = transform_2d(&padded, &Fft::new(width), &Fft::new(height));
        drop(padded);
        let half = height / 2;
        let mut values: Vec<_> =
            whole.chunks_exact(height).flat_map(|column| &column[..half]).copied().collect();
        drop(whole);
        let power = values.iter().map(|value| value.power()).collect();
        let power = Plane { width: half, height: width, values: power };
        let floor = FLOOR * power.values.iter().sum::<f32>() / power.values.len() as f32;
        let radius = |side: usize| (LEVELLED_OVER * side as f64).ceil() as usize;
        let level = power.mean_across(radius(height)).mean_down(radius(width));
        for (value, level) in values.iter_mut().zip(&level.values) {
            let level = level.max(0.0) + floor;
            *value = if level > 0.0 { value.scaled(level.sqrt().recip()) } else { *value };
        }
        Self { width, height, values }
    }

    /// At (fx, fy) cycles a pixel, fy not negative; nothing where that is too high.
    pub(super) fn at(&self, fx: f64, fy: f64) -> Complex {
        if fx.abs() > MAX_FREQUENCY || fy > MAX_FREQUENCY {
            return Complex::default();
        }
        let (x, y) = (fx * self.width as f64, fy * self.height as f64);
        let (left, top) = (x.floor(), y.floor());
        let (right_share, lower_share) = ((x - left) as f32, (y - top) as f32);
        let half = self.height / 2;
        let top = top as usize;
        let column = |k: i64| {
            let k = k.rem_euclid(self.width as i64) as usize;
            let column = &self.values[k * half..][..half];
            let lower = column[(top + 1).min(half - 1)];
            column[top].scaled(1.0 - lower_share).plus(lower.scaled(lower_share))
        };
        let left = left as i64;
        let value =
            column(left).scaled(1.0 - right_share).plus(column(left + 1).scaled(right_share));
        let power = value.power();
        match power > MAX_MAGNITUDE * MAX_MAGNITUDE {
            true => value.scaled(MAX_MAGNITUDE / power.sqrt()),
            false => value,
        }
    }
}

/// Without what is even, and with as much contrast everywhere.
fn levelled(luma: &Plane) -> Plane {
    let detail = luma.mean(4).mean(4).zip(luma, |mean, value| value - mean);
    let contrast = detail.clone().map(|value| value * value).mean(3);
    detail.zip(&contrast, |value, square| value / (square.max(0.0).sqrt() + CONTRAST_FLOOR))
}

/// From 0 at both borders to 1.
fn fading(side: usize) -> Vec<f32> {
    let over = (FADING * side as f64).max(1.0);
    let at = |n: usize| {
        let from_border = n.min(side - 1 - n) as f64 + 0.5;
        let part = (from_border / over).min(1.0);
        (std::f64::consts::FRAC_PI_2 * part).sin().powi(2) as f32
    };
    (0..side).map(at).collect()
}
