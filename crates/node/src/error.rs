//! Every answer that is not a success: its status, its body, its headers. Vague outside, exact
//! inside.

use attest::{binding::InvalidNonce, evidence::EvidenceError};
use axum::{
    http::{HeaderValue, header::CONNECTION},
    response::{IntoResponse, Response},
};
use engine::{Busy, GenerateError};
use protocol::{
    ConfidentialComputeResponse, ErrorKind, ErrorObject, InvalidParameter, InvalidRequest,
};
use seal::{KeyId, OpenError, SealError};
use web::{
    answer::{ErrorAnswer, answer},
    body_error::BodyError,
};

/// The one text for everything from base64 to the body's JSON: which of them failed is not
/// told.
const MALFORMED: &str = "the request is malformed or could not be opened";

/// RFC 9110, 11.6.1, and RFC 6750, 3: a request without a key is told no error.
const CHALLENGE: &str = "Bearer realm=\"obscura\"";
const CHALLENGE_INVALID: &str = "Bearer realm=\"obscura\", error=\"invalid_token\"";

/// Why a request is not answered with images.
pub(crate) enum ApiError {
    /// The envelope, its opening, or the JSON within.
    Malformed,
    /// The body, before anybody looks at what it asks for.
    Body(BodyError),
    /// A rule that a readable body breaks, on a route in clear text.
    Invalid(InvalidParameter),
    /// The same, told to the client alone.
    Sealed(Box<ConfidentialComputeResponse>),
    /// Sealed to a key this node does not hold.
    StaleKey {
        current_key_id: KeyId,
    },
    /// No credentials that could let it in.
    Unauthorized,
    /// A bearer key that is not one of ours.
    InvalidKey,
    /// No key that opens the figures.
    NoMetricsKey,
    /// The proxy's signature has paid for many other sealings of this body of late.
    SignatureSpent,
    Replayed,
    /// The bodies of others fill the memory that there is for bodies.
    BodiesBusy,
    /// Its client has as many requests open as one may.
    TooManyRequests,
    /// The name by which the client calls this node may be anybody's.
    UnknownHost,
    /// A page of another site sent it.
    ForeignOrigin,
    NotFound,
    /// No route has this path.
    NoRoute,
    /// The route is there, and the operator did not turn it on.
    RouteOff,
    /// The build has no page that shows the routes.
    #[cfg(not(feature = "docs"))]
    NoViewer,
    MethodNotAllowed,
    QueueFull {
        retry_after_secs: u64,
    },
    /// The client holds all places that it may hold; others still find some.
    QueueShareFull {
        retry_after_secs: u64,
    },
    /// What waits already takes longer than a request may.
    QueueSlow {
        retry_after_secs: u64,
    },
    /// The request was taken on, and took longer than it may.
    Deadline,
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
        let closes = matches!(self, Self::Draining);
        let mut response = self.answer().into_response();
        if closes {
            // The client's next connection should find another node.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The next of few steps: exact seconds would tell what others asked for.
fn coarse(secs: u64) -> u64 {
    const STEPS_SECS: [u64; 5] = [1, 5, 20, 60, 120];
    STEPS_SECS.into_iter().find(|step| secs <= *step).unwrap_or(120)
}

impl ApiError {
    /// What a stream that has begun says instead of a status.
    pub(crate) fn into_object(self) -> ErrorObject {
        self.answer().error
    }

    /// The one place where an error becomes a status and words.
    fn answer(self) -> ErrorAnswer {
        use ErrorKind::{InvalidRequestError, RateLimitError, ServerError, StaleKey};
        match self {
            Self::Malformed => answer(400, InvalidRequestError, "", MALFORMED),
            Self::Body(error) => error.into(),
            Self::Invalid(error) => (&error).into(),
            Self::Sealed(envelope) => answer(
                400,
                InvalidRequestError,
                "",
                "the request breaks a rule; the sealed body says which",
            )
            .sealed(envelope),
            Self::StaleKey { current_key_id } => answer(
                422,
                StaleKey,
                "stale_key",
                format!("`node_dh_public_key` is not held here; the key is now {current_key_id}"),
            ),
            Self::Unauthorized => {
                unauthorized("no valid credentials: send `Authorization: Bearer KEY`")
                    .challenge(CHALLENGE)
            }
            Self::InvalidKey => unauthorized("the bearer key is none of this node's keys")
                .challenge(CHALLENGE_INVALID),
            Self::NoMetricsKey => unauthorized(
                "figures are for holders of a metrics key (`metrics_keys_sha256`), sent as `Authorization: Bearer KEY`; \
                 no other key opens them",
            )
            .challenge(CHALLENGE),
            Self::SignatureSpent => answer(
                429,
                RateLimitError,
                "signature_spent",
                "`X-Signature` has paid for many sealings of this body in the last minutes; a body that differs, \
                 by a `padding` say, has another",
            )
            .after(60),
            Self::Replayed => answer(
                409,
                InvalidRequestError,
                "replayed",
                "this sealed request was opened before; seal a fresh one",
            )
            .no_retry(),
            Self::BodiesBusy => answer(
                503,
                ServerError,
                "bodies_busy",
                "too many requests are being received at once",
            )
            .after(1),
            Self::TooManyRequests => answer(
                429,
                RateLimitError,
                "too_many_requests",
                "this address has as many requests open as one may",
            )
            .after(1),
            Self::UnknownHost => answer(
                403,
                InvalidRequestError,
                "unknown_host",
                "`Host` is neither this machine's own name nor one of `allowed_hosts`",
            ),
            Self::ForeignOrigin => answer(
                403,
                InvalidRequestError,
                "foreign_origin",
                "`Origin` is neither this node's own nor one of those that are allowed",
            ),
            Self::NotFound => {
                answer(404, InvalidRequestError, "not_found", "there is nothing here")
            }
            // Without the path, in which anything may stand.
            Self::NoRoute => answer(
                404,
                InvalidRequestError,
                "not_found",
                "there is no such route: the base of the API ends in `/v1`, as in `/v1/images/generations`, and \
                 `/openapi.json` lists all routes",
            ),
            Self::RouteOff => answer(
                404,
                InvalidRequestError,
                "route_off",
                "prompts in clear text are off here: seal them (`obscura proxy` stands beside programs that \
                 cannot), or turn this route on with `allow_plaintext = true` where TLS ends in the node",
            ),
            #[cfg(not(feature = "docs"))]
            Self::NoViewer => answer(
                404,
                InvalidRequestError,
                "route_off",
                "this build shows no pages (feature `docs`): `/openapi.json` says the same, to any viewer",
            ),
            Self::MethodNotAllowed => answer(
                405,
                InvalidRequestError,
                "method_not_allowed",
                "the route does not take this method",
            ),
            Self::QueueFull { retry_after_secs } => {
                answer(429, RateLimitError, "queue_full", "the queue is full")
                    .after(coarse(retry_after_secs))
            }
            Self::QueueShareFull { retry_after_secs } => answer(
                429,
                RateLimitError,
                "queue_share_full",
                "as many requests of this client wait or run as one client may have",
            )
            .after(coarse(retry_after_secs)),
            Self::QueueSlow { retry_after_secs } => answer(
                429,
                RateLimitError,
                "queue_slow",
                "the queue takes longer than a request may",
            )
            .after(coarse(retry_after_secs)),
            Self::Deadline => answer(
                503,
                ServerError,
                "deadline_exceeded",
                "the request took longer than this node allows",
            )
            .no_retry(),
            Self::KeyWornOut => {
                answer(503, ServerError, "key_worn_out", "fresh keys are about to take over")
                    .after(1)
            }
            Self::Loading => {
                answer(503, ServerError, "loading", "the model is still loading").after(5)
            }
            Self::Draining => answer(503, ServerError, "draining", "the node is stopping").after(5),
            Self::InvalidNonce => {
                answer(400, InvalidRequestError, "invalid_nonce", InvalidNonce.to_string())
            }
            Self::QuotesBusy { retry_after_secs } => {
                answer(429, RateLimitError, "quotes_busy", "too many verifiers are asking")
                    .after(coarse(retry_after_secs))
            }
            Self::NoEvidence => {
                answer(503, ServerError, "no_evidence", "the TEE gives no evidence now").after(5)
            }
            Self::Internal => {
                answer(500, ServerError, "", "the image could not be made").no_retry()
            }
        }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(error: InvalidRequest) -> Self {
        match error {
            InvalidRequest::NotAnObject => Self::Body(BodyError::NotAnObject),
            InvalidRequest::Parameter(invalid) => Self::Invalid(invalid),
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

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::QueueFull { retry_after_secs } => Self::QueueFull { retry_after_secs },
            Busy::ShareFull { retry_after_secs } => Self::QueueShareFull { retry_after_secs },
            Busy::TooSlow { retry_after_secs } => Self::QueueSlow { retry_after_secs },
            // Whatever else there will ever be: the node has no room.
            _ => Self::QueueFull { retry_after_secs: 20 },
        }
    }
}

impl From<GenerateError> for ApiError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Draining => Self::Draining,
            GenerateError::Deadline => Self::Deadline,
            // Whatever else there will ever be: the cause is in the log.
            _ => Self::Internal,
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

fn unauthorized(message: &str) -> ErrorAnswer {
    answer(401, ErrorKind::AuthenticationError, "invalid_api_key", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_one_of_few() {
        assert_eq!(
            [0, 1, 2, 19, 21, 61, 121, u64::MAX].map(coarse),
            [1, 1, 5, 20, 60, 120, 120, 120]
        );
    }
}
