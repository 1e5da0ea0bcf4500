//! Base64 as the wire has it: standard alphabet, padded, canonical (RFC 4648 §4, §3.5).

use base64::{Engine, engine::general_purpose::STANDARD};

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// Exactly `N` bytes, or nothing. The text's length is checked before it is decoded.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != encoded_len(N) {
        return None;
    }
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// At most `max_bytes` bytes, or nothing. The text's length is checked before it is decoded, so an
/// oversized field costs no memory.
pub(crate) fn decode_bounded(text: &str, max_bytes: usize) -> Option<Vec<u8>> {
    if text.len() > encoded_len(max_bytes) {
        return None;
    }
    STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= max_bytes)
}

/// Base64 turns every three bytes, the last ones padded, into four characters.
const fn encoded_len(bytes: usize) -> usize {
    bytes.div_ceil(3).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_text_decodes_to_given_bytes() {
        assert_eq!(decode_array::<1>("AA=="), Some([0]));
        for other in ["AB==", "AA", "AA=", "AA= =", "AA==\n", "-_==", "AAA=", ""] {
            assert_eq!(decode_array::<1>(other), None, "{other:?}");
        }
    }

    #[test]
    fn bounds_hold_to_the_byte() {
        let text = encode([7; 10]);
        assert_eq!(decode_bounded(&text, 10), Some(vec![7; 10]));
        // Nine bytes have as many characters as seven and eight, but ten have more.
        assert_eq!(decode_bounded(&text, 9), None);
        assert_eq!(decode_bounded(&encode([7; 9]), 8), None);
        assert_eq!(decode_bounded("", usize::MAX), Some(Vec::new()));
    }
}
