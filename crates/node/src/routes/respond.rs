//! From pixels to the image API's answer, for both routes.

use std::{sync::Arc, time::Instant};

use engine::{Image, Output, PromptTokens, encode};
use protocol::{
    CreateImageResponse, Format, ImageData, ImageRequest, ImageText, ImageUsage,
    InputTokensDetails, ResponseFormat, SecretBytes, Usage,
};
use web::image_store::{ImageStore, StoredImage};

use super::provenance::Prover;
use crate::{
    clock::unix_now,
    error::ApiError,
    metrics::{Metrics, Stage},
};

/// What both routes say when the text encoder's length cut the prompt.
const TRUNCATED: &str = "the prompt is longer than the text encoder reads; its end was cut";
/// What an edit says.
const TRANSPARENT: &str =
    "an input image is transparent in places; the model reads no transparency and saw white there";
/// Nothing here draws transparency.
pub(super) const BACKGROUND: &str = "opaque";

/// Who reads the answer.
pub(super) enum Reader<'a> {
    /// The one client that can open it: images never leave the envelope.
    Sealed,
    /// Anybody on the way: images may be fetched by URL.
    Clear(Links<'a>),
}

/// Where images are stored, and what their URLs begin with.
pub(super) struct Links<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) prefix: String,
}

/// How much was read for a request.
#[derive(Clone, Copy)]
pub(super) struct Input {
    pub(super) prompt: PromptTokens,
    /// Patches of 16×16 pixels of all input images.
    pub(super) patches: u64,
}

impl Input {
    pub(super) fn of(output: &Output) -> Self {
        Self { prompt: output.generated.prompt_tokens, patches: output.input_patches }
    }

    /// For the client alone.
    pub(super) fn tokens(&self) -> InputTokensDetails {
        InputTokensDetails {
            text_tokens: count(self.prompt.t5 as u64),
            image_tokens: count(self.patches),
        }
    }
}

/// Latent patches of all images.
pub(super) fn made(request: &ImageRequest) -> u32 {
    count(request.latent_patches())
}

/// What the request is billed by, in clear text: the text tokens that were computed, which are as
/// many for every prompt, and those of input images, in coarse steps.
pub(super) fn usage(output: &Output) -> Usage {
    let images = Usage::coarse_image_tokens(count(output.input_patches));
    let text = count(output.generated.prompt_tokens.computed as u64);
    Usage::new(text.saturating_add(images), made(&output.request))
}

fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The answer, images encoded, and how long their files are in all, without manifests.
pub(super) fn body(
    output: &Output,
    reader: &Reader<'_>,
    prover: &Prover,
    metrics: &Metrics,
) -> Result<(CreateImageResponse, usize), ApiError> {
    let request = &output.request;
    let input = Input::of(output);
    let mut file_bytes = 0;
    let data = output.generated.images.iter().enumerate().map(|(index, image)| {
        let marked = prover.marked(image);
        let file = file(marked.as_ref().unwrap_or(image), request.format, metrics)?;
        file_bytes += file.len();
        let (file, provenance) = prover.prove(request, (index, image), file)?;
        let entry = entry(request, file, reader)?;
        Ok(ImageData { provenance, ..entry })
    });
    let response = CreateImageResponse {
        created: unix_now(),
        data: data.collect::<Result<_, ApiError>>()?,
        seed: Some(request.seed.get()),
        size: Some(request.size.to_string()),
        quality: Some(request.quality.name().to_owned()),
        output_format: Some(request.format.name().to_owned()),
        background: Some(BACKGROUND.to_owned()),
        usage: Some(ImageUsage::new(input.tokens(), made(request))),
        warnings: warnings(request, input.prompt),
    };
    Ok((response, file_bytes))
}

/// What the client should know.
pub(super) fn warnings(request: &ImageRequest, prompt: PromptTokens) -> Vec<String> {
    let truncated = prompt.truncated.then_some(TRUNCATED);
    let transparent = request.has_transparent_input.then_some(TRANSPARENT);
    truncated.into_iter().chain(transparent).map(str::to_owned).collect()
}

/// An image's file.
pub(super) fn file(
    image: &Image,
    format: Format,
    metrics: &Metrics,
) -> Result<SecretBytes, ApiError> {
    metrics.timed(Stage::ImageEncode, || encode(image, format)).map_err(|error| {
        tracing::error!(%error, "encoding failed");
        ApiError::Internal
    })
}

/// The file in base64.
pub(super) fn base64(file: SecretBytes) -> ImageText {
    ImageText::file("", Arc::new(file))
}

fn entry(
    request: &ImageRequest,
    file: SecretBytes,
    reader: &Reader<'_>,
) -> Result<ImageData, ApiError> {
    let format = request.format;
    let revised_prompt = request.revised_prompt();
    let (url, b64_json) = match (request.response_format, reader) {
        (ResponseFormat::Url, Reader::Clear(links)) => (Some(links.insert(file, format)?), None),
        (ResponseFormat::Url | ResponseFormat::Unsaid, Reader::Sealed) => {
            (Some(data_url(format, Arc::new(file))), None)
        }
        (ResponseFormat::B64Json, Reader::Clear(_)) => {
            (None, Some(ImageText::file("", Arc::new(file))))
        }
        // Clients of OpenAI's newer models read the one without asking, those of Atoma the other, and fail
        // without it.
        (ResponseFormat::Unsaid, Reader::Clear(_)) | (ResponseFormat::B64Json, Reader::Sealed) => {
            let file = Arc::new(file);
            (Some(data_url(format, file.clone())), Some(ImageText::file("", file)))
        }
    };
    Ok(ImageData { url, b64_json, revised_prompt, provenance: None })
}

impl Links<'_> {
    fn insert(&self, file: SecretBytes, format: Format) -> Result<ImageText, ApiError> {
        let name = self
            .store
            .insert(StoredImage { file, media_type: format.media_type() }, Instant::now())
            .map_err(|error| {
                tracing::error!(%error, "an image has no URL");
                ApiError::Internal
            })?;
        Ok(format!("{}/v1/images/files/{name}", self.prefix).into())
    }
}

fn data_url(format: Format, file: Arc<SecretBytes>) -> ImageText {
    ImageText::file(format!("data:{};base64,", format.media_type()), file)
}
