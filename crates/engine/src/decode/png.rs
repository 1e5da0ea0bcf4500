//! A PNG's chunks (ISO/IEC 15948, 5.3): what `IHDR` says, and everything up to `IEND`.

use image::metadata::Orientation;
use protocol::InvalidInputImage;

use super::{Format, Header, exif};

pub(super) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// A chunk's length, name and checksum.
const AROUND_BYTES: usize = 12;

pub(super) fn scan(file: &[u8]) -> Result<Header, InvalidInputImage> {
    let mut rest = &file[SIGNATURE.len()..];
    let mut size: Option<[u32; 2]> = None;
    let mut has_data = false;
    let mut orientation = Orientation::NoTransforms;
    loop {
        let (name, data) = chunk(&mut rest).ok_or(InvalidInputImage::Truncated)?;
        match (name, size) {
            (b"IHDR", None) => size = Some(sides(data).ok_or(InvalidInputImage::Damaged)?),
            // It comes first, and once.
            (_, None) | (b"IHDR", Some(_)) => return Err(InvalidInputImage::Damaged),
            (b"acTL", _) => return Err(InvalidInputImage::Animated),
            (b"eXIf", _) => orientation = exif::orientation(data),
            (b"IDAT", _) => has_data = true,
            (b"IEND", Some([width_px, height_px])) if has_data => {
                return Ok(Header { format: Format::Png, width_px, height_px, orientation });
            }
            (b"IEND", _) => return Err(InvalidInputImage::Damaged),
            _ => {}
        }
    }
}

/// The next chunk's name and data.
fn chunk<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8])> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (name, after) = after.split_first_chunk()?;
    let data = after.get(..length)?;
    *rest = rest.get(length.checked_add(AROUND_BYTES)?..)?;
    Some((name, data))
}

/// Width and height.
fn sides(header: &[u8]) -> Option<[u32; 2]> {
    let (width, rest) = header.split_first_chunk()?;
    let (height, rest) = rest.split_first_chunk()?;
    (rest.len() == 5).then(|| [*width, *height].map(u32::from_be_bytes))
}
