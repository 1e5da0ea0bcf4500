//! Every answer that is not a success: its status, its words, its headers. In one place.

use axum::response::{IntoResponse, Response};
use client::{ClientError, Refusal};
use protocol::{
    ConfidentialComputeResponse, ErrorKind, ErrorObject, InvalidParameter, InvalidRequest,
};
use seal::{OpenError, SealError};
use web::{
    answer::{ErrorAnswer, answer},
    body_error::BodyError,
};

use crate::pool::Failure;

/// Why a request is not answered with images.
pub(crate) enum ApiError {
    /// An envelope that is none, or does not open: one answer for all, as nodes give it.
    Malformed,
    /// The body, before anybody looks at what it asks for.
    Body(BodyError),
    Invalid(InvalidParameter),
    /// A rule that is broken inside of an envelope: told to the caller alone.
    Sealed(Box<ConfidentialComputeResponse>),
    StaleKey,
    Replayed,
    KeyWornOut,
    Busy,
    Unauthorized,
    UnknownHost,
    ForeignOrigin,
    /// Of what there is to be served here.
    NotFound,
    /// Of what nodes serve, and what is not sealed.
    NotSealed,
    MethodNotAllowed,
    /// No node answers, or one says no.
    Node(Failure),
    /// The answer is sound, and not what was asked for.
    WrongAnswer,
    Internal,
}

impl ApiError {
    /// What a stream that has begun says instead of a status.
    pub(crate) fn into_object(self) -> ErrorObject {
        self.answer().error
    }

    fn answer(self) -> ErrorAnswer {
        use ErrorKind::{
            AuthenticationError, InvalidRequestError, RateLimitError, ServerError, StaleKey,
        };
        match self {
            Self::Malformed => answer(
                400,
                InvalidRequestError,
                "",
                "the request is malformed or could not be opened",
            ),
            Self::Body(error) => error.into(),
            Self::Invalid(error) => (&error).into(),
            Self::Sealed(envelope) => answer(
                400,
                InvalidRequestError,
                "",
                "the request breaks a rule; the sealed body says which",
            )
            .sealed(envelope),
            Self::StaleKey => answer(
                422,
                StaleKey,
                "stale_key",
                "`node_dh_public_key` is not held here: ask `/v1/nodes/lock` for the key again",
            ),
            Self::Replayed => answer(
                409,
                InvalidRequestError,
                "replayed",
                "this sealed request was opened before; seal a fresh one",
            )
            .no_retry(),
            Self::KeyWornOut => {
                answer(503, ServerError, "key_worn_out", "fresh keys are about to take over")
                    .after(1)
            }
            Self::Busy => answer(
                429,
                RateLimitError,
                "proxy_busy",
                "this proxy has as many requests open as it may",
            )
            .after(1),
            Self::Unauthorized => answer(
                401,
                AuthenticationError,
                "invalid_api_key",
                "this proxy asks for its own key: send `Authorization: Bearer KEY`",
            )
            .challenge("Bearer realm=\"obscura proxy\""),
            Self::UnknownHost => answer(
                403,
                InvalidRequestError,
                "unknown_host",
                "`Host` is none of this machine's own names",
            ),
            Self::ForeignOrigin => answer(
                403,
                InvalidRequestError,
                "foreign_origin",
                "`Origin` is not this proxy's own: a page of another site sent this",
            ),
            Self::NotFound => answer(
                404,
                InvalidRequestError,
                "not_found",
                "there is nothing here, or not any more",
            ),
            Self::NotSealed => answer(
                404,
                InvalidRequestError,
                "not_sealed",
                "this proxy sends nodes sealed image requests and nothing else, so nothing was sent: see \
                 / for what it serves",
            ),
            Self::MethodNotAllowed => answer(
                405,
                InvalidRequestError,
                "method_not_allowed",
                "the route does not take this method",
            ),
            Self::Node(failure) => of_node(failure),
            Self::WrongAnswer => answer(
                502,
                ServerError,
                "answer_invalid",
                "the node's answer is not what was asked for",
            )
            .no_retry(),
            Self::Internal => {
                answer(500, ServerError, "internal", "the proxy failed; its log says more")
                    .no_retry()
            }
        }
    }
}

fn of_node(failure: Failure) -> ErrorAnswer {
    use ErrorKind::ServerError;
    match failure {
        Failure::Untrusted => answer(
            502,
            ServerError,
            "node_untrusted",
            "no node's evidence is accepted, and nothing was sent to any: /verification says why",
        )
        .no_retry(),
        Failure::Unreachable => answer(
            502,
            ServerError,
            "node_unreachable",
            "no node can be reached, and nothing was sent",
        )
        .after(5),
        Failure::Refused { refusal, with_own_key } => of_refusal(&refusal, with_own_key),
        Failure::Broken(ClientError::Http(_) | ClientError::StreamCut) => answer(
            502,
            ServerError,
            "answer_broken",
            "the connection to the node ended before its answer did",
        )
        .no_retry(),
        Failure::Broken(_) => answer(
            502,
            ServerError,
            "answer_invalid",
            "what came back is not the attested node's answer to this request, and was thrown away",
        )
        .no_retry(),
    }
}

/// A node's words are passed on where they are about the caller's request. What they say of anything
/// else, the caller cannot mend.
fn of_refusal(refusal: &Refusal, with_own_key: bool) -> ErrorAnswer {
    let text =
        |text: &Option<printable::Printable>| text.as_ref().map(|text| text.as_str().to_owned());
    let (status, kind, code) = match refusal.status {
        401 | 403 if !with_own_key => {
            return answer(
                502,
                ErrorKind::ServerError,
                "node_credentials",
                "the node does not accept this proxy's key, or its address",
            )
            .no_retry();
        }
        401 => (401, ErrorKind::AuthenticationError, text(&refusal.code)),
        // In a stream that has begun there is no status.
        200 => (200, refusal.kind.unwrap_or(ErrorKind::ServerError), text(&refusal.code)),
        status @ (400 | 404 | 409 | 413) => {
            (status, refusal.kind.unwrap_or(ErrorKind::InvalidRequestError), text(&refusal.code))
        }
        429 => (429, ErrorKind::RateLimitError, text(&refusal.code)),
        status @ (500 | 503) => (status, ErrorKind::ServerError, text(&refusal.code)),
        _ => (502, ErrorKind::ServerError, Some("node_refused".to_owned())),
    };
    let error = ErrorObject {
        message: refusal.message.as_str().to_owned(),
        kind,
        param: text(&refusal.param),
        code,
    };
    ErrorAnswer {
        retry_after_secs: refusal.retry_after.map(|wait| wait.as_secs()),
        should_retry: refusal.should_retry,
        ..ErrorAnswer::of(status, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.answer().into_response()
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(invalid: InvalidRequest) -> Self {
        match invalid {
            InvalidRequest::NotAnObject => Self::Body(BodyError::NotAnObject),
            InvalidRequest::Parameter(invalid) => Self::Invalid(invalid),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::Node(failure)
    }
}

impl From<ClientError> for ApiError {
    /// Of a stream that has begun.
    fn from(error: ClientError) -> Self {
        Self::Node(match error {
            ClientError::Refused(refusal) => Failure::Refused { refusal, with_own_key: false },
            error => Failure::Broken(error),
        })
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::StaleKey { .. } => Self::StaleKey,
            OpenError::Replayed => Self::Replayed,
            OpenError::ReplayCacheFull => Self::KeyWornOut,
            _ => Self::Malformed,
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        tracing::error!(%error, "sealing for the caller failed");
        Self::Internal
    }
}
