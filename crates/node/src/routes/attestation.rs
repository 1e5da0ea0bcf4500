//! `GET /v1/attestation?nonce=`: everything a verifier needs to decide whether to trust this node.

use std::sync::Arc;

use attest::{binding::Nonce, evidence::Source};
use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{
        Extensions, HeaderMap,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use protocol::ErrorBody;
use serde::Deserialize;

use super::lock::key_header;
use crate::{address::Peer, error::ApiError, node::Node};

#[derive(Deserialize)]
pub(super) struct Question {
    /// Without one the report is of any age, and says so.
    nonce: Option<String>,
}

/// Evidence for a verifier
///
/// Open to all: a verifier is a stranger. One quote answers all who wait, each by its path to the root
/// that the quote binds; how many wait, and how many of one source while others ask, the attester bounds.
#[utoipa::path(
    get, path = "/v1/attestation", tag = "confidential",
    operation_id = "attestation",
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
    headers: HeaderMap,
    extensions: Extensions,
    question: Result<Query<Question>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(question) = question.map_err(|_| ApiError::InvalidNonce)?;
    let nonce = match question.nonce {
        Some(text) => text.parse().map_err(|_| ApiError::InvalidNonce)?,
        None => Nonce::ABSENT,
    };
    let service = node.service()?;
    let key = key_header(&service);
    let report = service.report(nonce, source(&node, &headers, &extensions)).await?;
    let described = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((key, described, Body::from(Bytes::from_owner(report))).into_response())
}

/// The node's configuration, as far as it can change who reads a prompt
///
/// The text whose SHA-256 every keyset names as `configuration_sha256`.
#[utoipa::path(
    get, path = "/v1/attestation/configuration", tag = "confidential",
    operation_id = "attested_configuration",
    responses((status = 200, body = String, content_type = "text/plain", description = "The text")),
)]
pub(super) async fn configuration(State(node): State<Arc<Node>>) -> Response {
    let described = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (described, node.config().evidence()).into_response()
}

/// Who asks: the client that a trusted forwarder names, or the peer.
fn source(node: &Node, headers: &HeaderMap, extensions: &Extensions) -> Option<Source> {
    let Peer(peer) = extensions.get::<Peer>().copied()?;
    Some(node.requests().forwarders().client_address(headers, peer).into())
}
