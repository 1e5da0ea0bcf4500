//! What a client is told when something is wrong, in OpenAI's shape.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::{InvalidInputImage, InvalidMask, InvalidPrompt, InvalidSize, OutOfRange, Size};

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The one field.
    pub error: ErrorObject,
}

/// OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorObject {
    /// For a person; never quotes what the client sent.
    pub message: String,
    /// The family of the error.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// The field of the request that is to blame.
    pub param: Option<String>,
    /// For a program, finer than `type`.
    pub code: Option<String>,
}

/// OpenAI's families of errors, and `stale_key` of the confidential protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// 400, 404, 405, 408, 409, 413, 415.
    InvalidRequestError,
    /// 401.
    AuthenticationError,
    /// 422: the request is sealed to a key this node does not hold.
    StaleKey,
    /// 429.
    RateLimitError,
    /// 500, 503.
    ServerError,
}

/// A decrypted, well-formed request that breaks a rule. Names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidParameter {
    /// A required field is not there.
    #[error("`{param}` is required")]
    Missing {
        /// Its name.
        param: &'static str,
    },
    /// A field holds a value of another JSON type than it should.
    #[error("`{param}` must be {}", expected(param))]
    Type {
        /// Its name.
        param: &'static str,
    },
    /// The body holds a field twice.
    #[error("`{param}` is given twice")]
    Duplicate {
        /// Its name.
        param: &'static str,
    },
    /// `prompt` breaks a rule.
    #[error("`prompt` {0}")]
    Prompt(InvalidPrompt),
    /// `size` breaks a rule.
    #[error("`size` {0}")]
    Size(InvalidSize),
    /// An image of this size is more than this node makes.
    #[error("`size` must have at most {max_pixels} pixels on this node")]
    TooManyPixels {
        /// The bound, width × height.
        max_pixels: u64,
    },
    /// `n` images of this size are more than this node makes for one request.
    #[error("`n` × width × height must be at most {max_pixels} on this node")]
    TooManyPixelsInAll {
        /// The bound, n × width × height.
        max_pixels: u64,
    },
    /// A number is out of its range.
    #[error("`{param}` {range}")]
    OutOfRange {
        /// The field.
        param: &'static str,
        /// What it accepts.
        range: OutOfRange,
    },
    /// A field that takes one of a few words holds another.
    #[error("`{param}` must be one of: {choices}")]
    Choice {
        /// The field.
        param: &'static str,
        /// The words it accepts.
        choices: &'static str,
    },
    /// The sealed body names another model than the envelope around it.
    #[error("`model` is not the envelope's `model_name`")]
    ModelMismatch,
    /// This node does not serve the model.
    #[error("`model` is not served by this node; it serves `{served}`")]
    UnknownModel {
        /// The one that is.
        served: String,
    },
    /// No model is named where one has to be: outside of what is sealed.
    #[error("`model` is required; this node serves `{served}`")]
    NoModel {
        /// The ones that are.
        served: String,
    },
    /// The envelope's compute units are not the pixels asked for.
    #[error("`num_compute_units` must equal n × width × height")]
    UnitsMismatch,
    /// The envelope says another thing about streaming than the body sealed in it.
    #[error("`stream` is not what the sealed body says")]
    StreamMismatch,
    /// A field that only means something in a stream.
    #[error("`{param}` needs `stream: true`")]
    OnlyStreaming {
        /// The field.
        param: &'static str,
    },
    /// A value that means nothing in a stream.
    #[error("`{param}` cannot be `url` with `stream: true`: events carry the images")]
    NotStreaming {
        /// The field.
        param: &'static str,
    },
    /// A compression is asked of a format that loses nothing.
    #[error(
        "`output_compression` below 100 needs `output_format: jpeg`; png and webp are lossless here"
    )]
    Lossless,
    /// A field that the model cannot honour.
    #[error("`{param}` is not supported by this model")]
    Unsupported {
        /// The field.
        param: &'static str,
    },
    /// A field that only an edit has.
    #[error("`{param}` is for edits: POST it to `/v1/images/edits`, or sealed to its like")]
    OnlyEdits {
        /// The field.
        param: &'static str,
    },
    /// The model draws from text alone.
    #[error(
        "`model` takes no input images: `{model}` draws from a prompt alone; models that take them are {capable}"
    )]
    NoInputImages {
        /// The model asked for.
        model: String,
        /// Those that do.
        capable: String,
    },
    /// More input images than the model reads.
    #[error("`images` must be 1 to {most} images")]
    TooManyInputImages {
        /// The most it reads.
        most: usize,
    },
    /// The files of the input images are too long.
    #[error("`images` must have at most {max_bytes} bytes in all")]
    InputBytes {
        /// The bound, of all files together.
        max_bytes: usize,
    },
    /// One of the input images cannot be read.
    #[error("`images[{index}]` {reason}")]
    InputImage {
        /// Which, from 0.
        index: usize,
        /// Why.
        reason: InvalidInputImage,
    },
    /// The mask cannot be read, or not be followed.
    #[error("`mask` {reason}")]
    Mask {
        /// Why.
        reason: InvalidMask,
    },
    /// Another size than the first input image's, of which a part is to be kept.
    #[error(
        "`size` must be `auto` or `{size}` where there is a `mask`: as large as the first image is read"
    )]
    MaskedSize {
        /// The image's as it is read.
        size: Size,
    },
    /// A guidance scale out of range.
    #[error("`guidance` must be a number from 0 to {max}")]
    Guidance {
        /// The most accepted.
        max: i64,
    },
    /// A salt for commitments that is none.
    #[error("`provenance_salt` must be 64 lower-case hexadecimal digits")]
    Salt,
    /// A salt for commitments, and nothing that commits.
    #[error(
        "`provenance_salt` needs a `provenance` that commits to what was asked: `receipt`, for one"
    )]
    SaltAlone,
    /// A manifest is wanted of a node that makes none.
    #[error("`provenance`: this node signs no manifests; `receipt` and `mark` it can give")]
    NoManifests,
    /// A mark is wanted in an image that holds none.
    #[error("`provenance`: a mark needs an image of at least {min_px} pixels on each side")]
    TooSmallForMark {
        /// The least side.
        min_px: u32,
    },
    /// An image much longer than it is wide, or the other way round.
    #[error("`size` must have a longer side of at most {max} times the shorter one")]
    Aspect {
        /// The most accepted.
        max: u32,
    },
}

/// What a field holds, in words.
fn expected(param: &str) -> &'static str {
    match param {
        "n" => "a whole number from 1 to 10",
        "steps" => "a whole number from 1 to 50",
        "partial_images" => "a whole number from 0 to 3",
        "output_compression" => "a whole number from 0 to 100",
        "seed" => "a whole number from 0 to 18446744073709551615, or -1 for any seed",
        "guidance" => "a number from 0 to 30",
        "stream" | "progress" => "true or false",
        "images" => "a list of images",
        "mask" => "an image",
        _ => "a text",
    }
}

impl InvalidParameter {
    /// The field to blame, as the client spells it.
    #[must_use]
    pub fn param(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing { param }
            | Self::Type { param }
            | Self::Duplicate { param }
            | Self::OutOfRange { param, .. }
            | Self::OnlyStreaming { param }
            | Self::NotStreaming { param }
            | Self::Unsupported { param }
            | Self::OnlyEdits { param }
            | Self::Choice { param, .. } => param,
            Self::Prompt(_) => "prompt",
            Self::Size(_)
            | Self::TooManyPixels { .. }
            | Self::MaskedSize { .. }
            | Self::Aspect { .. } => "size",
            Self::Mask { .. } => "mask",
            Self::TooManyPixelsInAll { .. } => "n",
            Self::ModelMismatch
            | Self::UnknownModel { .. }
            | Self::NoModel { .. }
            | Self::NoInputImages { .. } => "model",
            Self::TooManyInputImages { .. } | Self::InputBytes { .. } | Self::InputImage { .. } => {
                "images"
            }
            Self::UnitsMismatch => "num_compute_units",
            Self::StreamMismatch => "stream",
            Self::Lossless => "output_compression",
            Self::Guidance { .. } => "guidance",
            Self::Salt | Self::SaltAlone => "provenance_salt",
            Self::NoManifests | Self::TooSmallForMark { .. } => "provenance",
        })
    }

    /// The error as the client reads it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let code = match self {
            Self::UnknownModel { .. } => Some("model_not_found".to_owned()),
            Self::NoInputImages { .. } => Some("no_input_images".to_owned()),
            Self::InputImage { .. } => Some("invalid_image".to_owned()),
            Self::Mask { .. } => Some("invalid_mask".to_owned()),
            _ => None,
        };
        ErrorBody {
            error: ErrorObject {
                message: self.to_string(),
                kind: ErrorKind::InvalidRequestError,
                param: self.param().map(str::to_owned),
                code,
            },
        }
    }
}
