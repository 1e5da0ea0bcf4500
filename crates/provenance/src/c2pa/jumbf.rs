//! JUMBF boxes (ISO/IEC 19566-5), as far as manifests need them.
//!
//! ```text
//! box       length (u32, big-endian, all of it) ‖ type (4) ‖ content
//! superbox  box "jumb": description box, then boxes
//! jumd      type (16) ‖ toggles 0x03 (requestable, with a label) ‖ label ‖ 0x00
//! ```

use crate::error::ProvenanceError;

const WHAT: &str = "the manifest";
const HEADER_BYTES: usize = 8;
const SUPERBOX: &[u8; 4] = b"jumb";
const DESCRIPTION: &[u8; 4] = b"jumd";
const CBOR: &[u8; 4] = b"cbor";
/// The type of a superbox is four letters, and these bytes (ISO/IEC 19566-5 Annex B).
const TYPE_SUFFIX: [u8; 12] = [0, 0x11, 0, 0x10, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];
const TOGGLES: u8 = 3;
/// More boxes than any manifest of ours has in one place.
const MAX_BOXES: usize = 16;

/// What a superbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Store,
    Manifest,
    AssertionStore,
    Claim,
    Signature,
    /// An assertion in CBOR.
    Cbor,
}

impl Kind {
    fn letters(self) -> &'static [u8; 4] {
        match self {
            Self::Store => b"c2pa",
            Self::Manifest => b"c2ma",
            Self::AssertionStore => b"c2as",
            Self::Claim => b"c2cl",
            Self::Signature => b"c2cs",
            Self::Cbor => CBOR,
        }
    }
}

/// A superbox around boxes that are made already.
pub(super) fn superbox(kind: Kind, label: &str, content: &[u8]) -> Vec<u8> {
    let description =
        [kind.letters(), &TYPE_SUFFIX[..], &[TOGGLES], label.as_bytes(), &[0]].concat();
    boxed(SUPERBOX, &[boxed(DESCRIPTION, &description).as_slice(), content].concat())
}

/// A superbox around CBOR.
pub(super) fn cbor_superbox(kind: Kind, label: &str, cbor: &[u8]) -> Vec<u8> {
    superbox(kind, label, &boxed(CBOR, cbor))
}

/// The bytes of a superbox that are hashed: all but its own header (C2PA 2.1 §8.4.2.3).
pub(super) fn hashed(superbox: &[u8]) -> &[u8] {
    &superbox[HEADER_BYTES..]
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(HEADER_BYTES + content.len()).expect("a manifest is kilobytes long");
    [&bytes.to_be_bytes()[..], kind, content].concat()
}

/// A superbox that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Superbox<'a> {
    /// What is hashed of it.
    pub(super) hashed: &'a [u8],
    letters: [u8; 4],
    pub(super) label: &'a str,
    content: &'a [u8],
}

impl<'a> Superbox<'a> {
    /// All superboxes of a byte string that holds nothing else.
    pub(super) fn all(mut bytes: &'a [u8]) -> Result<Vec<Self>, ProvenanceError> {
        let mut boxes = Vec::new();
        while !bytes.is_empty() {
            let (kind, hashed, rest) = next(bytes)?;
            if kind != SUPERBOX || boxes.len() == MAX_BOXES {
                return Err(malformed());
            }
            boxes.push(Self::of(hashed)?);
            bytes = rest;
        }
        Ok(boxes)
    }

    fn of(hashed: &'a [u8]) -> Result<Self, ProvenanceError> {
        let (kind, description, content) = next(hashed)?;
        let (letters, rest) = description.split_first_chunk().ok_or(malformed())?;
        let (suffix, rest) = rest.split_first_chunk::<12>().ok_or(malformed())?;
        let [TOGGLES, label @ .., 0] = rest else { return Err(malformed()) };
        if kind != DESCRIPTION || *suffix != TYPE_SUFFIX || label.contains(&0) {
            return Err(malformed());
        }
        let label = std::str::from_utf8(label).map_err(|_| malformed())?;
        Ok(Self { hashed, letters: *letters, label, content })
    }

    pub(super) fn is(&self, kind: Kind, label: &str) -> bool {
        self.letters == *kind.letters() && self.label == label
    }

    /// Its boxes, where they are superboxes.
    pub(super) fn children(&self) -> Result<Vec<Self>, ProvenanceError> {
        Self::all(self.content)
    }

    /// Its content, where that is one box of CBOR.
    pub(super) fn cbor(&self) -> Result<&'a [u8], ProvenanceError> {
        match next(self.content)? {
            (CBOR, content, []) => Ok(content),
            _ => Err(malformed()),
        }
    }
}

/// A box's type and content, and what follows it.
type Next<'a> = (&'a [u8; 4], &'a [u8], &'a [u8]);

/// The first box.
fn next(bytes: &[u8]) -> Result<Next<'_>, ProvenanceError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(malformed())?;
    let (kind, rest) = rest.split_first_chunk().ok_or(malformed())?;
    // 0 would be a box without end, 1 one with a longer length: nobody needs either here.
    let content = (u32::from_be_bytes(*length) as usize).checked_sub(HEADER_BYTES);
    let (content, rest) =
        content.and_then(|bytes| rest.split_at_checked(bytes)).ok_or(malformed())?;
    Ok((kind, content, rest))
}

fn malformed() -> ProvenanceError {
    ProvenanceError::Malformed { what: WHAT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_read_as_they_were_written() {
        let inner = cbor_superbox(Kind::Cbor, "a", &[0xf6]);
        let bytes = superbox(Kind::Store, "c2pa", &[inner.clone(), inner.clone()].concat());
        let [store] = Superbox::all(&bytes).unwrap()[..] else { panic!("one") };
        assert!(store.is(Kind::Store, "c2pa") && !store.is(Kind::Store, "c2p"));
        let [first, _] = store.children().unwrap()[..] else { panic!("two") };
        assert_eq!((first.cbor().unwrap(), first.hashed), (&[0xf6][..], hashed(&inner)));
        assert!(store.cbor().is_err() && first.children().is_err());
        for end in 0..bytes.len() {
            assert!(end == 0 || Superbox::all(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn lengths_stay_inside() {
        for length in [0_u32, 1, 7, u32::MAX] {
            let mut bytes = superbox(Kind::Store, "c2pa", &[]);
            bytes[..4].copy_from_slice(&length.to_be_bytes());
            assert!(Superbox::all(&bytes).is_err(), "{length}");
        }
        let many = superbox(Kind::Store, "a", &[]).repeat(MAX_BOXES + 1);
        assert!(Superbox::all(&many).is_err());
    }
}
