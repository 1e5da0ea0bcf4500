//! Pixels to an image file.

use std::io::Cursor;

use flux::Image;
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{
        png::{CompressionType, FilterType, PngEncoder},
        webp::WebPEncoder,
    },
};
use protocol::{Format, SecretBytes, Size};
use thiserror::Error;

/// Encodes an image. The file is as secret as its pixels, and wiped like them.
///
/// # Errors
/// Where the encoder refuses, for instance a JPEG side past 65,535 pixels.
pub fn encode(image: &Image, format: Format) -> Result<SecretBytes, EncodeError> {
    let (width, height) = (image.size.width_px(), image.size.height_px());
    // A file of a natural image is smaller than its pixels; with room for all of them the buffer
    // never moves and so leaves no copy behind.
    let mut file = SecretBytes::with_capacity(image.rgb.len() + image.rgb.len() / 8 + 4096);
    let color = ExtendedColorType::Rgb8;
    match format {
        // One filter for all rows: of photographs, to try all five on each makes files 0 to 2 % smaller,
        // and takes a fifth longer.
        Format::Png => PngEncoder::new_with_quality(
            Cursor::new(&mut *file),
            CompressionType::Fast,
            FilterType::Paeth,
        )
        .write_image(&image.rgb, width, height, color)?,
        Format::WebP => WebPEncoder::new_lossless(Cursor::new(&mut *file))
            .write_image(&image.rgb, width, height, color)?,
        Format::Jpeg { quality } => {
            let side = |px: u32| u16::try_from(px).map_err(|_| EncodeError::JpegSide { px });
            jpeg_encoder::Encoder::new(&mut *file, quality).encode(
                &image.rgb,
                side(width)?,
                side(height)?,
                jpeg_encoder::ColorType::Rgb,
            )?;
        }
    }
    Ok(file)
}

/// The bytes that are set aside for files of images of one size and format, `file_bytes` long in
/// all: as few lengths as can be, so that they tell nothing of the images.
///
/// - PNG: one length. The encoder stores what it cannot compress, so no file is longer than its
///   rows, a byte before each, in blocks of deflate (RFC 1951 §3.2.4).
/// - JPEG: a byte a pixel, which images at the usual quality stay below.
/// - WebP: two bytes a pixel, likewise.
///
/// JPEG and WebP files that take more, as noise does, take twice, four times, … that.
#[must_use]
pub fn padded_bytes(size: Size, format: Format, images: usize, file_bytes: usize) -> usize {
    let pixels = size.pixels() as usize;
    let one = match format {
        Format::Png => png_bytes(size),
        Format::Jpeg { .. } => pixels + AROUND_BYTES,
        Format::WebP => 2 * pixels + AROUND_BYTES,
    };
    let mut padded = one * images.max(1);
    while padded < file_bytes {
        padded *= 2;
    }
    padded
}

/// What a small file has beside its pixels: tables, headers.
const AROUND_BYTES: usize = 2048;

/// The longest PNG of a size.
fn png_bytes(size: Size) -> usize {
    const SIGNATURE_AND_CHUNKS: usize = 8 + 25 + 12 + 12;
    const ZLIB: usize = 6;
    const BLOCK: usize = 5;
    let rows = size.height_px() as usize * (3 * size.width_px() as usize + 1);
    rows + BLOCK * (rows / usize::from(u16::MAX) + 1) + ZLIB + SIGNATURE_AND_CHUNKS
}

/// Why an image has no file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// PNG or WebP.
    #[error("the image could not be encoded")]
    Image(#[from] image::ImageError),
    /// JPEG.
    #[error("the image could not be encoded as JPEG")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// JPEG has no such side.
    #[error("a JPEG has sides of at most 65535 pixels, not {px}")]
    JpegSide {
        /// The side asked for.
        px: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: Size) -> Image {
        let mut state = 1_u32;
        let byte = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let rgb: Vec<u8> = std::iter::repeat_with(byte).take(3 * size.pixels() as usize).collect();
        Image { size, rgb: rgb.into() }
    }

    fn padded(image: &Image, format: Format) -> usize {
        let file = encode(image, format).unwrap();
        let padded = padded_bytes(image.size, format, 1, file.len());
        assert!(padded >= file.len());
        padded
    }

    #[test]
    fn no_png_is_longer_than_its_bound() {
        for (width, height) in [(16, 16), (64, 48), (512, 16), (16, 1024), (400, 304)] {
            let size = Size::new(width, height).unwrap();
            let flat = Image { size, rgb: vec![9; 3 * size.pixels() as usize].into() };
            let bound = padded_bytes(size, Format::Png, 1, 0);
            assert_eq!([padded(&noise(size), Format::Png), padded(&flat, Format::Png)], [bound; 2]);
            // And it is not far above the longest.
            assert!(bound < encode(&noise(size), Format::Png).unwrap().len() + 64);
        }
    }

    #[test]
    fn noise_takes_the_next_length_of_the_other_formats() {
        let size = Size::new(128, 128).unwrap();
        for format in [Format::JPEG, Format::WebP] {
            let flat = Image { size, rgb: vec![9; 3 * size.pixels() as usize].into() };
            let first = padded_bytes(size, format, 1, 0);
            assert_eq!(padded(&flat, format), first);
            assert!([2 * first, 4 * first].contains(&padded(&noise(size), format)));
        }
        assert_eq!(
            padded_bytes(size, Format::JPEG, 3, 0),
            3 * padded_bytes(size, Format::JPEG, 1, 0)
        );
    }
}
