//! The plaintext of a request, wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// Decrypted bytes: wiped when dropped, and printed as their length alone.
pub struct Plaintext(Zeroizing<Vec<u8>>);

impl Plaintext {
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes, to be parsed where they lie.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are, padding included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the sealed body was empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plaintext({} bytes)", self.len())
    }
}
