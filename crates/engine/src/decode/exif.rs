//! The one word of a file's metadata that is read: which way up its image is.

use image::metadata::Orientation;

/// What stands before EXIF in a JPEG, and where it does not belong in other formats too.
const PREFIX: &[u8] = b"Exif\0\0";

/// The orientation that a block of EXIF says; what cannot be read says none.
pub(super) fn orientation(block: &[u8]) -> Orientation {
    let tiff = block.strip_prefix(PREFIX).unwrap_or(block);
    Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
}

/// Whether this is EXIF among a JPEG's other blocks of the same kind.
pub(super) fn is_exif(block: &[u8]) -> bool {
    block.starts_with(PREFIX)
}
