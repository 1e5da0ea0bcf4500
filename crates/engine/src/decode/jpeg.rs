//! A JPEG's markers (ITU-T T.81, annex B): what its frame says, how many scans there are, and that it ends.

use image::metadata::Orientation;
use protocol::InvalidInputImage;

use super::{Format, Header, exif};

/// Start of image, and the beginning of the next marker.
pub(super) const SIGNATURE: [u8; 3] = [0xff, 0xd8, 0xff];

/// The most scans: encoders write about ten. Each is a pass over all pixels, for which a file of a few bytes is
/// enough.
const MAX_SCANS: usize = 32;
/// Of all scans together.
const MAX_SCANNED_PIXELS: u64 = 640_000_000;

pub(super) fn scan(file: &[u8]) -> Result<Header, InvalidInputImage> {
    let mut at = 2;
    let mut size: Option<[u32; 2]> = None;
    let mut scans = 0;
    let mut orientation = None;
    loop {
        let marker = marker(file, &mut at).ok_or(InvalidInputImage::Truncated)?;
        match marker {
            // They have no length; another start of an image, within one, is no marker of ours.
            0x01 | 0xd0..=0xd8 => continue,
            0xd9 => break,
            _ => {}
        }
        let segment = segment(file, &mut at).ok_or(InvalidInputImage::Truncated)?;
        match marker {
            0xc0..=0xc2 if size.is_none() => size = Some(frame(segment)?),
            0xc0..=0xc2 => return Err(InvalidInputImage::Damaged),
            // Lossless, hierarchical, arithmetic.
            0xc3 | 0xc5..=0xc7 | 0xc8..=0xcf => return Err(InvalidInputImage::RareJpeg),
            0xe1 if orientation.is_none() && exif::is_exif(segment) => {
                orientation = Some(exif::orientation(segment));
            }
            0xda => {
                scans += 1;
                skip_scan(file, &mut at).ok_or(InvalidInputImage::Truncated)?;
            }
            _ => {}
        }
    }
    let Some([width_px, height_px]) = size.filter(|_| scans > 0) else {
        return Err(InvalidInputImage::Damaged);
    };
    let pixels = u64::from(width_px) * u64::from(height_px);
    let most = (MAX_SCANNED_PIXELS / pixels.max(1)).clamp(1, MAX_SCANS as u64) as usize;
    if scans > most {
        return Err(InvalidInputImage::Scans { found: scans, most });
    }
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    Ok(Header { format: Format::Jpeg, width_px, height_px, orientation })
}

/// The next marker. Bytes before it that belong to nothing are passed over, as decoders do.
fn marker(file: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let rest = file.get(*at..)?;
        *at += rest.iter().position(|byte| *byte == 0xff)? + 1;
        match *file.get(*at)? {
            0xff => {}
            0x00 => *at += 1,
            marker => {
                *at += 1;
                return Some(marker);
            }
        }
    }
}

/// What a marker with a length has after it.
fn segment<'a>(file: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = file.get(*at..)?.first_chunk()?;
    let end = *at + usize::from(u16::from_be_bytes(*length)).max(2);
    let segment = file.get(*at + 2..end)?;
    *at = end;
    Some(segment)
}

/// To the marker after a scan's data. (Restarts are within.)
fn skip_scan(file: &[u8], at: &mut usize) -> Option<()> {
    loop {
        let rest = file.get(*at..)?;
        *at += rest.iter().position(|byte| *byte == 0xff)?;
        match *file.get(*at + 1)? {
            0x00 | 0xd0..=0xd7 => *at += 2,
            0xff => *at += 1,
            _ => return Some(()),
        }
    }
}

/// Width and height.
fn frame(segment: &[u8]) -> Result<[u32; 2], InvalidInputImage> {
    let [precision, h1, h0, w1, w0, components, ..] = *segment else {
        return Err(InvalidInputImage::Damaged);
    };
    match (precision, components) {
        (8, 1 | 3) => Ok([[w1, w0], [h1, h0]].map(|side| u16::from_be_bytes(side).into())),
        (8, 4) => Err(InvalidInputImage::Cmyk),
        (8, _) => Err(InvalidInputImage::Damaged),
        _ => Err(InvalidInputImage::RareJpeg),
    }
}
