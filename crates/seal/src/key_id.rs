//! The id of a node's key.

use std::fmt;

use crate::hash::blake2b_256;

/// A short name for a node's X25519 public key: the first 8 bytes of its BLAKE2b-256, which print
/// as 16 hexadecimal digits. It tells keys apart for people and logs; it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The name of the key with this public half.
    pub fn of(exchange_public: &[u8; 32]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = blake2b_256(exchange_public);
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}
