//! An image's file among the texts of a message.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{SecretBytes, SecretString};

/// Bytes that are made base64 at a time: a multiple of three, small enough for the nearest cache.
const BLOCK_BYTES: usize = 6 * 1024;

/// What stands for an image in a message: a text where it was read; where it is written, the image's
/// file may be there in its place. Base64 is then made of it while it is written, block by block: for
/// megabytes, a text of them beside the message would cost more than the base64.
pub struct ImageText(Content);

enum Content {
    Text(SecretString),
    File { prefix: String, file: Arc<SecretBytes> },
}

impl ImageText {
    /// A file in base64, behind a prefix that is no secret.
    #[must_use]
    pub fn file(prefix: impl Into<String>, file: Arc<SecretBytes>) -> Self {
        Self(Content::File { prefix: prefix.into(), file })
    }

    /// The text that was read, or that it was made of; of a file there is none yet.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Content::Text(text) => Some(text),
            Content::File { .. } => None,
        }
    }

    /// The file itself, where it is there; otherwise the text.
    ///
    /// # Errors
    /// The text.
    pub(crate) fn into_file(self) -> Result<SecretBytes, SecretString> {
        match self.0 {
            Content::Text(text) => Err(text),
            Content::File { file, .. } => {
                Ok(Arc::try_unwrap(file).unwrap_or_else(|shared| shared.to_vec().into()))
            }
        }
    }

    /// How long it is in a message, where nothing of it needs escapes.
    pub(crate) fn written_bytes(&self) -> usize {
        match &self.0 {
            Content::Text(text) => text.len(),
            Content::File { prefix, file } => prefix.len() + file.len().div_ceil(3) * 4,
        }
    }
}

impl From<String> for ImageText {
    fn from(text: String) -> Self {
        Self(Content::Text(text.into()))
    }
}

impl Serialize for ImageText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Content::Text(text) => text.serialize(serializer),
            Content::File { prefix, file } => serializer.collect_str(&Base64 { prefix, file }),
        }
    }
}

impl<'de> Deserialize<'de> for ImageText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretString::deserialize(deserializer).map(|text| Self(Content::Text(text)))
    }
}

/// Prefix and file as a text.
struct Base64<'a> {
    prefix: &'a str,
    file: &'a [u8],
}

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix)?;
        let mut text = Zeroizing::new([0; BLOCK_BYTES / 3 * 4]);
        for block in self.file.chunks(BLOCK_BYTES) {
            let text = base64_simd::AsOut::as_out(text.as_mut_slice());
            f.write_str(base64_simd::STANDARD.encode_as_str(block, text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_as_its_text_would_be() {
        for length in [0, 1, 2, 3, 100, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 2] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let text =
                format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(&bytes));
            let file = ImageText::file("data:image/png;base64,", Arc::new(bytes.into()));
            assert!(file.as_text().is_none());
            assert_eq!(file.written_bytes(), text.len());
            let json = serde_json::to_string(&file).unwrap();
            assert_eq!(json, serde_json::to_string(&text).unwrap());
            let read: ImageText = serde_json::from_str(&json).unwrap();
            assert_eq!(read.as_text(), Some(text.as_str()));
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
    }
}
