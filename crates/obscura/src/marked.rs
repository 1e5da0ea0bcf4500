//! The invisible mark in an image's file.

use provenance::{FoundMark, find_mark};

use crate::decode::decode;

/// The mark, where the file can be decoded and has one.
pub(crate) fn find(file: &[u8]) -> Option<FoundMark> {
    let image = decode(file)?.into_rgb8();
    find_mark(image.width(), image.height(), image.as_raw())
}
