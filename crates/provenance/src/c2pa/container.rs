//! Where a manifest lies in a file (C2PA 2.1 Annex A): in PNG a chunk before the pixels, in JPEG a
//! segment behind JFIF's, in WebP the last chunk.

use std::ops::Range;

use crate::error::ProvenanceError;

/// The longest file that is looked into.
pub const MAX_FILE_BYTES: usize = 256 * 1024 * 1024;

const PNG: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
const PNG_CHUNK: &[u8; 4] = b"caBX";
const JPEG: &[u8; 2] = b"\xff\xd8";
const APP0: u8 = 0xe0;
const APP11: u8 = 0xeb;
const START_OF_SCAN: u8 = 0xda;
/// JPEG XT's common identifier for JUMBF, then box instance 1 and packet 1 (ISO/IEC 18477-3 Annex B).
const JPEG_HEAD: [u8; 8] = [b'J', b'P', 0, 1, 0, 0, 0, 1];
const WEBP_CHUNK: &[u8; 4] = b"C2PA";
/// No manifest of ours is nearly as long, and a segment of a JPEG holds no longer one.
const MAX_READ_BYTES: usize = 60 * 1024;
/// `RIFF`, a length, `WEBP`.
const RIFF_HEADER_BYTES: usize = 12;

/// A file's format, by how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Png,
    Jpeg,
    WebP,
}

/// A manifest in a file.
pub(super) struct Found<'a> {
    /// The store.
    pub(super) manifest: &'a [u8],
    /// With everything that the format puts around it: what is not hashed.
    pub(super) range: Range<usize>,
}

impl Container {
    pub(super) fn of(file: &[u8]) -> Result<Self, ProvenanceError> {
        if file.len() > MAX_FILE_BYTES {
            return Err(ProvenanceError::TooLong { what: "the file", max_bytes: MAX_FILE_BYTES });
        }
        if file.starts_with(PNG) {
            Ok(Self::Png)
        } else if file.starts_with(JPEG) {
            Ok(Self::Jpeg)
        } else if file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP") {
            Ok(Self::WebP)
        } else {
            Err(ProvenanceError::NotAnImage)
        }
    }

    /// Where a manifest is put into a file that has none.
    pub(super) fn place(self, file: &[u8]) -> Result<usize, ProvenanceError> {
        let mut parts = self.parts(file);
        match self {
            // Behind the header, which must come first.
            Self::Png => Ok(parts.next().ok_or(ProvenanceError::NotAnImage)??.range.end),
            Self::Jpeg => match parts.next().ok_or(ProvenanceError::NotAnImage)?? {
                Part { kind: [0xff, APP0, ..], range, .. } => Ok(range.end),
                first => Ok(first.range.start),
            },
            Self::WebP => Ok(file.len()),
        }
    }

    /// What of a manifest's range is around a manifest of so many bytes.
    pub(super) fn wrapped_bytes(self, manifest_bytes: usize) -> usize {
        match self {
            Self::Png => manifest_bytes + 12,
            Self::Jpeg => manifest_bytes + 4 + JPEG_HEAD.len(),
            Self::WebP => (manifest_bytes + 8).next_multiple_of(2),
        }
    }

    /// A manifest as the format holds it.
    pub(super) fn wrap(self, manifest: &[u8]) -> Vec<u8> {
        let bytes = |of: usize| u32::try_from(of).expect("a manifest is kilobytes long");
        match self {
            Self::Png => {
                let checked = [PNG_CHUNK, manifest].concat();
                let length = bytes(manifest.len()).to_be_bytes();
                [&length[..], &checked, &crc32(&checked).to_be_bytes()].concat()
            }
            Self::Jpeg => {
                let length = u16::try_from(2 + JPEG_HEAD.len() + manifest.len());
                let length = length.expect("a manifest is kilobytes long").to_be_bytes();
                [&[0xff, APP11], &length[..], &JPEG_HEAD, manifest].concat()
            }
            Self::WebP => {
                let length = bytes(manifest.len()).to_le_bytes();
                let mut chunk = [WEBP_CHUNK, &length[..], manifest].concat();
                chunk.resize(self.wrapped_bytes(manifest.len()), 0);
                chunk
            }
        }
    }

    /// The bytes of a file that come before a manifest of so many bytes, once that is there.
    pub(super) fn head(self, file: &[u8], place: usize, wrapped_bytes: usize) -> Vec<u8> {
        let mut head = file[..place].to_vec();
        if self == Self::WebP {
            let riff = u32::try_from(file.len() - 8 + wrapped_bytes).unwrap_or(u32::MAX);
            head[4..8].copy_from_slice(&riff.to_le_bytes());
        }
        head
    }

    /// The manifest of a file.
    pub(super) fn find(self, file: &[u8]) -> Result<Found<'_>, ProvenanceError> {
        let mut found = None;
        for part in self.parts(file) {
            let part = part?;
            let is_manifest = match self {
                Self::Png => part.kind == *PNG_CHUNK,
                Self::Jpeg => {
                    part.kind[..2] == [0xff, APP11] && part.content.starts_with(&JPEG_HEAD[..2])
                }
                Self::WebP => part.kind == *WEBP_CHUNK,
            };
            if is_manifest && found.replace(part).is_some() {
                return Err(ProvenanceError::Foreign { what: "it lies in several pieces" });
            }
        }
        let Part { content, range, .. } = found.ok_or(ProvenanceError::NoManifest)?;
        let manifest = match self {
            Self::Jpeg => content.strip_prefix(&JPEG_HEAD),
            Self::Png | Self::WebP => Some(content),
        };
        let manifest = manifest.filter(|manifest| manifest.len() < MAX_READ_BYTES);
        // What is around it is in no hash.
        match manifest.filter(|manifest| file.get(range.clone()) == Some(&*self.wrap(manifest))) {
            Some(manifest) => Ok(Found { manifest, range }),
            None => Err(ProvenanceError::Malformed { what: "the manifest" }),
        }
    }

    fn parts(self, file: &[u8]) -> Parts<'_> {
        let at = match self {
            Self::Png => PNG.len(),
            Self::Jpeg => JPEG.len(),
            Self::WebP => RIFF_HEADER_BYTES,
        };
        Parts { container: self, file, at }
    }
}

/// A chunk of a PNG or a WebP, or a segment of a JPEG.
struct Part<'a> {
    /// Of a JPEG, its marker and two zeros.
    kind: [u8; 4],
    content: &'a [u8],
    range: Range<usize>,
}

/// What a file is made of; of a JPEG, up to its first scan.
struct Parts<'a> {
    container: Container,
    file: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, ProvenanceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.file.len() {
            return None;
        }
        let part = match self.container {
            Container::Png => self.png(),
            Container::Jpeg => self.jpeg()?,
            Container::WebP => self.webp(),
        };
        // What cannot be read ends it.
        self.at = part.as_ref().map_or(self.file.len(), |part| part.range.end);
        Some(part.ok_or(ProvenanceError::NotAnImage))
    }
}

impl<'a> Parts<'a> {
    fn png(&self) -> Option<Part<'a>> {
        let length = u32::from_be_bytes(self.bytes(self.at)?);
        self.chunk(length, 4, 12 + length as usize)
    }

    fn webp(&self) -> Option<Part<'a>> {
        let length = u32::from_le_bytes(self.bytes(self.at + 4)?);
        self.chunk(length, 0, 8 + (length as usize).next_multiple_of(2))
    }

    /// A chunk whose type stands so many bytes behind its start, and which takes so many in all.
    fn chunk(&self, length: u32, kind_at: usize, bytes: usize) -> Option<Part<'a>> {
        let range = self.at..self.at.checked_add(bytes)?;
        self.file.get(range.clone())?;
        let content = self.file.get(self.at + 8..self.at + 8 + length as usize)?;
        Some(Part { kind: self.bytes(self.at + kind_at)?, content, range })
    }

    /// `None` at the first scan, behind which there are no segments of ours.
    fn jpeg(&self) -> Option<Option<Part<'a>>> {
        let marker: Option<[u8; 2]> = self.bytes(self.at);
        if marker == Some([0xff, START_OF_SCAN]) {
            return None;
        }
        let read = || {
            let [0xff, of] = marker? else { return None };
            let length = usize::from(u16::from_be_bytes(self.bytes(self.at + 2)?));
            let range = self.at..self.at + 2 + length;
            let content = self.file.get(self.at + 4..range.end)?;
            Some(Part { kind: [0xff, of, 0, 0], content, range })
        };
        Some(read())
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.file.get(at..)?.first_chunk().copied()
    }
}

/// PNG's (ISO/IEC 15948 Annex D), bit by bit: a manifest has kilobytes.
fn crc32(bytes: &[u8]) -> u32 {
    let folded = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_pngs() {
        // Of the end chunk, as it stands in every PNG.
        assert_eq!(crc32(b"IEND"), 0xae42_6082);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for file in [&b""[..], b"GIF89a", b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"RIFF"] {
            assert!(Container::of(file).is_err(), "{file:?}");
        }
        for file in [&PNG[..], JPEG, b"RIFF\0\0\0\0WEBP"] {
            let container = Container::of(file).unwrap();
            assert!(container.find(file).is_err());
            for tail in [&[0xff; 4][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
                let file = [file, tail].concat();
                assert_eq!(container.find(&file).err(), Some(ProvenanceError::NotAnImage));
            }
        }
    }
}
