//! SentencePiece's `precompiled_charsmap`, checked before the tokenizer's library reads it.
//!
//! Format (sentencepiece v0.2.0, `src/normalizer.cc`, `Normalizer::DecodePrecompiledCharsMap`; darts-clone's
//! `DoubleArrayUnit`): length of a trie in bytes (u32, little-endian), the trie's units (u32 each), then
//! replacements, each ended by a zero byte. `spm_precompiled` 0.1.4 believes the length before it has the
//! bytes, and indexes trie and replacements without looking, so every way through the trie is followed here
//! first: none may lead out of it.

use thiserror::Error;

/// The longest replacement of one character: U+FDFA becomes 33 bytes in NFKC.
const MAX_REPLACEMENT_BYTES: usize = 64;

/// What is wrong with a character map.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum CharsmapFault {
    #[error("it ends within its header")]
    NoHeader,
    #[error("it claims a trie of {trie_bytes} bytes, {left_bytes} are there")]
    TrieLength { trie_bytes: usize, left_bytes: usize },
    #[error("its replacements are no UTF-8")]
    NotUtf8,
    #[error("a replacement has more than {MAX_REPLACEMENT_BYTES} bytes")]
    LongReplacement,
    #[error("unit {unit} of its trie leads out of it")]
    Stray { unit: usize },
}

/// Checks a character map, base64 taken off. Returns the length of its longest replacement, in bytes.
///
/// # Errors
/// Where reading it, or normalising a text with it, could go wrong.
pub(super) fn check(map: &[u8]) -> Result<usize, CharsmapFault> {
    let (header, rest) = map.split_first_chunk().ok_or(CharsmapFault::NoHeader)?;
    let trie_bytes = u32::from_le_bytes(*header) as usize;
    let is_trie = trie_bytes >= 4 && trie_bytes.is_multiple_of(4);
    let length = CharsmapFault::TrieLength { trie_bytes, left_bytes: rest.len() };
    let (trie, replacements) =
        rest.split_at_checked(trie_bytes).filter(|_| is_trie).ok_or(length)?;
    let replacements = str::from_utf8(replacements).map_err(|_| CharsmapFault::NotUtf8)?;
    let longest = replacements.split('\0').map(str::len).max().unwrap_or(0);
    if longest > MAX_REPLACEMENT_BYTES {
        return Err(CharsmapFault::LongReplacement);
    }
    let units: Vec<Unit> =
        trie.as_chunks().0.iter().map(|&b| Unit(u32::from_le_bytes(b))).collect();
    for (index, unit) in units.iter().enumerate() {
        let is_walked = index == 0 || !unit.is_value();
        if is_walked && !leads_inside(index, *unit, &units, replacements) {
            return Err(CharsmapFault::Stray { unit: index });
        }
    }
    Ok(longest)
}

/// Whether every next byte finds a unit, and the value, where there is one, a replacement.
fn leads_inside(index: usize, unit: Unit, units: &[Unit], replacements: &str) -> bool {
    let children = index ^ unit.offset();
    // The child of byte c is at children ^ c, so all of them lie in one block of 256.
    let has_children = children | 0xff < units.len();
    let has_value =
        !unit.has_leaf() || units.get(children).is_some_and(|leaf| leaf.is_value_in(replacements));
    has_children && has_value
}

/// darts-clone's unit.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    /// A leaf's unit, which no byte leads to.
    fn is_value(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Whether a key ends here: its value is the child of byte 0.
    fn has_leaf(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    /// To the children, by exclusive or.
    fn offset(self) -> usize {
        ((self.0 as usize) >> 10) << ((self.0 & 1 << 9) >> 6)
    }

    /// Whether this, read as a value, is where a replacement begins.
    fn is_value_in(self, replacements: &str) -> bool {
        let at = (self.0 & !(1 << 31)) as usize;
        at < replacements.len() && replacements.is_char_boundary(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie of one block, in which «a» becomes `replacement`.
    fn map(value: u32, replacement: &[u8]) -> Vec<u8> {
        let mut units = [1 << 31; 256];
        // The root's children are at 0 ^ c; the child of «a» has a leaf at 97 ^ 96 = 1.
        units[0] = 0;
        units[usize::from(b'a')] = 96 << 10 | 1 << 8 | u32::from(b'a');
        units[1] = 1 << 31 | value;
        with_units(&units, replacement)
    }

    fn with_units(units: &[u32], replacements: &[u8]) -> Vec<u8> {
        let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(replacements);
        bytes
    }

    #[test]
    fn accepts_a_map_that_the_library_normalises_with() {
        let bytes = map(0, "ä\0".as_bytes());
        assert_eq!(check(&bytes), Ok(2));
    }

    #[test]
    fn names_what_is_wrong() {
        let huge = [u32::MAX.to_le_bytes().as_slice(), &[0; 64]].concat();
        let stray = |unit: u32| {
            let mut units = [1 << 31; 256];
            units[0] = unit;
            with_units(&units, b"")
        };
        let bad = [
            (b"abc".to_vec(), CharsmapFault::NoHeader),
            (vec![0; 4], CharsmapFault::TrieLength { trie_bytes: 0, left_bytes: 0 }),
            (huge, CharsmapFault::TrieLength { trie_bytes: u32::MAX as usize, left_bytes: 64 }),
            (map(0, b"\xff\0"), CharsmapFault::NotUtf8),
            (map(0, &[b'x'; 65]), CharsmapFault::LongReplacement),
            (map(9, b"x\0"), CharsmapFault::Stray { unit: 97 }),
            (map(1, "ä\0".as_bytes()), CharsmapFault::Stray { unit: 97 }),
            (stray(1 << 20), CharsmapFault::Stray { unit: 0 }),
            (stray(1 << 9 | 1 << 10), CharsmapFault::Stray { unit: 0 }),
            (with_units(&[0], b""), CharsmapFault::Stray { unit: 0 }),
        ];
        for (bytes, fault) in bad {
            assert_eq!(check(&bytes), Err(fault));
        }
    }
}
