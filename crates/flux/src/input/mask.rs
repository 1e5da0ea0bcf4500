//! Masks: which part of an input image is drawn anew.

use std::fmt;

use protocol::SecretBytes;
use thiserror::Error;

use super::{InputImage, InputImageError};
use crate::resample;

/// A patch's pixels, each way.
const PATCH_PX: usize = 16;

/// Which pixels of an input image are drawn anew; the others are kept. Wiped when dropped.
///
/// Source: the behaviour of diffusers v0.42.1, `flux2/pipeline_flux2_klein_inpaint.py`: the mask is scaled by Lanczos'
/// filter to the size at which the image is read, and then each pixel is one or the other.
pub struct InputMask {
    /// Of what is read.
    read_px: [usize; 2],
    /// (h, w) of what is read: 1 where it is drawn anew, 0 where it is kept.
    redrawn: SecretBytes,
}

/// Why an alpha channel is no mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InputMaskError {
    /// No input image has this size.
    #[error(transparent)]
    Size(#[from] InputImageError),
    /// There is not one byte for each pixel.
    #[error("a mask of {width_px}×{height_px} pixels has {bytes} bytes, not one a pixel")]
    Length {
        /// Its width.
        width_px: usize,
        /// Its height.
        height_px: usize,
        /// What is there.
        bytes: usize,
    },
    /// All is kept.
    #[error("a mask that is opaque in the middle of every patch of 16×16 pixels")]
    Opaque,
}

/// Prints its size alone, and no pixels.
impl fmt::Debug for InputMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [width, height] = self.read_px;
        write!(f, "InputMask({width}×{height})")
    }
}

impl InputMask {
    /// Of an alpha channel as large as the image, a byte a pixel, row by row: what is transparent (0) is drawn anew,
    /// what is opaque (255) kept.
    ///
    /// # Errors
    /// Where no input image has this size, there are not as many bytes, or nothing would be drawn anew.
    pub fn new(
        width_px: usize,
        height_px: usize,
        mut alpha: SecretBytes,
    ) -> Result<Self, InputMaskError> {
        let read_px = InputImage::size_read([width_px, height_px])?;
        if alpha.len() != width_px * height_px {
            let bytes = alpha.len();
            return Err(InputMaskError::Length { width_px, height_px, bytes });
        }
        // diffusers' masks are white where an image is drawn anew.
        alpha.iter_mut().for_each(|value| *value = 255 - *value);
        let from = resample::Raster::<1> { bytes: &alpha, width: width_px, height: height_px };
        let mut redrawn = resample::lanczos(from, read_px);
        redrawn.iter_mut().for_each(|value| *value = u8::from(*value >= 128));
        let mask = Self { read_px, redrawn };
        let [columns, rows] = read_px.map(|side| side / PATCH_PX);
        match mask.shares([rows, columns]).iter().any(|share| *share > 0.0) {
            true => Ok(mask),
            false => Err(InputMaskError::Opaque),
        }
    }

    /// Width and height of what is read of the image that it is for.
    #[must_use]
    pub fn read_px(&self) -> [usize; 2] {
        self.read_px
    }

    /// How much of each token is drawn anew, (rows·columns,), 0 to 1.
    ///
    /// diffusers interpolates between the pixels around a token's middle: half of each of two, both ways.
    pub(crate) fn shares(&self, [rows, columns]: [usize; 2]) -> Vec<f32> {
        let [width, height] = self.read_px;
        let (across, down) = (width / columns, height / rows);
        let row = |y: usize| &self.redrawn[y * width..][..width];
        let token = |(row_of, column): (usize, usize)| {
            let (x, y) = (column * across + across / 2, row_of * down + down / 2);
            let around = [row(y - 1)[x - 1], row(y - 1)[x], row(y)[x - 1], row(y)[x]];
            f32::from(around.iter().sum::<u8>()) / 4.0
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(
        [width, height]: [usize; 2],
        alpha: impl Fn(usize, usize) -> u8,
    ) -> Result<InputMask, InputMaskError> {
        let alpha: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| alpha(x, y))
            .collect();
        InputMask::new(width, height, alpha.into())
    }

    #[test]
    fn what_is_transparent_is_drawn_anew_by_the_middle_of_each_token() {
        let half = mask([64, 64], |x, _| if x < 24 { 0 } else { 255 }).unwrap();
        // Of the second token, the pixels left of its middle.
        assert_eq!(half.shares([4, 4]), [1.0, 0.5, 0.0, 0.0].repeat(4));
        assert_eq!(half.shares([16, 16])[..7], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let shallow = mask([64, 64], |x, _| if x < 32 { 127 } else { 128 }).unwrap();
        assert_eq!(shallow.shares([4, 4]), [1.0, 1.0, 0.0, 0.0].repeat(4));
        assert_eq!(mask([64, 64], |_, _| 0).unwrap().shares([4, 4]), [1.0; 16]);
    }

    #[test]
    fn it_is_read_at_the_size_of_its_image() {
        let large = mask([2048, 1100], |x, _| if x < 1024 { 0 } else { 255 }).unwrap();
        assert_eq!(large.read_px(), InputImage::size_read([2048, 1100]).unwrap());
        let [width, height] = large.read_px();
        let shares = large.shares([height / 16, width / 16]);
        assert_eq!((shares[0], shares[width / 16 - 1]), (1.0, 0.0));
    }

    #[test]
    fn what_draws_nothing_anew_and_other_numbers_of_bytes_are_refused() {
        assert_eq!(mask([64, 64], |_, _| 255).err(), Some(InputMaskError::Opaque));
        // A line between the middles of tokens.
        assert_eq!(
            mask([64, 64], |x, _| u8::from(x != 15) * 255).err(),
            Some(InputMaskError::Opaque)
        );
        let short = InputMask::new(64, 64, vec![0; 64].into()).err();
        assert_eq!(short, Some(InputMaskError::Length { width_px: 64, height_px: 64, bytes: 64 }));
        assert!(matches!(mask([16, 16], |_, _| 0), Err(InputMaskError::Size(_))));
    }
}
