//! An invisible mark in an image's pixels, which outlives its file: encoding as JPEG, a resize, a crop.
//!
//! Spread spectrum in the luma, tiled, found by correlation:
//!
//! - I. Cox, J. Kilian, F. Leighton, T. Shamoon, "Secure spread spectrum watermarking for multimedia", IEEE
//!   Transactions on Image Processing 6 (12), 1997: a weak pattern spread over many frequencies.
//! - T. Kalker, G. Depovere, J. Haitsma, M. Maes, "A video watermarking system for broadcast monitoring", SPIE
//!   3657, 1999 (JAWS): the pattern is tiled, so that a shift of the image is a cyclic one; the payload is the shifts
//!   of patterns against each other; the detector's correlation keeps phases and levels magnitudes.
//! - M. Maes, T. Kalker, J. Haitsma, G. Depovere, "Exploiting shift invariance to obtain a high payload in digital
//!   image watermarking", IEEE ICMCS, 1999: the payload likewise.
//!
//! ```text
//! tile      128 × 128 px, period of everything below
//! pattern   waves of k/128 cycles a pixel, k = (kx, ky), 6 ≤ |k| ≤ 26, |kx| ≥ 2, ky ≥ 2, amplitude 1/√|k|;
//!           each wave's phase, and which of three patterns it is of, are SHA-256 of its number
//! payload   key id (16 bits) ‖ check (8 bits): 12 bits shift the second pattern against the first, 12 the
//!           third, by so many 64ths of the tile, across and down
//! mark      luma + gain × activity × tile, the same change in red, green and blue
//! detector  luma → local mean off, local contrast levelled → FFT, spectrum levelled
//!           for each scale: the first pattern's waves out of the spectrum → FFT over shifts → highest
//!           where that is high enough: the other patterns' shifts → check
//! ```
//! A tile that is resized is one whose waves lie elsewhere in the spectrum: so one transform of the image serves
//! all scales, and no scale costs more than a transform of 64 × 64.
//!
//! # How often it is seen where it is not
//!
//! A score is Σ aₖ cos(θₖ + φₖ) / √(Σ aₖ² / 2): aₖ, θₖ are what an image has at a wave, φₖ the pattern's phase there.
//! For phases drawn at random, and any image that does not depend on them, E exp(λ aₖ cos(θₖ + φₖ)) = I₀(λ aₖ) ≤
//! exp(λ² aₖ² / 4), so that a score reaches z with a probability of at most exp(−z²/2) (Chernoff), whatever the image
//! shows. `detect` sums this over everything that it tries: [`FALSE_POSITIVE_RATE`].
//!
//! # What it does not prove
//!
//! The pattern is in this file. Who reads it can put the mark, with any key's id, into any image, and who wants to take
//! it out can. It tells a reader of good faith that a model made the image, and where to ask; evidence it is none.

mod detect;
mod embed;
mod fft;
mod lattice;
mod payload;
mod plane;
mod spectrum;

pub use detect::{FALSE_POSITIVE_RATE, FoundMark, find_mark};
pub use embed::{MIN_MARKED_SIDE_PX, mark};
pub use payload::MarkId;

#[cfg(test)]
mod tests;
