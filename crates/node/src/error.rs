//! Every answer that is not a success: its status, its body, its headers. Vague outside, exact
//! inside.

use attest::{binding::InvalidNonce, evidence::EvidenceError};
use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use protocol::{
    ConfidentialComputeResponse, ConfidentialErrorResponse, ErrorBody, ErrorKind, ErrorObject,
    InvalidParameter,
};
use seal::{KeyId, OpenError, SealError};

use crate::engine::{Failed, QueueFull};

/// The one text for everything from base64 to the body's JSON: which of them failed is nobody's
/// business.
const MALFORMED: &str = "the request is malformed or could not be opened";

/// Whether a repeated request could succeed, for clients that would repeat it by themselves.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request is not answered with pictures.
pub(crate) enum ApiError {
    /// The envelope, its opening, or the JSON within.
    Malformed,
    /// A rule that a readable body breaks, on a route in clear text.
    Invalid(InvalidParameter),
    /// The same, told to the client alone.
    Sealed(Box<ConfidentialComputeResponse>),
    /// Sealed to a key this node does not hold.
    StaleKey {
        current_key_id: KeyId,
    },
    Unauthorized,
    Replayed,
    TooLarge,
    UnknownModel,
    NotFound,
    MethodNotAllowed,
    QueueFull {
        retry_after_secs: u64,
    },
    /// No more requests can be told apart until fresh keys take over.
    KeyWornOut,
    Loading,
    Draining,
    /// A challenge of another form.
    InvalidNonce,
    /// More verifiers ask than quotes are made.
    QuotesBusy {
        retry_after_secs: u64,
    },
    /// The hardware gives no evidence; the cause is in the log.
    NoEvidence,
    /// Something of ours failed; the cause is in the log.
    Internal,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        use ErrorKind::{
            AuthenticationError, InvalidRequestError, RateLimitError, ServerError, StaleKey,
        };
        match self {
            Self::Malformed => plain(StatusCode::BAD_REQUEST, InvalidRequestError, None, MALFORMED),
            Self::Invalid(error) => (status_of(&error), Json(error.body())).into_response(),
            Self::Sealed(envelope) => {
                let body = ConfidentialErrorResponse {
                    envelope: *envelope,
                    error: object(
                        InvalidRequestError,
                        None,
                        "the request breaks a rule; the sealed body says which",
                    ),
                };
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
            Self::StaleKey { current_key_id } => plain(
                StatusCode::UNPROCESSABLE_ENTITY,
                StaleKey,
                Some("stale_key"),
                format!("`node_dh_public_key` is not held here; the key is now {current_key_id}"),
            ),
            Self::Unauthorized => plain(
                StatusCode::UNAUTHORIZED,
                AuthenticationError,
                Some("invalid_api_key"),
                "no valid credentials: send `Authorization: Bearer KEY`",
            ),
            Self::Replayed => plain(
                StatusCode::CONFLICT,
                InvalidRequestError,
                Some("replayed"),
                "this sealed request was opened before; seal a fresh one",
            )
            .no_retry(),
            Self::TooLarge => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                InvalidRequestError,
                Some("body_too_large"),
                "the body is too large",
            ),
            Self::UnknownModel => {
                let error = InvalidParameter::UnknownModel;
                (status_of(&error), Json(error.body())).into_response()
            }
            Self::NotFound => plain(
                StatusCode::NOT_FOUND,
                InvalidRequestError,
                Some("not_found"),
                "there is no such route",
            ),
            Self::MethodNotAllowed => plain(
                StatusCode::METHOD_NOT_ALLOWED,
                InvalidRequestError,
                Some("method_not_allowed"),
                "the route does not take this method",
            ),
            Self::QueueFull { retry_after_secs } => plain(
                StatusCode::TOO_MANY_REQUESTS,
                RateLimitError,
                Some("queue_full"),
                "the queue is full",
            )
            .retry_after(retry_after_secs),
            Self::KeyWornOut => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                ServerError,
                Some("key_worn_out"),
                "fresh keys are about to take over",
            )
            .retry_after(1),
            Self::Loading => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                ServerError,
                Some("loading"),
                "the model is still loading",
            )
            .retry_after(5),
            Self::Draining => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                ServerError,
                Some("draining"),
                "the node is stopping",
            )
            .retry_after(5),
            Self::InvalidNonce => plain(
                StatusCode::BAD_REQUEST,
                InvalidRequestError,
                Some("invalid_nonce"),
                InvalidNonce.to_string(),
            ),
            Self::QuotesBusy { retry_after_secs } => plain(
                StatusCode::TOO_MANY_REQUESTS,
                RateLimitError,
                Some("quotes_busy"),
                "too many verifiers are asking",
            )
            .retry_after(retry_after_secs),
            Self::NoEvidence => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                ServerError,
                Some("no_evidence"),
                "the TEE gives no evidence now",
            )
            .retry_after(5),
            Self::Internal => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                ServerError,
                None,
                "the picture could not be made",
            )
            .no_retry(),
        }
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::StaleKey { current_key_id } => Self::StaleKey { current_key_id },
            OpenError::Replayed => Self::Replayed,
            OpenError::ReplayCacheFull => Self::KeyWornOut,
            // Whatever else there will ever be: the one opaque answer.
            _ => Self::Malformed,
        }
    }
}

impl From<QueueFull> for ApiError {
    fn from(full: QueueFull) -> Self {
        Self::QueueFull { retry_after_secs: full.retry_after_secs }
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Generation => Self::Internal,
            Failed::Draining => Self::Draining,
        }
    }
}

impl From<EvidenceError> for ApiError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::RateLimited { retry_after } => {
                Self::QuotesBusy { retry_after_secs: retry_after.as_secs() + 1 }
            }
            EvidenceError::Busy => Self::QuotesBusy { retry_after_secs: 5 },
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "no evidence");
                Self::NoEvidence
            }
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        tracing::error!(%error, "sealing failed");
        Self::Internal
    }
}

fn status_of(error: &InvalidParameter) -> StatusCode {
    match error {
        InvalidParameter::UnknownModel => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn plain(
    status: StatusCode,
    kind: ErrorKind,
    code: Option<&str>,
    message: impl Into<String>,
) -> Response {
    let body = ErrorBody { error: object(kind, code, message) };
    (status, Json(body)).into_response()
}

fn object(kind: ErrorKind, code: Option<&str>, message: impl Into<String>) -> ErrorObject {
    ErrorObject { message: message.into(), kind, param: None, code: code.map(str::to_owned) }
}

/// Headers that tell a client when, or whether, to come back.
trait Retry {
    fn retry_after(self, secs: u64) -> Response;
    fn no_retry(self) -> Response;
}

impl Retry for Response {
    fn retry_after(mut self, secs: u64) -> Response {
        self.headers_mut().insert(RETRY_AFTER, HeaderValue::from(secs));
        self
    }

    fn no_retry(mut self) -> Response {
        self.headers_mut().insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        self
    }
}
