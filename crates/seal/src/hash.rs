//! The protocol's hash: BLAKE2b with a digest of 32 bytes.

use blake2::{Blake2b, Digest, digest::consts::U32};

/// H(x) = BLAKE2b(x) with a digest of 32 bytes, unkeyed (RFC 7693).
///
/// The digest length is a parameter of BLAKE2b that enters its first block: this is not the first
/// half of a 64-byte digest.
pub fn blake2b_256(bytes: &[u8]) -> [u8; 32] {
    blake2b_256_of(&[bytes])
}

/// H of the parts one after another. The caller sees to it that the parts have fixed lengths, or
/// two different lists of parts could hash alike.
pub(crate) fn blake2b_256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2b::<U32>::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}
