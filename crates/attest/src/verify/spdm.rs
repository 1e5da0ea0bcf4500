//! A GPU's signed measurements: an SPDM 1.1 `GET_MEASUREMENTS` request and its response (DMTF
//! DSP0274), as NVIDIA's driver hands them out, one after the other.
//!
//! ```text
//! request  (37 bytes)  11 E0 attributes FF · nonce (32) · slot
//! response             11 60 · · · blocks · record length (3, little-endian) · record
//!                      · nonce (32) · opaque length (2) · opaque · signature (96)
//! opaque               (type (2) · length (2) · value)*
//! ```
//! Zeros may follow: some drivers hand out the rest of their buffer.
//!
//! The signature is ECDSA P-384 with SHA-384 over request and response, without itself.

use super::common::before_padding;

const REQUEST_BYTES: usize = 37;
const SIGNATURE_BYTES: usize = 96;
const GET_MEASUREMENTS: [u8; 2] = [0x11, 0xE0];
const MEASUREMENTS: [u8; 2] = [0x11, 0x60];

const DRIVER_VERSION: u16 = 3;
const VBIOS_VERSION: u16 = 6;
const FIRMWARE_ID: u16 = 20;

/// A message that has the right form. Nothing in it is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measurements<'a> {
    pub(super) nonce: [u8; 32],
    /// How many measurements there are.
    pub(super) blocks: u8,
    pub(super) driver_version: &'a [u8],
    pub(super) vbios_version: &'a [u8],
    /// SHA-384 of the firmware that the signing key was derived from.
    pub(super) firmware_id: Option<[u8; 48]>,
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a [u8],
}

impl<'a> Measurements<'a> {
    /// Reads a message; every length in it is checked against what is there.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (request, response) = message.split_at_checked(REQUEST_BYTES)?;
        let nonce = request.get(4..36)?.try_into().ok()?;
        if !request.starts_with(&GET_MEASUREMENTS) || !response.starts_with(&MEASUREMENTS) {
            return None;
        }
        let (head, rest) = response.split_at_checked(8)?;
        let [.., blocks, low, mid, high] = *head else { return None };
        let record_bytes = u32::from_le_bytes([low, mid, high, 0]);
        let (record, rest) = rest.split_at_checked(usize::try_from(record_bytes).ok()?)?;
        if count_blocks(record)? != blocks {
            return None;
        }
        let (_, rest) = rest.split_at_checked(32)?;
        let (opaque, rest) = length_prefixed(rest)?;
        let signature = before_padding(rest, SIGNATURE_BYTES)?;
        Some(Self {
            nonce,
            blocks,
            driver_version: field(opaque, DRIVER_VERSION)?.unwrap_or_default(),
            vbios_version: field(opaque, VBIOS_VERSION)?.unwrap_or_default(),
            firmware_id: match field(opaque, FIRMWARE_ID)? {
                Some(id) => Some(id.try_into().ok()?),
                None => None,
            },
            signed: &message[..message.len() - rest.len()],
            signature,
        })
    }
}

/// Blocks of index (1), specification (1), length (2), measurement.
fn count_blocks(mut record: &[u8]) -> Option<u8> {
    let mut blocks = 0_u8;
    while !record.is_empty() {
        let (_, rest) = length_prefixed(record.get(2..)?)?;
        record = rest;
        blocks = blocks.checked_add(1)?;
    }
    Some(blocks)
}

/// The field of this type, if there is one; `None` where the fields are not well formed.
#[expect(clippy::option_option, reason = "malformed, absent, present")]
fn field(mut opaque: &[u8], wanted: u16) -> Option<Option<&[u8]>> {
    let mut found = None;
    while !opaque.is_empty() {
        let (kind, rest) = opaque.split_first_chunk()?;
        let (value, rest) = length_prefixed(rest)?;
        if u16::from_le_bytes(*kind) == wanted && found.replace(value).is_some() {
            return None;
        }
        opaque = rest;
    }
    Some(found)
}

/// Bytes after their length (2, little-endian), and what follows them.
fn length_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}
