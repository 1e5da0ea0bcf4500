//! The body of an answer of the image API: OpenAI's `CreateImageResponse`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{ImageProvenance, ImageText, ImageUsage, SecretString, json::to_filled_json};

/// What the client gets back. Holds images and a prompt: no `Debug`, no `Clone`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CreateImageResponse {
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// One entry an image.
    pub data: Vec<ImageData>,
    /// Our extension: the seed of the first image; image `i` was made from `seed + i`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// `WIDTHxHEIGHT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// `low`, `medium` or `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// `png`, `jpeg` or `webp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// Always `opaque`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<String>,
    /// What was read and made, as OpenAI's image API counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ImageUsage>,
    /// What the client should know about how its request was carried out, for instance that the
    /// prompt was cut at the encoder's length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl CreateImageResponse {
    /// Reads what was opened.
    ///
    /// # Errors
    /// Where it is not of this shape.
    pub fn from_json(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Writes what is to be sealed, followed by spaces up to `filled_bytes`, into a buffer of
    /// `capacity(length)` bytes, for a length that it does not exceed, so that sealing can pad and
    /// encrypt it where it lies.
    #[must_use]
    pub fn to_json_with(
        &self,
        filled_bytes: usize,
        capacity: impl Fn(usize) -> usize,
    ) -> Zeroizing<Vec<u8>> {
        let images =
            self.data.iter().flat_map(|entry| [&entry.url, &entry.b64_json].map(Option::as_ref));
        let bytes: usize = images.flatten().map(ImageText::written_bytes).sum();
        let proven = self.data.iter().filter(|entry| entry.provenance.is_some()).count();
        let bytes = bytes + proven * ImageProvenance::ABOUT_BYTES;
        to_filled_json(self, bytes, filled_bytes, capacity)
    }
}

/// One image.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ImageData {
    /// A `data:image/…;base64,…` URL, or, on the route in clear text where `response_format` asks for it, one
    /// that the node serves for a while. There where `response_format` did not ask for the other; in a sealed
    /// answer always, since Atoma's SDKs fail without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub url: Option<ImageText>,
    /// The image's file in base64, where `response_format` asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub b64_json: Option<ImageText>,
    /// The prompt as it was drawn, where it is not the prompt as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub revised_prompt: Option<SecretString>,
    /// Our extension: what proves where the image is from, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Box<ImageProvenance>>,
}
