//! The picture inside an answer.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{ImageData, PictureText, SecretBytes};
use thiserror::Error;

/// The picture's file, out of its `data:` URL or its `b64_json`.
///
/// # Errors
/// Where there is neither.
pub fn picture_file(data: &ImageData) -> Result<SecretBytes, InvalidPicture> {
    if let Some(base64) = &data.b64_json {
        return decode_picture(base64);
    }
    let url = data.url.as_text().ok_or(InvalidPicture)?;
    let base64 = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    decode(base64.ok_or(InvalidPicture)?.1)
}

/// The picture's file, out of an event's `b64_json`.
///
/// # Errors
/// Where it is no base64.
pub fn decode_picture(base64: &PictureText) -> Result<SecretBytes, InvalidPicture> {
    decode(base64.as_text().ok_or(InvalidPicture)?)
}

fn decode(base64: &str) -> Result<SecretBytes, InvalidPicture> {
    BASE64_STANDARD.decode(base64).map(SecretBytes::from).map_err(|_| InvalidPicture)
}

/// An entry of an answer that holds no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the answer holds no picture")]
pub struct InvalidPicture;
