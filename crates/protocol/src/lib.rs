//! What travels: wire types, limits, and the domain types they parse into.
//!
//! Wire types ([`ConfidentialComputeRequest`], [`CreateImageRequest`], [`CreateImageResponse`], …)
//! mirror Atoma's OpenAPI document field by field and believe nothing. Domain types ([`Prompt`],
//! [`Size`], [`Steps`], [`Seed`], [`Count`]) can only be made from valid values, so nothing behind
//! [`ImageRequest::parse`] checks again. No I/O, no clock, no randomness: those are passed in.

mod capabilities;
mod envelope;
mod error;
mod form;
mod image;
mod image_response;
mod image_text;
mod input;
mod input_error;
mod input_files;
mod integer;
mod json;
mod lock;
mod models;
mod operation;
mod output;
mod prompt;
mod provenance;
mod range;
mod request;
mod secret;
mod size;
mod stream;
mod usage;
mod values;

pub use capabilities::{GuidanceUse, Limits, ModelCapabilities};
pub use envelope::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, ConfidentialErrorResponse,
};
pub use error::{ErrorBody, ErrorKind, ErrorObject, InvalidParameter};
pub use form::FormField;
pub use image::{CreateImageRequest, EditImageRequest, ImageUrl, InvalidRequest};
pub use image_response::{CreateImageResponse, ImageData};
pub use image_text::ImageText;
pub use input::{
    InputReference, MAX_EDIT_FORM_BYTES, MAX_EDIT_JSON_BYTES, MAX_INPUT_FILES_BYTES,
    MAX_INPUT_IMAGES,
};
pub use input_error::{InvalidInputImage, InvalidMask};
pub use input_files::InputFiles;
pub use lock::{NodeLockRequest, NodeLockResponse};
pub use models::{Model, ModelList};
pub use operation::Operation;
pub use output::{Delivery, Format, Quality, ResponseFormat};
pub use prompt::{InvalidPrompt, Prompt, VIVID_SUFFIX};
pub use provenance::{ImageProvenance, ProvenanceKind, ProvenanceWish};
pub use range::OutOfRange;
pub use request::{ImageRequest, Style};
pub use secret::{SecretBytes, SecretString};
pub use size::{InvalidSize, Size};
pub use stream::{
    CompletedEvent, ErrorEvent, ImageEvent, NotAnEvent, PartialImageEvent, ProgressEvent, Sequenced,
};
pub use usage::{
    CompletionTokensDetails, ImageUsage, InputTokensDetails, PromptTokensDetails, Usage,
};
pub use values::{Count, Guidance, Seed, Steps};
