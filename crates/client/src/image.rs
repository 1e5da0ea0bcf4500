//! The image inside an answer.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{ImageData, ImageText, SecretBytes};
use thiserror::Error;

/// The image's file, out of its `data:` URL or its `b64_json`.
///
/// # Errors
/// Where there is neither.
pub fn image_file(data: &ImageData) -> Result<SecretBytes, InvalidImage> {
    if let Some(base64) = &data.b64_json {
        return decode_image(base64);
    }
    let url = data.url.as_ref().and_then(ImageText::as_text).ok_or(InvalidImage)?;
    let base64 = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    decode(base64.ok_or(InvalidImage)?.1)
}

/// The image's file, out of an event's `b64_json`.
///
/// # Errors
/// Where it is no base64.
pub fn decode_image(base64: &ImageText) -> Result<SecretBytes, InvalidImage> {
    decode(base64.as_text().ok_or(InvalidImage)?)
}

fn decode(base64: &str) -> Result<SecretBytes, InvalidImage> {
    BASE64_STANDARD.decode(base64).map(SecretBytes::from).map_err(|_| InvalidImage)
}

/// An entry of an answer that holds no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the answer holds no image")]
pub struct InvalidImage;
