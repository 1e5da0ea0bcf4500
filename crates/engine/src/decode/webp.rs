//! A WebP's chunks (RFC 9649, 2.3 to 2.7): what its canvas says, and that the image within has the same size.

use image::metadata::Orientation;
use protocol::InvalidInputImage;

use super::{Format, Header, exif};

pub(super) const SIGNATURE: [u8; 4] = *b"RIFF";

/// Of the flags of `VP8X`.
const ANIMATION: u8 = 1 << 1;

pub(super) fn scan(file: &[u8]) -> Result<Header, InvalidInputImage> {
    let (head, rest) = file.split_first_chunk::<12>().ok_or(InvalidInputImage::Truncated)?;
    if head[8..] != *b"WEBP" {
        return Err(InvalidInputImage::UnknownFormat);
    }
    let riff_bytes = le(&head[4..8]);
    // Its length counts from behind itself.
    let length = riff_bytes.checked_sub(4).ok_or(InvalidInputImage::Damaged)?;
    let mut rest = rest.get(..length).ok_or(InvalidInputImage::Truncated)?;
    let mut canvas = None;
    let mut image = None;
    let mut orientation = Orientation::NoTransforms;
    while !rest.is_empty() {
        let (name, data) = chunk(&mut rest).ok_or(InvalidInputImage::Truncated)?;
        let sides = match name {
            b"VP8 " => Some(lossy(data).ok_or(InvalidInputImage::Damaged)?),
            b"VP8L" => Some(lossless(data).ok_or(InvalidInputImage::Damaged)?),
            b"VP8X" if canvas.is_none() && image.is_none() => {
                let (flags, sides) = extended(data).ok_or(InvalidInputImage::Damaged)?;
                if flags & ANIMATION != 0 {
                    return Err(InvalidInputImage::Animated);
                }
                canvas = Some(sides);
                None
            }
            b"VP8X" => return Err(InvalidInputImage::Damaged),
            b"ANIM" | b"ANMF" => return Err(InvalidInputImage::Animated),
            b"EXIF" => {
                orientation = exif::orientation(data);
                None
            }
            _ => None,
        };
        if let Some(sides) = sides {
            // A decoder makes room for what this says, whatever the canvas says.
            if canvas.or(image).is_some_and(|known| known != sides) {
                return Err(InvalidInputImage::Damaged);
            }
            image = Some(sides);
        }
    }
    let [width_px, height_px] = image.ok_or(InvalidInputImage::Damaged)?;
    Ok(Header { format: Format::WebP, width_px, height_px, orientation })
}

/// The next chunk's name and data. They have even lengths, but the last one's padding may be missing.
fn chunk<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8])> {
    let (name, after) = rest.split_first_chunk()?;
    let (length, after) = after.split_at_checked(4)?;
    let length = le(length);
    let data = after.get(..length)?;
    *rest = after.get(length + length % 2..).unwrap_or_default();
    Some((name, data))
}

/// Width and height of a `VP8 ` chunk's frame (RFC 6386, 9.1).
fn lossy(data: &[u8]) -> Option<[u32; 2]> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = *data else { return None };
    let is_key_frame = tag & 1 == 0;
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    is_key_frame.then(|| [side([w0, w1]), side([h0, h1])])
}

/// Width and height of a `VP8L` chunk's image (RFC 9649, 3.4).
fn lossless(data: &[u8]) -> Option<[u32; 2]> {
    let [0x2f, bits @ ..] = data else { return None };
    let bits = u32::from_le_bytes(*bits.first_chunk()?);
    let side = |bits: u32| (bits & 0x3fff) + 1;
    Some([side(bits), side(bits >> 14)])
}

/// Flags of a `VP8X` chunk, and width and height of its canvas.
fn extended(data: &[u8]) -> Option<(u8, [u32; 2])> {
    let [flags, _, _, _, sides @ ..] = data else { return None };
    let sides: &[u8; 6] = sides.first_chunk()?;
    let side = |bytes: &[u8]| le(bytes) as u32 + 1;
    Some((*flags, [side(&sides[..3]), side(&sides[3..])]))
}

/// Up to four bytes, the lowest first.
fn le(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
