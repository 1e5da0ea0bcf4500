//! `POST /v1/nodes/lock`: which key to seal to, as Atoma's SDKs ask it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName},
    response::IntoResponse,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{NodeLockRequest, NodeLockResponse};

use crate::{
    body::Body,
    error::ApiError,
    node::{Node, Service},
};

/// The key that requests are to be sealed to, beside every answer that tells it: a gateway learns
/// from it which node has which key, and reads no body for that.
const KEY_HEADER: HeaderName = HeaderName::from_static("obscura-key");

/// Which key to seal to, as Atoma's SDKs ask it
#[utoipa::path(
    post, path = "/v1/nodes/lock", tag = "confidential",
    operation_id = "lock_node",
    request_body = NodeLockRequest,
    responses((status = 200, body = NodeLockResponse, description = "The key")),
)]
pub(super) async fn lock(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, ApiError> {
    let service = node.service()?;
    if !node.credentials().admit_key(&headers) {
        return Err(ApiError::Unauthorized);
    }
    let request: NodeLockRequest = body.object()?;
    super::capabilities_of(&service, &request.model)?;
    let answer = NodeLockResponse {
        public_key: public_key(&service),
        node_small_id: 0,
        stack_small_id: 0,
        stack_entry_digest: None,
    };
    Ok((key_header(&service), Json(answer)))
}

/// [`KEY_HEADER`] and its value.
pub(super) fn key_header(service: &Service) -> [(HeaderName, String); 1] {
    [(KEY_HEADER, public_key(service))]
}

fn public_key(service: &Service) -> String {
    BASE64_STANDARD.encode(service.keyring().current().exchange_public())
}
