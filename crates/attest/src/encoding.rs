//! Base64 and hexadecimal, strictly: one text for each value.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads lower-case hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

/// Reads exactly `N` bytes of lower-case hexadecimal digits.
pub(crate) fn unhex_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Long text is refused before it is decoded.
    (text.len() == 2 * N).then(|| unhex(text))??.try_into().ok()
}

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Reads base64 with padding, of at most `max_bytes` decoded; a longer text is not decoded at all.
pub(crate) fn unbase64(text: &str, max_bytes: usize) -> Option<Vec<u8>> {
    if text.len() > max_bytes.div_ceil(3).saturating_mul(4) {
        return None;
    }
    BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_way_to_write_a_value() {
        assert_eq!(unhex(&hex(&[0, 0x9f, 0xff])), Some(vec![0, 0x9f, 0xff]));
        assert_eq!(unhex("9F"), None);
        assert_eq!(unhex("9"), None);
        assert_eq!(unhex_array::<2>("9f"), None);
        assert_eq!(unbase64("AAAA", 3), Some(vec![0; 3]));
        assert_eq!(unbase64("AAAA", 2), None);
        assert_eq!(unbase64("AAB=", 3), None, "trailing bits must be zero");
        assert_eq!(unbase64("AAA", 3), None, "padding is not optional");
    }
}
