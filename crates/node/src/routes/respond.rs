//! From pixels to the image API's answer, for both routes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{CreateImageResponse, ImageData, ResponseFormat, Usage};
use zeroize::Zeroizing;

use crate::{
    encode::{Format, encode},
    engine::Painted,
    error::ApiError,
};

/// What both routes say when the text encoder's length cut the prompt.
const TRUNCATED: &str = "the prompt is longer than the text encoder reads; its end was cut";

/// What the request is billed by.
pub(super) fn usage(painted: &Painted) -> Usage {
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Usage::new(
        count(painted.generated.prompt_tokens.t5 as u64),
        count(painted.request.latent_patches()),
    )
}

/// The answer, pictures encoded.
pub(super) fn body(painted: Painted, created_secs: u64) -> Result<CreateImageResponse, ApiError> {
    let Painted { request, generated } = painted;
    let data = generated.pictures.iter().map(|picture| {
        let file = encode(picture, Format::Png).map_err(|error| {
            tracing::error!(%error, "encoding failed");
            ApiError::Internal
        })?;
        Ok(ImageData {
            url: data_url(Format::Png, &file),
            b64_json: match request.response_format {
                ResponseFormat::Url => None,
                ResponseFormat::B64Json => Some(base64_behind("", &file)),
            },
            revised_prompt: request.revised_prompt(),
        })
    });
    Ok(CreateImageResponse {
        created: created_secs,
        data: data.collect::<Result<_, ApiError>>()?,
        seed: Some(request.seed.get()),
        size: Some(request.size.to_string()),
        warnings: match generated.prompt_tokens.truncated {
            true => vec![TRUNCATED.to_owned()],
            false => Vec::new(),
        },
    })
}

fn data_url(format: Format, file: &[u8]) -> Zeroizing<String> {
    base64_behind(&format!("data:{};base64,", format.media_type()), file)
}

/// `prefix` and the file in base64, in a buffer that never moves.
fn base64_behind(prefix: &str, file: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + file.len().div_ceil(3) * 4));
    text.push_str(prefix);
    BASE64_STANDARD.encode_string(file, &mut text);
    text
}
