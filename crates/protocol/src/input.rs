//! Input images as they travel: references in JSON, and files out of them.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};

use crate::{ImageText, InvalidInputImage, SecretBytes};

/// The most input images of one request; a model may take fewer.
pub const MAX_INPUT_IMAGES: usize = 4;
/// The most bytes of all files of one request's input images.
pub const MAX_INPUT_FILES_BYTES: usize = 20_000_000;

/// The largest form of an edit: its files, and 256 KiB beside them.
pub const MAX_EDIT_FORM_BYTES: usize = MAX_INPUT_FILES_BYTES + BESIDE_BYTES;
/// The largest edit in JSON: its files in base64, and 256 KiB beside them.
pub const MAX_EDIT_JSON_BYTES: usize = MAX_INPUT_FILES_BYTES.div_ceil(3) * 4 + BESIDE_BYTES;

const BESIDE_BYTES: usize = 256 * 1024;

/// An input image of a request in JSON: a `data:` URL, as a text or as `{"image_url": …}`. Holds an image: no
/// `Debug`, no `Clone`.
pub struct InputReference(Source);

enum Source {
    Url(ImageText),
    /// A file that was uploaded before. Nothing can be here.
    FileId,
    /// An object that names no image.
    Nothing,
}

impl InputReference {
    /// This file, PNG, JPEG or WebP. Which of them it is, its reader finds out by the content.
    #[must_use]
    pub fn file(file: SecretBytes) -> Self {
        let media_type = match &file[..] {
            [0xff, 0xd8, ..] => "image/jpeg",
            [b'R', b'I', b'F', b'F', ..] => "image/webp",
            _ => "image/png",
        };
        Self(Source::Url(ImageText::file(format!("data:{media_type};base64,"), Arc::new(file))))
    }

    /// How long it is in a message.
    pub(crate) fn written_bytes(&self) -> usize {
        const AROUND: usize = r#"{"image_url":""},"#.len();
        match &self.0 {
            Source::Url(text) => AROUND + text.written_bytes(),
            Source::FileId | Source::Nothing => AROUND,
        }
    }

    /// The file, of at most `max_bytes`.
    pub(crate) fn into_file(self, max_bytes: usize) -> Result<SecretBytes, InvalidInput> {
        let text = match self.0 {
            Source::Url(text) => text,
            Source::FileId => return Err(InvalidInputImage::FileId.into()),
            Source::Nothing => return Err(InvalidInputImage::NoUrl.into()),
        };
        let text = match text.into_file() {
            Ok(file) if file.len() > max_bytes => return Err(InvalidInput::TooLong),
            Ok(file) => return Ok(file),
            Err(text) => text,
        };
        if !has_scheme(&text, "data") {
            let remote = has_scheme(&text, "http") || has_scheme(&text, "https");
            return Err(match remote {
                true => InvalidInputImage::Remote.into(),
                false => InvalidInputImage::NoUrl.into(),
            });
        }
        let (head, base64) = text.split_once(',').ok_or(InvalidInputImage::NoUrl)?;
        // Its media type is a claim; the content says what it is.
        if !head.to_ascii_lowercase().ends_with(";base64") {
            return Err(InvalidInputImage::NotBase64.into());
        }
        if base64.len() / 4 * 3 > max_bytes + 2 {
            return Err(InvalidInput::TooLong);
        }
        let file = base64_simd::STANDARD.decode_to_vec(base64);
        let file = SecretBytes::from(file.map_err(|_| InvalidInputImage::NotBase64)?);
        if file.len() > max_bytes { Err(InvalidInput::TooLong) } else { Ok(file) }
    }
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    let found = url.split_once(':').map(|(found, _)| found);
    found.is_some_and(|found| found.eq_ignore_ascii_case(scheme))
}

/// What is wrong with one of several.
pub(crate) enum InvalidInput {
    Image(InvalidInputImage),
    /// Of all together.
    TooLong,
}

impl From<InvalidInputImage> for InvalidInput {
    fn from(reason: InvalidInputImage) -> Self {
        Self::Image(reason)
    }
}

impl Serialize for InputReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match &self.0 {
            Source::Url(text) => map.serialize_entry("image_url", text)?,
            Source::FileId => map.serialize_entry("file_id", "")?,
            Source::Nothing => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for InputReference {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(ReferenceVisitor)
    }
}

struct ReferenceVisitor;

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = InputReference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a `data:` URL, or an object with one")
    }

    fn visit_str<E>(self, url: &str) -> Result<InputReference, E> {
        Ok(InputReference(Source::Url(url.to_owned().into())))
    }

    fn visit_string<E>(self, url: String) -> Result<InputReference, E> {
        Ok(InputReference(Source::Url(url.into())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InputReference, A::Error> {
        let mut source = Source::Nothing;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "image_url" => {
                    if let Some(url) = map.next_value::<Option<ImageText>>()? {
                        source = Source::Url(url);
                    }
                }
                "file_id" => {
                    let given = map.next_value::<Option<IgnoredAny>>()?.is_some();
                    if given && matches!(source, Source::Nothing) {
                        source = Source::FileId;
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(InputReference(source))
    }
}

/// Whether there is something, whatever it is.
///
/// # Errors
/// Where it is no JSON.
pub(crate) fn is_there<'de, D: Deserializer<'de>>(json: D) -> Result<bool, D::Error> {
    Option::<IgnoredAny>::deserialize(json).map(|there| there.is_some())
}

/// Reads a list, or null. Of more than may be, one more is kept, so that they are seen to be too many, and the
/// others take no memory.
///
/// # Errors
/// Where it is something else, or holds something else.
pub(crate) fn references<'de, D: Deserializer<'de>>(
    json: D,
) -> Result<Option<Vec<InputReference>>, D::Error> {
    json.deserialize_option(Bounded)
}

struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Option<Vec<InputReference>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of images")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() <= MAX_INPUT_IMAGES {
            match list.next_element()? {
                Some(reference) => kept.push(reference),
                None => return Ok(Some(kept)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(kept))
    }
}
