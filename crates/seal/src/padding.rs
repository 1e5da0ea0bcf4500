//! Padding, so that lengths tell little.
//!
//! An image's compressed size speaks of its content, and an error's length of its kind; the
//! ciphertext shows both to whoever carries it. So a JSON body is followed by spaces, which every
//! JSON parser skips (RFC 8259 §2), up to the next of few lengths.
//!
//! The lengths are Padmé's (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
//! Communication with PURBs", PETS 2019, §4): those whose binary form, E + 1 bits long, ends in
//! E - (floor(log2 E) + 1) zeros. A body of L bytes grows by less than 12 %, and by about 3 % at an
//! image's few megabytes, while its length tells O(log log L) bits. Powers of two would tell
//! less, but up to double what is hashed, sealed and sent; equal steps would tell as much of a
//! large image as of a small one.

use zeroize::Zeroizing;

use crate::cipher::TAG_BYTES;

/// Padmé alone would keep apart short bodies of a few dozen bytes: which error, how long a prompt.
/// Up to this length all look alike, and 4 KiB cost nothing next to an image.
const FLOOR_BYTES: usize = 4096;

/// The capacity with which a body of `body_bytes` is padded and sealed where it lies. With less,
/// sealing moves it to a new buffer once and wipes the old one.
pub fn padded_capacity(body_bytes: usize) -> usize {
    padded_len(body_bytes) + TAG_BYTES
}

/// The body and the spaces after it, with room for the tag.
pub(crate) fn pad(mut body: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let capacity = padded_capacity(body.len());
    if body.capacity() < capacity {
        // A Vec that grows by itself would free the old buffer without wiping it.
        let mut roomier = Zeroizing::new(Vec::with_capacity(capacity));
        roomier.extend_from_slice(&body);
        body = roomier;
    }
    let padded = padded_len(body.len());
    body.resize(padded, b' ');
    body
}

/// L' = the least Padmé length that is no less than L and the floor.
fn padded_len(body_bytes: usize) -> usize {
    let length = body_bytes.max(FLOOR_BYTES);
    let exponent = length.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept_bits)) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_lengths() {
        for (length, padded) in [
            (0, 4096),
            (1, 4096),
            (4096, 4096),
            (4097, 4352),
            (65_537, 67_584),
            (3_000_000, 3_014_656),
        ] {
            assert_eq!(padded_len(length), padded, "{length}");
        }
    }

    #[test]
    fn images_of_one_to_four_megabytes_have_few_lengths() {
        let lengths: BTreeSet<_> = (1 << 20..4 << 20).step_by(997).map(padded_len).collect();
        assert!(lengths.len() <= 65, "{}", lengths.len());
    }

    #[test]
    fn a_body_with_room_stays_where_it_is() {
        let mut body = Zeroizing::new(Vec::with_capacity(padded_capacity(5)));
        body.extend_from_slice(b"12345");
        let place = body.as_ptr();
        let padded = pad(body);
        assert_eq!(padded.as_ptr(), place);
        assert_eq!(padded.len(), 4096);
        assert_eq!(&padded[..6], b"12345 ");
        assert!(padded.capacity() >= padded.len() + TAG_BYTES);
    }

    proptest! {
        #[test]
        fn grows_little_and_never_shrinks(length in 0usize..1 << 40) {
            let padded = padded_len(length);
            prop_assert!(padded >= length);
            prop_assert_eq!(padded_len(padded), padded);
            if length >= FLOOR_BYTES {
                prop_assert!((padded - length) as f64 <= 0.12 * length as f64);
            }
        }
    }
}
