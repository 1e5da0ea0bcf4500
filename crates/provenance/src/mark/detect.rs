//! Finds the mark in pixels that were changed since.

use super::{
    fft::{Complex, Fft, transform_2d},
    lattice::{LATTICE, Pattern, SHIFTS, Shift, TILE_PX, Wave},
    payload::MarkId,
    plane::Plane,
    spectrum::Spectrum,
};

/// The probability that a mark is found in an image that has none, for patterns drawn at random, at most.
pub const FALSE_POSITIVE_RATE: f64 = 1e-6;

/// What the first pattern has to reach at some scale and shift.
const MIN_ANCHOR_SCORE: f32 = 6.0;
/// What the other two have to reach at some shift each.
const MIN_PAYLOAD_SCORE: f32 = 5.0;
/// The image's scale against the one that was marked.
const SCALES: std::ops::RangeInclusive<f64> = 0.38..=1.6;
/// Two scales are so far apart that over the side of an image the tile's shortest wave moves by a part of itself.
const SCALE_STEP: f64 = 2.5;
/// How much of an image is looked at, each way; and how often a larger one is halved to be looked at as a whole.
const MAX_SIDE_PX: usize = 1536;
const MAX_LEVELS: usize = 3;
/// Of an image whose smaller side is less, nothing is said.
const MIN_SIDE_PX: usize = 64;
/// So many of the best scales are looked at further.
const MAX_CANDIDATES: usize = 8;

/// A mark, and how clearly it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundMark {
    /// Which key's node it names.
    pub id: MarkId,
    /// Of the image against the one that was marked, across and down.
    pub scale: (f64, f64),
    /// The least of the three patterns' scores, in standard deviations.
    pub score: f32,
}

/// Looks for a mark in RGB pixels, three bytes each, rows from the top: at 0.4 to 1.5 times the size at which they
/// were marked, or a part of them, or both.
#[must_use]
pub fn find_mark(width_px: u32, height_px: u32, rgb: &[u8]) -> Option<FoundMark> {
    let (width, height) = (width_px as usize, height_px as usize);
    if rgb.len() != 3 * width * height {
        return None;
    }
    let mut plane = Plane::luma(width, height, rgb);
    for level in 0..MAX_LEVELS {
        if plane.width.min(plane.height) < MIN_SIDE_PX {
            return None;
        }
        let found = find(&plane).map(|found| {
            let whole = f64::from(1 << level);
            FoundMark { scale: (found.scale.0 * whole, found.scale.1 * whole), ..found }
        });
        if found.is_some() || plane.width.max(plane.height) <= MAX_SIDE_PX {
            return found;
        }
        plane = plane.halved();
    }
    None
}

/// What is tried for an image whose longer side is so many pixels.
fn scales(side_px: usize) -> impl Iterator<Item = f64> {
    let next = move |scale: &f64| Some(scale * (1.0 + SCALE_STEP * scale / side_px as f64));
    std::iter::successors(Some(*SCALES.start()), next).take_while(|scale| SCALES.contains(scale))
}

fn find(plane: &Plane) -> Option<FoundMark> {
    let (width, height) = (plane.width.min(MAX_SIDE_PX), plane.height.min(MAX_SIDE_PX));
    let corner = ((plane.width - width) / 2, (plane.height - height) / 2);
    let side = width.max(height);
    let spectrum = Spectrum::of(&plane.crop(corner, width, height));
    let surface = Surface::new(Pattern::Anchor);
    let mut candidates: Vec<(f32, Alignment)> = Vec::new();
    for scale in scales(side) {
        let at_origin = Alignment { scale: (scale, scale), offset: (0.0, 0.0) };
        let (score, shift) = surface.highest(&spectrum, &at_origin);
        if score >= MIN_ANCHOR_SCORE {
            let offset = (shift.x as f64 / SHIFTS as f64, shift.y as f64 / SHIFTS as f64);
            candidates.push((score, Alignment { offset, ..at_origin }));
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
    candidates.truncate(MAX_CANDIDATES);
    let (first, second) = (Surface::new(Pattern::First), Surface::new(Pattern::Second));
    let read = |(_, alignment): (f32, Alignment)| {
        let (anchor, alignment) = surface.refined(&spectrum, alignment, side);
        let (score, first) = first.highest(&spectrum, &alignment);
        let (other, second) = second.highest(&spectrum, &alignment);
        let score = score.min(other);
        let id = MarkId::of_shifts(first, second).filter(|_| score >= MIN_PAYLOAD_SCORE)?;
        Some(FoundMark { id, scale: alignment.scale, score: score.min(anchor) })
    };
    candidates.into_iter().find_map(read)
}

/// Where the tile lies in an image: how large it is, and how far its corner is from the image's middle, in turns of
/// the tile.
#[derive(Debug, Clone, Copy)]
struct Alignment {
    scale: (f64, f64),
    offset: (f64, f64),
}

impl Alignment {
    /// What the image has of a wave, as if the tile began in its middle.
    fn read(&self, spectrum: &Spectrum, wave: &Wave) -> Complex {
        let (kx, ky) = (f64::from(wave.kx), f64::from(wave.ky));
        let tile = TILE_PX as f64;
        let there = spectrum.at(kx / (tile * self.scale.0), ky / (tile * self.scale.1));
        match self.offset {
            (0.0, 0.0) => there,
            (x, y) => there.times(Complex::unit(kx * x + ky * y)),
        }
    }

    fn moved(mut self, parameter: usize, by: f64) -> Self {
        match parameter {
            0 => self.scale.0 *= 1.0 + by,
            1 => self.scale.1 *= 1.0 + by,
            2 => self.offset.0 += by,
            _ => self.offset.1 += by,
        }
        self
    }
}

/// The scores of one pattern at all its shifts.
struct Surface {
    waves: Vec<Wave>,
    fft: Fft,
}

impl Surface {
    fn new(pattern: Pattern) -> Self {
        let waves = LATTICE.iter().filter(|wave| wave.pattern == pattern).copied().collect();
        Self { waves, fft: Fft::new(SHIFTS) }
    }

    /// The highest, and where it is.
    fn highest(&self, spectrum: &Spectrum, alignment: &Alignment) -> (f32, Shift) {
        let mut products = vec![Complex::default(); SHIFTS * SHIFTS];
        let mut power = 0.0;
        let place = |k: i32| k.rem_euclid(SHIFTS as i32) as usize;
        for wave in &self.waves {
            let there = alignment.read(spectrum, wave);
            power += there.power();
            // A real part is that of the conjugate, whose transform goes the other way.
            products[place(wave.ky) * SHIFTS + place(wave.kx)] =
                there.conjugate().times(wave.phase);
        }
        let sums = transform_2d(&products, &self.fft, &self.fft);
        let (at, highest) = sums
            .iter()
            .map(|sum| sum.re)
            .enumerate()
            .fold((0, f32::MIN), |best, next| if next.1 > best.1 { next } else { best });
        (score(highest, power), Shift { x: at / SHIFTS, y: at % SHIFTS })
    }

    /// A score without any shift.
    fn score(&self, spectrum: &Spectrum, alignment: &Alignment) -> f32 {
        let (mut sum, mut power) = (0.0, 0.0);
        for wave in &self.waves {
            let there = alignment.read(spectrum, wave);
            power += there.power();
            sum += there.times(wave.phase.conjugate()).re;
        }
        score(sum, power)
    }

    /// The alignment nearby with the highest score: uphill, in ever smaller steps.
    fn refined(&self, spectrum: &Spectrum, start: Alignment, side: usize) -> (f32, Alignment) {
        let mut best = (self.score(spectrum, &start), start);
        let scale_step = SCALE_STEP * start.scale.0 / side as f64;
        let offset_step = 0.5 / SHIFTS as f64;
        for finer in [0.5, 0.25, 0.125] {
            for parameter in 0..4 {
                let step = finer * if parameter < 2 { scale_step } else { offset_step };
                for by in [step, -step] {
                    // Bounded: the tile may be stretched a little, and no more.
                    for _ in 0..4 {
                        let moved = best.1.moved(parameter, by);
                        let score = self.score(spectrum, &moved);
                        if score <= best.0 {
                            break;
                        }
                        best = (score, moved);
                    }
                }
            }
        }
        best
    }
}

/// In standard deviations of what is there by chance.
fn score(sum: f32, power: f32) -> f32 {
    if power > 0.0 { sum / (power / 2.0).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::payload::CHECKS;
    use super::*;

    /// Σ over all scales, shifts and payloads of exp(−z²/2), z what each of the three patterns has to reach.
    fn false_positive_bound() -> f64 {
        let shifts = (SHIFTS * SHIFTS) as f64;
        let reach = |score: f32| (-f64::from(score).powi(2) / 2.0).exp();
        let scales = (MAX_LEVELS * scales(MAX_SIDE_PX).count()) as f64;
        let payloads = shifts * shifts / CHECKS;
        scales * shifts * reach(MIN_ANCHOR_SCORE) * payloads * reach(MIN_PAYLOAD_SCORE).powi(2)
    }

    #[test]
    fn what_is_stated_of_false_positives_is_their_bound() {
        assert!(false_positive_bound() <= FALSE_POSITIVE_RATE, "{}", false_positive_bound());
    }

    #[test]
    fn pixels_that_are_none_have_no_mark() {
        for (width, height, bytes) in [(0, 0, 0), (100, 100, 7), (64, 1, 192), (64, 64, 12_288)] {
            assert_eq!(find_mark(width, height, &vec![128; bytes]), None);
        }
    }
}
