//! Secrets as types: wiped when dropped, without `Debug`, so that no log shows them, and without
//! `Clone`, so that a copy is seen where it is made.
//!
//! zeroize's own wrapper writes byte after byte, which for megabytes of image takes more than half as
//! long as BLAKE2b of them. These fill with zeros as fast as memory takes them, and stand behind
//! zeroize's barrier, so that no optimiser finds the zeros unread and leaves them out.

use std::{
    mem,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that says something about a prompt or an image. A buffer that it grows out of is freed as it
/// is: make room first.
#[derive(PartialEq, Eq)]
pub struct SecretString(String);

/// Pixels, or an image's file. A buffer that it grows out of is freed as it is: make room first.
#[derive(PartialEq, Eq)]
pub struct SecretBytes(Vec<u8>);

impl SecretString {
    /// Empty, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }
}

impl SecretBytes {
    /// Empty, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }
}

impl Drop for SecretString {
    fn drop(&mut self) {
        wipe(&mut mem::take(&mut self.0).into_bytes());
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites all of a buffer, what lies behind its end too.
fn wipe(bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(bytes.capacity(), 0);
    zeroize::optimization_barrier(bytes.as_slice());
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for SecretString {
    type Target = String;

    fn deref(&self) -> &String {
        &self.0
    }
}

impl DerefMut for SecretString {
    fn deref_mut(&mut self) -> &mut String {
        &mut self.0
    }
}

impl Deref for SecretBytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Serialize for SecretString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_wiped_behind_its_end_too() {
        let mut bytes = b"a red house on a green field".to_vec();
        bytes.truncate(3);
        let capacity = bytes.capacity();
        wipe(&mut bytes);
        assert_eq!((bytes.len(), bytes.capacity()), (capacity, capacity));
        assert!(bytes.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_text_travels_as_a_string() {
        let text: SecretString = serde_json::from_str(r#""a \"red\" house""#).unwrap();
        assert_eq!(&**text, r#"a "red" house"#);
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""a \"red\" house""#);
    }
}
