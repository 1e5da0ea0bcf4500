//! Answers that are no success, as OpenAI's clients read them.

use axum::{
    Json,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use protocol::{
    ConfidentialComputeResponse, ConfidentialErrorResponse, ErrorBody, ErrorKind, ErrorObject,
    InvalidParameter,
};

/// Whether a repeated request could succeed, for clients that would repeat it by themselves.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// An error's status, body and headers.
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// What is said.
    pub error: ErrorObject,
    /// When the client should come back. `None`: as it sees fit.
    pub retry_after_secs: Option<u64>,
    /// Whether the same request could succeed. `None`: the status says it.
    pub should_retry: Option<bool>,
    /// `WWW-Authenticate`, where a key is asked for (RFC 9110, 11.6.1).
    pub challenge: Option<&'static str>,
    /// Said to the client alone.
    pub sealed: Option<Box<ConfidentialComputeResponse>>,
}

/// An answer of this status, kind, code (none where it is empty) and message.
///
/// # Panics
/// Where the status is none, of three digits.
#[must_use]
pub fn answer(
    status: u16,
    kind: ErrorKind,
    code: &'static str,
    message: impl Into<String>,
) -> ErrorAnswer {
    let code = (!code.is_empty()).then(|| code.to_owned());
    ErrorAnswer::of(status, ErrorObject { message: message.into(), kind, param: None, code })
}

impl ErrorAnswer {
    /// An answer that says this.
    ///
    /// # Panics
    /// Where the status is none, of three digits.
    #[must_use]
    pub fn of(status: u16, error: ErrorObject) -> Self {
        let status = StatusCode::from_u16(status).expect("a status, of three digits");
        let (retry_after_secs, should_retry, challenge, sealed) = (None, None, None, None);
        Self { status, error, retry_after_secs, should_retry, challenge, sealed }
    }

    /// The client should come back after so long.
    #[must_use]
    pub fn after(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }

    /// Never with the same request: work was spent on it, or it can only fail again.
    #[must_use]
    pub fn no_retry(self) -> Self {
        Self { should_retry: Some(false), ..self }
    }

    /// Asks for a key.
    #[must_use]
    pub fn challenge(self, challenge: &'static str) -> Self {
        Self { challenge: Some(challenge), ..self }
    }

    /// Says more to the client alone.
    #[must_use]
    pub fn sealed(self, envelope: Box<ConfidentialComputeResponse>) -> Self {
        Self { sealed: Some(envelope), ..self }
    }
}

impl From<&InvalidParameter> for ErrorAnswer {
    fn from(error: &InvalidParameter) -> Self {
        let status = match error {
            InvalidParameter::UnknownModel { .. } => 404,
            _ => 400,
        };
        Self::of(status, error.body().error)
    }
}

impl IntoResponse for ErrorAnswer {
    fn into_response(self) -> Response {
        let Self { status, error, retry_after_secs, should_retry, challenge, sealed } = self;
        let mut response = match sealed {
            Some(envelope) => {
                let body = ConfidentialErrorResponse { envelope: *envelope, error };
                (status, Json(body)).into_response()
            }
            None => (status, Json(ErrorBody { error })).into_response(),
        };
        let headers = response.headers_mut();
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(secs) = retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(should) = should_retry {
            let value = if should { "true" } else { "false" };
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static(value));
        }
        response
    }
}
