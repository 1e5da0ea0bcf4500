//! Writes JSON into one buffer of the right size, so that no copy is left behind.

use std::io::{self, Write};

use serde::Serialize;
use zeroize::Zeroizing;

/// What there is around the texts that make up most of a message.
const AROUND_BYTES: usize = 4096;

/// Serialises into a buffer that is wiped, and that never grows and so never leaves a copy behind. Its
/// capacity is `capacity` of a length that the message does not exceed.
///
/// `bulk_bytes` is the length of the message's long texts: room for them and a little more is tried
/// first. Only where that is not enough does a pass count the bytes, which for megabytes of base64 takes
/// as long as writing them.
pub(crate) fn to_wiped_json<T: Serialize>(
    value: &T,
    bulk_bytes: usize,
    capacity: impl Fn(usize) -> usize,
) -> Zeroizing<Vec<u8>> {
    const INFALLIBLE: &str = "strings and numbers always serialise, and memory takes every write";
    let write = |length: usize| {
        let room = capacity(length).max(length);
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(Bounded { bytes: &mut body, limit: length }, value).map(|()| body)
    };
    write(bulk_bytes + AROUND_BYTES).unwrap_or_else(|_| {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, value).expect(INFALLIBLE);
        write(length.0).expect(INFALLIBLE)
    })
}

/// The same, followed by spaces up to `filled_bytes`: JSON's readers skip them (RFC 8259 §2), and a
/// ciphertext's length tells nothing but `filled_bytes`.
pub(crate) fn to_filled_json<T: Serialize>(
    value: &T,
    bulk_bytes: usize,
    filled_bytes: usize,
    capacity: impl Fn(usize) -> usize,
) -> Zeroizing<Vec<u8>> {
    let mut body = to_wiped_json(value, bulk_bytes, |length| capacity(length.max(filled_bytes)));
    if body.len() < filled_bytes {
        // Within the capacity, so that it does not move.
        body.resize(filled_bytes, b' ');
    }
    body
}

/// JSON in which every half of a surrogate pair that stands alone (`\ud83d`) is U+FFFD; `None` where there is none.
/// JavaScript and Python write such halves where a text was cut within a character, and no reader of Rust's
/// takes them (RFC 8259 §8.2).
pub(crate) fn mended_surrogates(json: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut mended: Option<Zeroizing<Vec<u8>>> = None;
    let mut at = 0;
    while let Some(escape) = json.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\\')) {
        at += escape;
        match (surrogate(json, at), surrogate(json, at + 6)) {
            (Some(Half::High), Some(Half::Low)) => at += 12,
            (Some(_), _) => {
                let mended = mended.get_or_insert_with(|| Zeroizing::new(json.to_vec()));
                mended[at..at + 6].copy_from_slice(br"\ufffd");
                at += 6;
            }
            // Another escape, which may be of a backslash.
            (None, _) => at += 2,
        }
    }
    mended
}

/// Of a surrogate pair.
#[derive(Clone, Copy)]
enum Half {
    High,
    Low,
}

/// Which half is escaped at this place.
fn surrogate(json: &[u8], at: usize) -> Option<Half> {
    let digits = json.get(at..at.checked_add(6)?)?.strip_prefix(br"\u")?;
    let unit = u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    match unit {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

/// Takes so many bytes and no more.
struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit - self.bytes.len() < bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_fill_a_body_where_it_lies() {
        let json = to_filled_json(&"secret", 0, 10_000, |length| length + 16);
        assert_eq!((json.len(), json.capacity()), (10_000, 10_016));
        assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), "secret");
        assert_eq!(to_filled_json(&"secret", 0, 3, |length| length).len(), 8);
    }

    #[test]
    fn a_buffer_has_the_capacity_it_was_made_with() {
        for text in ["x".repeat(100_000), "\u{1}".repeat(100_000), String::new()] {
            let json = to_wiped_json(&text, text.len(), |length| length + 16);
            assert_eq!(**json, serde_json::to_vec(&text).unwrap());
            let counted = json.len() + 16;
            assert!([counted, text.len() + AROUND_BYTES + 16].contains(&json.capacity()));
        }
    }
}
