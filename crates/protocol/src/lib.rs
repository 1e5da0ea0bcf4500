//! What travels: wire types, limits, and the domain types they parse into.
//!
//! Wire types ([`ConfidentialComputeRequest`], [`CreateImageRequest`], [`CreateImageResponse`], …)
//! mirror Atoma's OpenAPI document field by field and believe nothing. Domain types ([`Prompt`],
//! [`Size`], [`Steps`], [`Seed`], [`Count`]) can only be made from valid values, so nothing behind
//! [`ImageRequest::parse`] checks again. No I/O, no clock, no randomness: those are passed in.

mod envelope;
mod error;
mod image;
mod lock;
mod models;
mod prompt;
mod request;
mod size;
mod usage;
mod values;

pub use envelope::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, ConfidentialErrorResponse,
};
pub use error::{ErrorBody, ErrorKind, ErrorObject, InvalidParameter};
pub use image::{CreateImageRequest, CreateImageResponse, ImageData, NotAnObject};
pub use lock::{NodeLockRequest, NodeLockResponse};
pub use models::{Model, ModelList};
pub use prompt::{InvalidPrompt, Prompt, VIVID_SUFFIX};
pub use request::{ImageRequest, Limits, Offer, ResponseFormat, Style};
pub use size::{InvalidSize, Size};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, Usage};
pub use values::{Count, OutOfRange, Seed, Steps};
