//! The invisible mark in an image's file.

use std::io::Cursor;

use ::image::{ImageReader, Limits};
use provenance::{FoundMark, find_mark};

/// The longest side that is decoded.
const MAX_SIDE_PX: u32 = 8192;
/// What decoding may take, in bytes.
const MAX_ALLOC_BYTES: u64 = 512 * 1024 * 1024;

/// The mark, where the file can be decoded and has one.
pub(crate) fn find(file: &[u8]) -> Option<FoundMark> {
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(MAX_ALLOC_BYTES);
    reader.limits(limits);
    let image = reader.decode().ok()?.into_rgb8();
    find_mark(image.width(), image.height(), image.as_raw())
}
