//! Input images of an edit: parsed, scaled, and as the autoencoder reads them.

mod mask;

use std::fmt;

use candle_core::{Device, Tensor};
use protocol::SecretBytes;
use thiserror::Error;

pub use self::mask::{InputMask, InputMaskError};
use crate::{Result, resample, wiped::Wiped};

/// The most input images of one job.
pub(crate) const MAX_INPUT_IMAGES: usize = 4;

/// The most pixels that are read of each: larger ones are scaled down to as many.
pub(crate) const MAX_INPUT_PIXELS: usize = 1024 * 1024;

/// A token's pixels, each way: sides are cut to multiples of it.
const MULTIPLE_PX: usize = 16;

/// An image that an image is made from: 8 bits of red, green and blue, row by row. Wiped when dropped.
///
/// Bounds: diffusers v0.42.1, `flux2/image_processor.py`, `check_image_input`.
pub struct InputImage {
    width_px: usize,
    height_px: usize,
    rgb: SecretBytes,
    mask: Option<InputMask>,
}

/// Why pixels are no input image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputImageError {
    /// A side is shorter or longer than what is read.
    #[error(
        "an input image of {width_px}×{height_px} pixels: sides from {} to {} are read",
        InputImage::MIN_SIDE_PX,
        InputImage::MAX_SIDE_PX
    )]
    Side {
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
    },
    /// One side is far longer than the other.
    #[error(
        "an input image of {width_px}×{height_px} pixels: one side may be {} times the other at most",
        InputImage::MAX_ASPECT
    )]
    Aspect {
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
    },
    /// There are not three bytes for each pixel.
    #[error("an input image of {width_px}×{height_px} pixels has {bytes} bytes, not three a pixel")]
    Length {
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
        /// What is there.
        bytes: usize,
    },
    /// A mask of another size.
    #[error(
        "a mask for {}×{} pixels, and of the image {}×{} are read",
        mask_px[0], mask_px[1], image_px[0], image_px[1]
    )]
    Mask {
        /// Width and height that the mask is read at.
        mask_px: [usize; 2],
        /// Width and height that the image is read at.
        image_px: [usize; 2],
    },
}

/// Prints its size alone, and no pixels.
impl fmt::Debug for InputImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InputImage({}×{})", self.width_px, self.height_px)
    }
}

impl InputImage {
    /// The shortest side, in pixels.
    pub const MIN_SIDE_PX: usize = 64;
    /// The longest side, in pixels. (diffusers has no bound.)
    pub const MAX_SIDE_PX: usize = 1 << 14;
    /// How many times as long as the other one side may be.
    pub const MAX_ASPECT: usize = 8;
    /// The most pixels of a file that one is decoded from: those of today's largest phone cameras.
    pub const MAX_FILE_PIXELS: u64 = 50_000_000;
    /// The most bytes that each of those takes meanwhile.
    pub const FILE_PIXEL_BYTES: u64 = 16;
    /// How many are decoded at once. Memory is planned for these numbers, and whoever decodes keeps to them.
    pub const DECODED_AT_ONCE: usize = 2;

    /// Of so many bytes of red, green and blue, row by row.
    ///
    /// # Errors
    /// Where a side, the aspect or the number of bytes is out of bounds.
    pub fn new(
        width_px: usize,
        height_px: usize,
        rgb: SecretBytes,
    ) -> Result<Self, InputImageError> {
        Self::size_read([width_px, height_px])?;
        if rgb.len() != 3 * width_px * height_px {
            return Err(InputImageError::Length { width_px, height_px, bytes: rgb.len() });
        }
        Ok(Self { width_px, height_px, rgb, mask: None })
    }

    /// The same with a mask: where that is opaque, it is kept. All of it is read then, stretched to whole tokens rather
    /// than cut, so that what is kept is all there.
    ///
    /// # Errors
    /// [`InputImageError::Mask`] where the mask is for an image of another size.
    pub fn masked(self, mask: InputMask) -> Result<Self, InputImageError> {
        let (mask_px, image_px) = (mask.read_px(), self.read_px());
        match mask_px == image_px {
            true => Ok(Self { mask: Some(mask), ..self }),
            false => Err(InputImageError::Mask { mask_px, image_px }),
        }
    }

    /// Its mask, where it has one.
    #[must_use]
    pub fn mask(&self) -> Option<&InputMask> {
        self.mask.as_ref()
    }

    /// Width and height of what is read of an image of this width and height: scaled down where it is too large,
    /// then cut to whole tokens.
    ///
    /// # Errors
    /// Where a side or the aspect is out of bounds.
    pub fn size_read([width_px, height_px]: [usize; 2]) -> Result<[usize; 2], InputImageError> {
        let side = Self::MIN_SIDE_PX..=Self::MAX_SIDE_PX;
        if !side.contains(&width_px) || !side.contains(&height_px) {
            return Err(InputImageError::Side { width_px, height_px });
        }
        if width_px.max(height_px) > Self::MAX_ASPECT * width_px.min(height_px) {
            return Err(InputImageError::Aspect { width_px, height_px });
        }
        Ok(cut(scaled([width_px, height_px])))
    }

    /// Width and height of what is read of it.
    #[must_use]
    pub fn read_px(&self) -> [usize; 2] {
        cut(self.scaled_px())
    }

    /// Its red, green and blue, row by row.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Patches of 16×16 pixels that are read of it.
    #[must_use]
    pub fn patches(&self) -> u64 {
        let [width, height] = self.read_px();
        (width / MULTIPLE_PX * (height / MULTIPLE_PX)) as u64
    }

    /// The same image, of no more pixels than are read: what waits for its turn waits in less memory.
    #[must_use]
    pub fn scaled_down(self) -> Self {
        let [width_px, height_px] = self.scaled_px();
        match self.scaled() {
            Some(rgb) => Self { width_px, height_px, rgb, mask: self.mask },
            None => self,
        }
    }

    fn scaled_px(&self) -> [usize; 2] {
        scaled([self.width_px, self.height_px])
    }

    /// Where it is too large.
    fn scaled(&self) -> Option<SecretBytes> {
        let to = self.scaled_px();
        let (width, height) = (self.width_px, self.height_px);
        let from = resample::Raster::<3> { bytes: &self.rgb, width, height };
        (to != [self.width_px, self.height_px]).then(|| resample::lanczos(from, to))
    }

    /// Its middle, or with a mask all of it, in −1 to 1: (h, w, 3), f32, on the host.
    pub(crate) fn pixels(&self) -> Result<Wiped> {
        let [width, height] = self.scaled_px();
        let scaled = self.scaled();
        let bytes = scaled.as_ref().unwrap_or(&self.rgb);
        let from = resample::Raster::<3> { bytes, width, height };
        let [columns, rows] = self.read_px();
        // As diffusers' two pipelines do: without a mask an image is cut, with one it is scaled.
        let stretched = self.mask.is_some().then(|| resample::lanczos(from, [columns, rows]));
        let from = match &stretched {
            Some(bytes) => resample::Raster { bytes, width: columns, height: rows },
            None => from,
        };
        let (width, height) = (from.width, from.height);
        let (left, top) = ((width - columns) / 2, (height - rows) / 2);
        let mut values = Vec::with_capacity(3 * columns * rows);
        for row in from.bytes.chunks_exact(3 * width).skip(top).take(rows) {
            let row = &row[3 * left..][..3 * columns];
            // As diffusers rounds: 255ths first.
            values.extend(row.iter().map(|&byte| 2.0 * (f32::from(byte) / 255.0) - 1.0));
        }
        Ok(Wiped(Tensor::from_vec(values, (rows, columns, 3), &Device::Cpu)?))
    }
}

/// Width and height of an image of this shape, of at most [`MAX_INPUT_PIXELS`] pixels.
fn scaled(sides: [usize; 2]) -> [usize; 2] {
    let pixels = sides[0] * sides[1];
    if pixels <= MAX_INPUT_PIXELS {
        return sides;
    }
    let scale = (MAX_INPUT_PIXELS as f64 / pixels as f64).sqrt();
    sides.map(|side| (side as f64 * scale) as usize)
}

fn cut(sides: [usize; 2]) -> [usize; 2] {
    sides.map(|side| side / MULTIPLE_PX * MULTIPLE_PX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize) -> Result<InputImage, InputImageError> {
        InputImage::new(width, height, vec![0; 3 * width * height].into())
    }

    #[test]
    fn sides_aspect_and_length_are_bounded() {
        assert!(image(64, 512).is_ok());
        assert!(matches!(image(63, 512), Err(InputImageError::Side { .. })));
        assert!(matches!(image(64, 513), Err(InputImageError::Aspect { .. })));
        assert!(matches!(image(0, 0), Err(InputImageError::Side { .. })));
        let short = InputImage::new(64, 64, vec![0; 3 * 64 * 64 - 1].into());
        assert!(matches!(short, Err(InputImageError::Length { bytes: 12_287, .. })));
        let huge = InputImage::new(usize::MAX, usize::MAX, vec![0; 3].into());
        assert!(matches!(huge, Err(InputImageError::Side { .. })));
    }

    #[test]
    fn large_images_are_scaled_to_as_many_pixels_and_cut_to_tokens() {
        for (sides, read) in [
            ([100, 75], [96, 64]),
            ([1024, 1024], [1024, 1024]),
            // √(1024² / 1500²) · 1500 is 1024, but for the last bit.
            ([3000, 1000], [1760, 576]),
        ] {
            let image = image(sides[0], sides[1]).unwrap();
            assert_eq!(image.read_px(), read, "{sides:?}");
            assert_eq!(InputImage::size_read(sides), Ok(read));
            assert_eq!(image.patches(), (read[0] / 16 * (read[1] / 16)) as u64);
        }
    }

    #[test]
    fn what_is_scaled_down_early_is_read_alike() {
        let (width, height) = (1_300, 1_100);
        let rgb: Vec<u8> = (0..3 * width * height).map(|i| (i * i / 7_001) as u8).collect();
        let image = || InputImage::new(width, height, rgb.clone().into()).unwrap();
        let values = |image: &InputImage| {
            image.pixels().unwrap().0.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let early = image().scaled_down();
        assert!(early.rgb.len() <= 3 * MAX_INPUT_PIXELS);
        assert_eq!(early.read_px(), image().read_px());
        assert_eq!(values(&early), values(&image()));
        assert_eq!(early.scaled_px(), early.scaled_down().scaled_px());
    }
}
