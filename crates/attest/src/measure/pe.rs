//! The Authenticode digest of an EFI image: what firmware measures when it starts one.
//!
//! All of the file but its checksum, the entry of the certificate table and the certificates themselves:
//! headers, sections by their place in the file, what follows them (Windows Authenticode Portable
//! Executable Signature Format 1.0; edk2, DxeTpm2MeasureBootLib).

use sha2::{Digest, Sha384};

use super::{
    MeasureError,
    bytes::{array, place_at, slice, u16_at},
};
use crate::event_log::Rtmr;

const X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
const MAX_SECTIONS: usize = 96;
/// Where, in the optional header, and how long.
const HEADERS_BYTES: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORIES: usize = 108;
const CERTIFICATES: usize = 112 + 4 * 8;

/// SHA-384.
pub(super) fn authenticode(file: &[u8]) -> Result<Rtmr, MeasureError> {
    digest(file).map_err(|problem| MeasureError::Kernel { problem })
}

fn digest(file: &[u8]) -> Result<Rtmr, &'static str> {
    const SHORT: &str = "its headers lie outside the file";
    if array(file, 0) != Some(*b"MZ") {
        return Err("it does not begin with MZ");
    }
    let pe = place_at(file, 0x3c).ok_or(SHORT)?;
    if slice(file, pe, 4).ok_or(SHORT)? != b"PE\0\0" {
        return Err("it has no PE header");
    }
    if u16_at(file, pe + 4) != Some(X86_64) {
        return Err("it is for another processor");
    }
    let count = usize::from(u16_at(file, pe + 6).ok_or(SHORT)?);
    let optional_bytes = usize::from(u16_at(file, pe + 20).ok_or(SHORT)?);
    let optional = pe + 24;
    let table = optional + optional_bytes;
    if u16_at(file, optional) != Some(PE32_PLUS) {
        return Err("it is not PE32+");
    }
    let directories = place_at(file, optional + DIRECTORIES).ok_or(SHORT)?;
    if directories <= 4 || optional_bytes < CERTIFICATES + 8 {
        return Err("it has no entry for certificates");
    }
    let headers = place_at(file, optional + HEADERS_BYTES).ok_or(SHORT)?;
    if count == 0 || count > MAX_SECTIONS || headers > file.len() || table + 40 * count > headers {
        return Err("its headers do not hold its sections");
    }
    let certificates =
        certificates(file, optional + CERTIFICATES).ok_or("its certificates do not end it")?;

    let mut hash = Sha384::new();
    hash.update(slice(file, 0, optional + CHECKSUM).ok_or(SHORT)?);
    hash.update(&file[optional + CHECKSUM + 4..optional + CERTIFICATES]);
    hash.update(&file[optional + CERTIFICATES + 8..headers]);
    let mut sections = Vec::new();
    for index in 0..count {
        let section = table + 40 * index;
        let bytes = place_at(file, section + 16).ok_or(SHORT)?;
        if bytes > 0 {
            sections.push((place_at(file, section + 20).ok_or(SHORT)?, bytes));
        }
    }
    sections.sort_unstable();
    let mut done = headers;
    for (at, bytes) in sections {
        // One after another, without a gap: else what lies between would be in no digest.
        if at != done {
            return Err("its sections do not follow one another");
        }
        hash.update(slice(file, at, bytes).ok_or("a section lies outside the file")?);
        done += bytes;
    }
    let rest = (file.len() - certificates)
        .checked_sub(done)
        .ok_or("a section lies in its certificates")?;
    hash.update(&file[done..done + rest]);
    Ok(hash.finalize().into())
}

/// How many bytes of certificates end the file.
fn certificates(file: &[u8], entry: usize) -> Option<usize> {
    let (at, bytes) = (place_at(file, entry)?, place_at(file, entry + 4)?);
    let none = (at, bytes) == (0, 0);
    (none || bytes > 0 && at.checked_add(bytes)? == file.len()).then_some(bytes)
}
