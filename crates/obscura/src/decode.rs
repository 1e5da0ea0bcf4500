//! An image's file, of whoever's making: its size is bounded before its pixels are made.

use std::io::Cursor;

use image::{DynamicImage, ImageReader, Limits};

/// The longest side that is decoded.
const MAX_SIDE_PX: u32 = 8192;
/// What decoding may take, in bytes.
const MAX_ALLOC_BYTES: u64 = 512 * 1024 * 1024;

/// Its image; `None` where it is none, or too large.
pub(crate) fn decode(file: &[u8]) -> Option<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(MAX_ALLOC_BYTES);
    reader.limits(limits);
    reader.decode().ok()
}
