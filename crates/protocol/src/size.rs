//! Width and height of an image.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// An image's size in pixels. Both sides are multiples of 16 (the autoencoder halves three times,
/// the transformer packs 2×2 latents), at least 16, at most [`Size::MAX_SIDE_PX`].
///
/// Reads and prints as `1024x768`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// What both sides must be a multiple of.
    pub const MULTIPLE_PX: u32 = 16;
    /// The longest side that can be named at all; a node's own pixel bound is far below its square.
    pub const MAX_SIDE_PX: u32 = 8192;

    /// # Errors
    /// Where a side is zero, no multiple of 16, or past [`Size::MAX_SIDE_PX`].
    pub fn new(width_px: u32, height_px: u32) -> Result<Self, InvalidSize> {
        let valid = |side: u32| {
            (Self::MULTIPLE_PX..=Self::MAX_SIDE_PX).contains(&side)
                && side.is_multiple_of(Self::MULTIPLE_PX)
        };
        if valid(width_px) && valid(height_px) {
            Ok(Self { width: width_px, height: height_px })
        } else {
            Err(InvalidSize::Side { max_px: Self::MAX_SIDE_PX })
        }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width_px(self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height_px(self) -> u32 {
        self.height
    }

    /// Width × height.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Tokens of this image in the transformer: (width/16) × (height/16) packed latents.
    #[must_use]
    pub fn latent_patches(self) -> u64 {
        self.pixels() / u64::from(Self::MULTIPLE_PX * Self::MULTIPLE_PX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (width, height) = text.split_once('x').ok_or(InvalidSize::Form)?;
        let side = |digits: &str| {
            // `u32::from_str` also takes a plus sign, which no size has.
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidSize::Form);
            }
            digits.parse().map_err(|_| InvalidSize::Side { max_px: Self::MAX_SIDE_PX })
        };
        Self::new(side(width)?, side(height)?)
    }
}

/// Why a text or a pair of numbers is no [`Size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSize {
    /// Not of the form `WIDTHxHEIGHT`.
    #[error("must have the form WIDTHxHEIGHT, for instance 1024x768")]
    Form,
    /// A side is out of range.
    #[error("must have sides that are multiples of 16, from 16 to {max_px} pixels")]
    Side {
        /// The longest side accepted.
        max_px: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        let size: Size = "1024x768".parse().unwrap();
        assert_eq!((size.width_px(), size.height_px()), (1024, 768));
        assert_eq!(size.to_string(), "1024x768");
        assert_eq!(size.latent_patches(), 64 * 48);
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "1024", "x", "1024x", "x1024", "+16x16", "16x16x16", "1e3x16", "16 x16"] {
            assert_eq!(text.parse::<Size>(), Err(InvalidSize::Form), "{text}");
        }
        for text in ["0x0", "100x100", "16x8", "99999x99999", "16x99999999999999999999"] {
            assert!(matches!(text.parse::<Size>(), Err(InvalidSize::Side { .. })), "{text}");
        }
    }
}
