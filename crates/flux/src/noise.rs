//! The noise an image starts from: torch's CPU generator, so that the same seed gives the same
//! image here as in diffusers.
//!
//! Source: the behaviour of `torch.manual_seed(seed); torch.randn(n)` on the CPU. MT19937 (Matsumoto
//! and Nishimura, 1998) yields 32-bit words. Sixteen values or more are made in blocks of sixteen
//! from f32 uniforms; fewer are made one by one from f64 uniforms, in pairs of which the second is
//! kept for the next.

use protocol::Seed;
use rayon::prelude::*;

/// Returns `count` normally distributed values, f32.
///
/// Always drawn in f32, whatever the model computes in: torch's generator gives 16-bit dtypes only
/// eight random bits a value.
pub(crate) fn normal(seed: Seed, count: usize) -> Vec<f32> {
    // The generator is seeded with the low 32 bits, as torch's is.
    let mut words = Mt19937::new(seed.get() as u32);
    if count < BLOCK { singly(&mut words, count) } else { blockwise(&mut words, count) }
}

const BLOCK: usize = 16;
/// Blocks that one task makes, at least, so that it is worth handing over.
const MIN_BLOCKS: usize = 256;

/// Box–Muller over blocks of 16: the first eight uniforms are the radii, the last eight the angles.
fn blockwise(words: &mut Mt19937, count: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..count).map(|_| uniform_f32(words)).collect();
    values.as_chunks_mut::<BLOCK>().0.par_iter_mut().with_min_len(MIN_BLOCKS).for_each(box_muller);
    if !count.is_multiple_of(BLOCK) {
        // The last sixteen values are drawn again, over the end of the last whole block.
        if let Some(tail) = values.last_chunk_mut::<BLOCK>() {
            tail.fill_with(|| uniform_f32(words));
            box_muller(tail);
        }
    }
    values
}

fn box_muller(block: &mut [f32; BLOCK]) {
    for i in 0..BLOCK / 2 {
        // 1 − u is never zero, its logarithm never infinite.
        let (u1, u2) = (1.0 - block[i], block[i + BLOCK / 2]);
        // Rounded to f32 where torch's f32 kernel rounds; each function itself is exact to f32.
        let log = f64::from(u1).ln() as f32;
        let radius = (-2.0 * log).sqrt();
        let angle = f64::from(2.0 * std::f32::consts::PI * u2);
        block[i] = radius * angle.cos() as f32;
        block[i + BLOCK / 2] = radius * angle.sin() as f32;
    }
}

/// Box–Muller one pair at a time, in f64: the cosine's value first, the sine's next time.
fn singly(words: &mut Mt19937, count: usize) -> Vec<f32> {
    let mut kept = None;
    let mut next = || {
        kept.take().unwrap_or_else(|| {
            let (u1, u2) = (uniform_f64(words), uniform_f64(words));
            let radius = (-2.0 * (-u2).ln_1p()).sqrt();
            let angle = 2.0 * std::f64::consts::PI * u1;
            kept = Some(radius * angle.sin());
            radius * angle.cos()
        })
    };
    (0..count).map(|_| next() as f32).collect()
}

/// In [0, 1): the low 24 bits of a word.
fn uniform_f32(words: &mut Mt19937) -> f32 {
    (words.next() & 0x00ff_ffff) as f32 / (1u32 << 24) as f32
}

/// In [0, 1): the low 53 bits of two words, the first one high.
fn uniform_f64(words: &mut Mt19937) -> f64 {
    let (high, low) = (u64::from(words.next()), u64::from(words.next()));
    let bits = (high << 32 | low) & ((1 << 53) - 1);
    bits as f64 / (1u64 << 53) as f64
}

/// The Mersenne Twister of 19937 bits.
struct Mt19937 {
    state: [u32; Self::WORDS],
    /// The next word of `state` to be given out.
    index: usize,
}

impl Mt19937 {
    const WORDS: usize = 624;
    const SHIFT: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::WORDS];
        for i in 1..Self::WORDS {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ last >> 30).wrapping_add(i as u32);
        }
        Self { state, index: Self::WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.index == Self::WORDS {
            self.twist();
        }
        let mut word = self.state[self.index];
        self.index += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    fn twist(&mut self) {
        for i in 0..Self::WORDS {
            let high = self.state[i] & 0x8000_0000;
            let mixed = high | self.state[(i + 1) % Self::WORDS] & 0x7fff_ffff;
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::SHIFT) % Self::WORDS] ^ mixed >> 1 ^ odd;
        }
        self.index = 0;
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn is_the_mersenne_twister() {
        // The reference implementation's first words and its 1000th for its default seed, 5489.
        let mut words = Mt19937::new(5489);
        assert_eq!(words.next(), 3_499_211_612);
        assert_eq!(words.next(), 581_869_302);
        assert_eq!((2..10_000).map(|_| words.next()).last(), Some(4_123_659_995));
    }

    /// Recorded by `tests/parity/noise.py`.
    #[derive(Deserialize)]
    struct Recorded {
        seed: u64,
        length: usize,
        first: Vec<f32>,
        last: Vec<f32>,
        sum: f64,
        sum_of_squares: f64,
    }

    #[test]
    fn is_torchs_normal_noise_at_every_length() {
        let recorded = include_str!("../../../tests/fixtures/flux/noise.json");
        let recorded: Vec<Recorded> = serde_json::from_str(recorded).unwrap();
        assert!(recorded.len() >= 60);
        for case in recorded {
            let name = format!("seed {}, length {}", case.seed, case.length);
            let noise = normal(Seed::new(case.seed), case.length);
            assert_eq!(noise.len(), case.length, "{name}");
            let last = &noise[case.length - case.last.len()..];
            for (found, expected) in
                noise.iter().zip(&case.first).chain(last.iter().zip(&case.last))
            {
                assert!((found - expected).abs() < 1e-6, "{name}: {found} {expected}");
            }
            let sum: f64 = noise.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = noise.iter().map(|&x| f64::from(x).powi(2)).sum();
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * case.length as f64;
            assert!(close(sum, case.sum) && close(squares, case.sum_of_squares), "{name}");
        }
    }
}
