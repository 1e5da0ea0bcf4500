//! What a request is checked against: the model that a node serves, and its bounds.

use crate::{Count, InvalidParameter, Size};

/// What a node offers, that a request is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCapabilities {
    /// The one model it serves.
    pub model: String,
    /// The size of an image whose request names none.
    pub native_size: Size,
    /// Whether it takes a guidance scale.
    pub guidance: GuidanceUse,
    /// The most input images that it draws from; 0 where it draws from text alone.
    pub max_input_images: usize,
    /// Its bounds.
    pub limits: Limits,
}

/// What a model does with a guidance scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuidanceUse {
    /// It was trained with one (FLUX.1-dev).
    Reads,
    /// It has no place for one (FLUX.1-schnell).
    Ignores,
}

/// The longer side by the shorter one: beyond it the models draw nothing of sense.
const MAX_ASPECT: u32 = 3;

/// How much one request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of one image.
    pub max_pixels: u64,
    /// Pixels of all images of one request.
    pub max_total_pixels: u64,
    /// Characters of a prompt.
    pub max_prompt_chars: usize,
}

impl Limits {
    pub(crate) fn check(&self, size: Size, count: Count) -> Result<(), InvalidParameter> {
        let (width, height) = (size.width_px(), size.height_px());
        if width.max(height) > MAX_ASPECT * width.min(height) {
            return Err(InvalidParameter::Aspect { max: MAX_ASPECT });
        }
        if size.pixels() > self.max_pixels {
            return Err(InvalidParameter::TooManyPixels { max_pixels: self.max_pixels });
        }
        if size.pixels() * count.get() as u64 > self.max_total_pixels {
            return Err(InvalidParameter::TooManyPixelsInAll { max_pixels: self.max_total_pixels });
        }
        Ok(())
    }

    /// The size that these bounds allow, of about this shape, and no larger.
    #[must_use]
    pub fn nearest_size(&self, [width_px, height_px]: [u32; 2]) -> Size {
        let scale = (self.max_pixels as f64 / (f64::from(width_px) * f64::from(height_px))).sqrt();
        let side = |px: u32| {
            let scaled = (f64::from(px) * scale.min(1.0)) as u32;
            let whole = scaled / Size::MULTIPLE_PX * Size::MULTIPLE_PX;
            whole.clamp(Size::MULTIPLE_PX, Size::MAX_SIDE_PX)
        };
        let (width, height) = (side(width_px), side(height_px));
        // A side that was raised to the shortest there is may leave too much for the other one.
        let most = |other: u32| {
            let fits = self.max_pixels / u64::from(other);
            let fits = u32::try_from(fits).unwrap_or(u32::MAX) / Size::MULTIPLE_PX;
            (fits * Size::MULTIPLE_PX).max(Size::MULTIPLE_PX).min(MAX_ASPECT * other)
        };
        let (width, height) = match width > height {
            true => (width.min(most(height)), height),
            false => (width, height.min(most(width))),
        };
        Size::new(width, height).expect("multiples of 16 in range")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_size_is_within_the_bounds() {
        let limits = Limits {
            max_pixels: 512 * 512,
            max_total_pixels: 4 * 512 * 512,
            max_prompt_chars: 1000,
        };
        for (read, size) in [
            ([64, 64], "64x64"),
            ([512, 512], "512x512"),
            ([1024, 1024], "512x512"),
            ([768, 512], "624x416"),
            // No more than three times as long.
            ([512, 64], "192x64"),
            ([128, 1024], "128x384"),
            ([64, 8192], "32x96"),
        ] {
            assert_eq!(limits.nearest_size(read).to_string(), size, "{read:?}");
            assert_eq!(limits.check(limits.nearest_size(read), Count::ONE), Ok(()));
        }
        for max_pixels in [256, 300, 1000, 5000] {
            let limits = Limits { max_pixels, ..limits };
            for read in [[16, 16], [8192, 16], [16, 128], [1000, 900]] {
                assert_eq!(limits.check(limits.nearest_size(read), Count::ONE), Ok(()), "{read:?}");
            }
        }
    }
}
