//! The numbers of a request: count, steps, seed, guidance.

use crate::{InvalidParameter, OutOfRange, Quality, range::in_range};

/// How many images one request makes: 1 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(u8);

impl Count {
    /// One image.
    pub const ONE: Self = Self(1);
    /// The most.
    pub const MAX: u8 = 10;

    /// # Errors
    /// Outside 1 to [`Count::MAX`].
    pub fn new(count: i64) -> Result<Self, OutOfRange> {
        in_range(count, 1, i64::from(Self::MAX)).map(|n| Self(n as u8))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// Sampler steps of one image: 1 to 50.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps(u8);

impl Steps {
    /// `quality: low`.
    pub const LOW: Self = Self(2);
    /// `quality: standard`: what FLUX.1-schnell is distilled for.
    pub const STANDARD: Self = Self(4);
    /// `quality: hd`.
    pub const HD: Self = Self(8);
    /// The most.
    pub const MAX: u8 = 50;

    /// # Errors
    /// Outside 1 to [`Steps::MAX`].
    pub fn new(steps: i64) -> Result<Self, OutOfRange> {
        in_range(steps, 1, i64::from(Self::MAX)).map(|n| Self(n as u8))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl From<Quality> for Steps {
    fn from(quality: Quality) -> Self {
        match quality {
            Quality::Low => Self::LOW,
            Quality::Medium => Self::STANDARD,
            Quality::High => Self::HD,
        }
    }
}

/// How closely an image follows its prompt: 0 to 30.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance(f32);

impl Guidance {
    /// The most.
    pub const MAX: i64 = 30;

    /// # Errors
    /// Outside 0 to [`Guidance::MAX`].
    pub fn new(scale: f64) -> Result<Self, InvalidParameter> {
        match (0.0..=Self::MAX as f64).contains(&scale) {
            true => Ok(Self(scale as f32)),
            false => Err(InvalidParameter::Guidance { max: Self::MAX }),
        }
    }

    /// The scale.
    #[must_use]
    pub fn get(self) -> f32 {
        self.0
    }
}

/// What an image's noise is drawn from. The same model, prompt, size, steps and seed make the same
/// image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Every 64-bit number is a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The seed of image `index` of a request: `seed + index`, wrapping.
    #[must_use]
    pub fn offset(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index as u64))
    }
}
