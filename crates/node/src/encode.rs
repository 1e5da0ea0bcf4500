//! Pixels to a picture file.

use std::io::Cursor;

use flux::Picture;
use image::{ExtendedColorType, ImageEncoder, codecs::webp::WebPEncoder};
use thiserror::Error;
use zeroize::Zeroizing;

/// Quality of a JPEG, 0 to 100.
const JPEG_QUALITY: u8 = 92;

/// A picture's file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lossless.
    Png,
    /// Lossy, quality 92.
    Jpeg,
    /// Lossless.
    WebP,
}

impl Format {
    /// The format that a file's extension names, if one does.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

/// Encodes a picture. The file is as secret as its pixels, and wiped like them.
///
/// # Errors
/// Where the encoder refuses, for instance a JPEG side past 65,535 pixels.
pub fn encode(picture: &Picture, format: Format) -> Result<Zeroizing<Vec<u8>>, EncodeError> {
    let (width, height) = (picture.size.width_px(), picture.size.height_px());
    // A file of a natural picture is smaller than its pixels; with room for all of them the buffer
    // never moves and so leaves no copy behind.
    let mut file =
        Zeroizing::new(Vec::with_capacity(picture.rgb.len() + picture.rgb.len() / 8 + 4096));
    let color = ExtendedColorType::Rgb8;
    match format {
        Format::Png => image::codecs::png::PngEncoder::new(Cursor::new(&mut *file)).write_image(
            &picture.rgb,
            width,
            height,
            color,
        )?,
        Format::WebP => WebPEncoder::new_lossless(Cursor::new(&mut *file)).write_image(
            &picture.rgb,
            width,
            height,
            color,
        )?,
        Format::Jpeg => {
            let side = |px: u32| u16::try_from(px).map_err(|_| EncodeError::JpegSide { px });
            jpeg_encoder::Encoder::new(&mut *file, JPEG_QUALITY).encode(
                &picture.rgb,
                side(width)?,
                side(height)?,
                jpeg_encoder::ColorType::Rgb,
            )?;
        }
    }
    Ok(file)
}

/// Why a picture has no file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// PNG or WebP.
    #[error("the picture could not be encoded")]
    Image(#[from] image::ImageError),
    /// JPEG.
    #[error("the picture could not be encoded as JPEG")]
    Jpeg(#[from] jpeg_encoder::EncodingError),
    /// JPEG has no such side.
    #[error("a JPEG has sides of at most 65535 pixels, not {px}")]
    JpegSide {
        /// The side asked for.
        px: u32,
    },
}
