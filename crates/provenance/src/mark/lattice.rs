//! The waves that a mark is made of.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::fft::{Complex, Fft, transform_2d};

/// The side of the tile, in pixels of the image as it is marked.
pub(super) const TILE_PX: usize = 128;
/// Shifts are told apart by so many parts of the tile, each way.
pub(super) const SHIFTS: usize = 64;
/// Below, images themselves have most; above, JPEG and resizing leave nothing.
const WAVES: std::ops::RangeInclusive<i32> = 6..=26;
/// Nearer to the axes lie an image's borders, and JPEG's blocks.
const MIN_ALONG: i32 = 2;
const DOMAIN: &[u8] = b"obscura/mark/v1\0";

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// By which the mark is found; never shifted.
    Anchor,
    /// Shifted by one half of the payload.
    First,
    /// Shifted by the other.
    Second,
}

/// cos(2π (kx x + ky y) / [`TILE_PX`] + phase).
#[derive(Debug, Clone, Copy)]
pub(super) struct Wave {
    pub(super) kx: i32,
    pub(super) ky: i32,
    /// e^(i phase), of the 32 whole parts of a turn.
    pub(super) phase: Complex,
    pub(super) pattern: Pattern,
}

impl Wave {
    /// 1/√|k|: what is low survives JPEG of an image that was made smaller first, what is high has less of the
    /// image in its way.
    fn amplitude(&self) -> f32 {
        ((self.kx * self.kx + self.ky * self.ky) as f32).sqrt().sqrt().recip()
    }
}

/// All of them, each with its mirror image left out.
pub(super) static LATTICE: LazyLock<Vec<Wave>> = LazyLock::new(|| {
    let (least, most) = (WAVES.start().pow(2), WAVES.end().pow(2));
    let mut waves = Vec::new();
    for ky in MIN_ALONG..=*WAVES.end() {
        for kx in -*WAVES.end()..=*WAVES.end() {
            if kx.abs() >= MIN_ALONG && (least..=most).contains(&(kx * kx + ky * ky)) {
                waves.push(wave(kx, ky));
            }
        }
    }
    waves
});

fn wave(kx: i32, ky: i32) -> Wave {
    let drawn = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(kx.to_be_bytes())
        .chain_update(ky.to_be_bytes())
        .finalize();
    let phase = Complex::unit(f64::from(drawn[0] % 32) / 32.0);
    // The anchor has to be found among all scales and shifts, the others among shifts alone.
    let pattern = match drawn[1] {
        0..102 => Pattern::Anchor,
        102..179 => Pattern::First,
        _ => Pattern::Second,
    };
    Wave { kx, ky, phase, pattern }
}

/// A shift of a pattern, in [`SHIFTS`]ths of the tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) x: usize,
    pub(super) y: usize,
}

impl Shift {
    pub(super) const NONE: Self = Self { x: 0, y: 0 };

    /// What a wave is turned by.
    fn turn(self, wave: &Wave) -> Complex {
        let turns = wave.kx * self.x as i32 + wave.ky * self.y as i32;
        Complex::unit(-f64::from(turns.rem_euclid(SHIFTS as i32)) / SHIFTS as f64)
    }
}

/// The tile, row by row, its mean square 1.
pub(super) fn tile(first: Shift, second: Shift) -> Vec<f32> {
    let mut spectrum = vec![Complex::default(); TILE_PX * TILE_PX];
    let place = |k: i32| k.rem_euclid(TILE_PX as i32) as usize;
    for wave in &*LATTICE {
        let shift = match wave.pattern {
            Pattern::Anchor => Shift::NONE,
            Pattern::First => first,
            Pattern::Second => second,
        };
        // A real part is that of the conjugate, whose transform goes the other way.
        let value = wave.phase.times(shift.turn(wave)).conjugate();
        spectrum[place(wave.ky) * TILE_PX + place(wave.kx)] = value.scaled(wave.amplitude());
    }
    let fft = Fft::new(TILE_PX);
    let waves = transform_2d(&spectrum, &fft, &fft);
    // Of a wave of amplitude 1, the mean square is ½.
    let squares: f32 = LATTICE.iter().map(|wave| wave.amplitude().powi(2) / 2.0).sum();
    let level = squares.sqrt().recip();
    let at = |n: usize| waves[(n % TILE_PX) * TILE_PX + n / TILE_PX].re * level;
    (0..TILE_PX * TILE_PX).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tile_is_its_waves() {
        let shift = Shift { x: 63, y: 5 };
        let tile = tile(shift, Shift { x: 0, y: 40 });
        let mean_square = tile.iter().map(|value| value * value).sum::<f32>() / tile.len() as f32;
        assert!((mean_square - 1.0).abs() < 1e-3);
        for wave in LATTICE.iter().step_by(50) {
            let sum = tile.iter().enumerate().fold(Complex::default(), |sum, (n, value)| {
                let (x, y) = ((n % TILE_PX) as i32, (n / TILE_PX) as i32);
                let turns = f64::from(wave.kx * x + wave.ky * y) / TILE_PX as f64;
                sum.plus(Complex::unit(-turns).scaled(*value))
            });
            let shift = match wave.pattern {
                Pattern::Anchor => Shift::NONE,
                Pattern::First => shift,
                Pattern::Second => Shift { x: 0, y: 40 },
            };
            let expected = wave.phase.times(shift.turn(wave));
            let aligned = sum.times(expected.conjugate());
            assert!(aligned.re > 0.0 && aligned.im.abs() < 1e-2 * aligned.re, "{wave:?}");
        }
    }

    #[test]
    fn each_pattern_has_its_share() {
        let share = |pattern| {
            let of = LATTICE.iter().filter(|wave| wave.pattern == pattern).count();
            of as f64 / LATTICE.len() as f64
        };
        assert!((0.3..0.5).contains(&share(Pattern::Anchor)));
        assert!((0.2..0.4).contains(&share(Pattern::First)));
        assert!((0.2..0.4).contains(&share(Pattern::Second)));
    }
}
