//! `GET /v1/attestation?nonce=`: everything a verifier needs to decide whether to trust this node.

use std::sync::Arc;

use attest::binding::Nonce;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use protocol::ErrorBody;
use serde::Deserialize;

use super::lock::key_header;
use crate::{
    error::ApiError,
    node::{Node, off_thread},
};

#[derive(Deserialize)]
pub(super) struct Question {
    /// Without one the report is of any age, and says so.
    nonce: Option<String>,
}

/// Evidence for a verifier
///
/// Open to all: a verifier is a stranger. How often and how many at once is bounded by the attester.
#[utoipa::path(
    get, path = "/v1/attestation", tag = "confidential",
    params((
        "nonce" = Option<String>, Query, pattern = "^[0-9a-f]{64}$",
        description = "64 hex digits of the verifier's choice"
    )),
    responses(
        (status = 200, body = serde_json::Value, description = "A report"),
        (status = 400, body = ErrorBody, description = "A nonce of another form"),
        (status = 429, body = ErrorBody, description = "Too many verifiers"),
        (status = 503, body = ErrorBody, description = "Loading, stopping, or no evidence now"),
    ),
)]
pub(super) async fn report(
    State(node): State<Arc<Node>>,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(question) = question.map_err(|_| ApiError::InvalidNonce)?;
    let nonce = match question.nonce {
        Some(text) => text.parse().map_err(|_| ApiError::InvalidNonce)?,
        None => Nonce::ABSENT,
    };
    let service = node.service()?;
    let key = key_header(&service);
    let report = off_thread(move || service.report(nonce)).await??;
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((key, headers, Body::from(Bytes::from_owner(report))).into_response())
}
