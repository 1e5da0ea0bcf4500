//! `GET /v1/attestation?nonce=`: everything a verifier needs to decide whether to trust this node.

use std::sync::Arc;

use attest::binding::Nonce;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
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

/// Open to all: a verifier is a stranger. How often and how many at once is bounded by the attester.
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
