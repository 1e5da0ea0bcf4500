//! From a node's opened answer to what OpenAI's clients read.

use std::time::Instant;

use base64_simd::STANDARD;
use protocol::{
    CreateImageRequest, CreateImageResponse, ImageData, ImageProvenance, ImageText, ImageUsage,
    SecretBytes, SecretString,
};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use web::image_store::{ImageStore, StoredImage};
use zeroize::Zeroizing;

use crate::error::ApiError;

/// What surrounds the images of an answer, in bytes; a longer answer moves once.
const AROUND_BYTES: usize = 16 * 1024;

/// How images are told back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The caller did not say: clients of OpenAI's newer models read `b64_json`, others `url`.
    Unsaid,
    B64Json,
    /// An address on this proxy.
    Url,
    /// Whatever the node makes of what the caller said: a refusal that names the field.
    Unknown,
}

impl Form {
    /// Takes `response_format` out of a request where that is for the proxy to carry out: a node sends
    /// each image once, as a `data:` URL, and not twice.
    pub(super) fn take(request: &mut CreateImageRequest) -> Self {
        if request.stream == Some(true) {
            return Self::Unknown;
        }
        let form = match request.response_format.as_deref() {
            None => Self::Unsaid,
            Some("b64_json") => Self::B64Json,
            Some("url") => Self::Url,
            Some(_) => return Self::Unknown,
        };
        request.response_format = None;
        form
    }
}

/// Where images are stored, and what their URLs begin with.
pub(super) struct Links<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) base: String,
}

/// An answer on its way to the caller; its place among the open requests is held until it is gone.
pub(super) struct Answered {
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Answered {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// The answer's JSON.
pub(super) fn write(
    response: CreateImageResponse,
    form: Form,
    links: &Links<'_>,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let entries = response.data.iter().map(|entry| Entry::of(entry, form, links));
    let data = entries.collect::<Result<Vec<_>, _>>()?;
    let bulk: usize = data.iter().map(Entry::bytes).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(bulk + AROUND_BYTES));
    let clear = Clear {
        created: response.created,
        data,
        seed: response.seed,
        size: response.size.as_deref(),
        quality: response.quality.as_deref(),
        output_format: response.output_format.as_deref(),
        background: response.background.as_deref(),
        usage: response.usage,
        warnings: &response.warnings,
    };
    serde_json::to_writer(&mut *body, &clear).map_err(|_| ApiError::Internal)?;
    Ok(body)
}

/// As [`CreateImageResponse`], with images as the caller wants them, borrowed from where they are.
#[derive(Serialize)]
struct Clear<'a> {
    created: u64,
    data: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    background: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ImageUsage>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revised_prompt: Option<&'a SecretString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a ImageProvenance>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Url<'a> {
    Data(&'a str),
    Link(String),
}

impl<'a> Entry<'a> {
    fn of(entry: &'a ImageData, form: Form, links: &Links<'_>) -> Result<Self, ApiError> {
        let data_url = entry.url.as_ref().and_then(ImageText::as_text);
        let data_url = data_url.ok_or(ApiError::WrongAnswer)?;
        let (media_type, base64) = parts(data_url).ok_or(ApiError::WrongAnswer)?;
        let (b64_json, url) = match form {
            Form::Unsaid => (Some(base64), Some(Url::Data(data_url))),
            Form::B64Json | Form::Unknown => (Some(base64), None),
            Form::Url => (None, Some(Url::Link(links.insert(media_type, base64)?))),
        };
        Ok(Self {
            b64_json,
            url,
            revised_prompt: entry.revised_prompt.as_ref(),
            provenance: entry.provenance.as_deref(),
        })
    }

    fn bytes(&self) -> usize {
        let url = match &self.url {
            Some(Url::Data(url)) => url.len(),
            _ => 0,
        };
        let prompt = self.revised_prompt.map_or(0, |prompt| 6 * prompt.len());
        let provenance = self.provenance.map_or(0, |_| ImageProvenance::ABOUT_BYTES);
        url + self.b64_json.map_or(0, str::len) + prompt + provenance
    }
}

/// Media type and base64 of a `data:` URL of an image.
fn parts(data_url: &str) -> Option<(&'static str, &str)> {
    let (media_type, base64) = data_url.strip_prefix("data:")?.split_once(";base64,")?;
    let known = ["image/png", "image/jpeg", "image/webp"];
    Some((known.into_iter().find(|known| *known == media_type)?, base64))
}

impl Links<'_> {
    fn insert(&self, media_type: &'static str, base64: &str) -> Result<String, ApiError> {
        let file = STANDARD.decode_to_vec(base64).map_err(|_| ApiError::WrongAnswer)?;
        let image = StoredImage { file: SecretBytes::from(file), media_type };
        let name = self.store.insert(image, Instant::now()).map_err(|error| {
            tracing::error!(%error, "an image has no URL");
            ApiError::Internal
        })?;
        Ok(format!("{}/v1/images/files/{name}", self.base))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::to_bytes, http::header::CONTENT_TYPE};
    use serde_json::Value;

    use super::*;

    fn written(form: Form) -> (Value, ImageStore) {
        let store = ImageStore::new(1000, Duration::from_secs(60));
        let json = br#"{"created":7,"data":[{"url":"data:image/webp;base64,AAEC","revised_prompt":"a \"fox\"","provenance":{"salt":"00","seed":3,"size":"16x16","steps":4}}],"seed":3}"#;
        let response = CreateImageResponse::from_json(json).unwrap();
        let links = Links { store: &store, base: "http://localhost:3300".to_owned() };
        let body = write(response, form, &links).map_err(|_| ()).unwrap();
        (serde_json::from_slice(&body).unwrap(), store)
    }

    #[tokio::test]
    async fn each_form_is_what_was_asked_for() {
        let (both, _) = written(Form::Unsaid);
        assert_eq!(both["data"][0]["b64_json"], "AAEC");
        assert_eq!(both["data"][0]["url"], "data:image/webp;base64,AAEC");
        assert_eq!(both["data"][0]["revised_prompt"], "a \"fox\"");
        assert_eq!(both["data"][0]["provenance"]["salt"], "00");
        assert_eq!((both["created"].as_u64(), both["seed"].as_u64()), (Some(7), Some(3)));

        let (base64, _) = written(Form::B64Json);
        assert!(base64["data"][0].get("url").is_none());

        let (link, store) = written(Form::Url);
        assert!(link["data"][0].get("b64_json").is_none());
        let url = link["data"][0]["url"].as_str().unwrap();
        let name = url.strip_prefix("http://localhost:3300/v1/images/files/").unwrap();
        let image = store.find(name, Instant::now()).unwrap();
        assert_eq!(image.headers()[CONTENT_TYPE], "image/webp");
        assert_eq!(to_bytes(image.into_body(), 10).await.unwrap()[..], [0, 1, 2]);
    }

    #[test]
    fn a_url_that_leads_elsewhere_is_no_image() {
        for url in [
            "https://tracker.example/x.png",
            "data:text/html;base64,AAEC",
            "data:image/svg+xml;base64,AAEC",
            "data:image/png,AAEC",
            "",
        ] {
            assert!(parts(url).is_none(), "{url}");
        }
    }
}
