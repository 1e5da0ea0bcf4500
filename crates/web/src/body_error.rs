//! Why a request's body is refused before it is parsed.

use protocol::ErrorKind::InvalidRequestError;

use crate::{
    answer::{self, ErrorAnswer},
    multipart::InvalidForm,
};

/// Why a body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It is no JSON object.
    NotAnObject,
    /// It does not say that it is JSON.
    NotJson,
    /// Nor that it is a form, where that is taken too.
    NotJsonOrForm,
    /// A form that cannot be read.
    NotAForm(InvalidForm),
    /// It is too long.
    TooLarge {
        /// The longest that its route takes.
        max_bytes: usize,
    },
    /// It took too long to arrive.
    TooSlow,
}

impl From<BodyError> for ErrorAnswer {
    fn from(error: BodyError) -> Self {
        let answer = |status, code, message: String| {
            answer::answer(status, InvalidRequestError, code, message)
        };
        let media_type = |message: &str| answer(415, "unsupported_media_type", message.to_owned());
        match error {
            BodyError::NotAnObject => {
                let message = "the body is no JSON object".to_owned();
                answer(400, "invalid_json", message)
            }
            BodyError::NotJson => media_type(
                "the body must be `Content-Type: application/json`, without `Content-Encoding`",
            ),
            BodyError::NotJsonOrForm => media_type(
                "the body must be `Content-Type: application/json`, or `multipart/form-data` with its boundary, without \
                 `Content-Encoding`",
            ),
            BodyError::NotAForm(error) => answer(400, "invalid_form", error.to_string()),
            BodyError::TooLarge { max_bytes } => {
                let message = format!("the body is longer than {max_bytes} bytes");
                answer(413, "body_too_large", message)
            }
            BodyError::TooSlow => {
                let message = "the body took too long to arrive".to_owned();
                answer(408, "body_too_slow", message)
            }
        }
    }
}
