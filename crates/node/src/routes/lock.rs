//! `POST /v1/nodes/lock`: which key to seal to, as Atoma's SDKs ask it.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{NodeLockRequest, NodeLockResponse};

use super::{Answer, Body};
use crate::{error::ApiError, node::Node};

/// Which key to seal to, as Atoma's SDKs ask it
#[utoipa::path(
    post, path = "/v1/nodes/lock", tag = "confidential",
    request_body = NodeLockRequest,
    responses((status = 200, body = NodeLockResponse, description = "The key")),
)]
pub(super) async fn lock(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<NodeLockResponse> {
    let service = node.service()?;
    if !node.credentials().admit_key(&headers) {
        return Err(ApiError::Unauthorized);
    }
    let request: NodeLockRequest = body.object()?;
    if request.model != service.offer().model {
        return Err(ApiError::UnknownModel);
    }
    Ok(Json(NodeLockResponse {
        public_key: BASE64_STANDARD.encode(service.keyring().current().exchange_public()),
        node_small_id: 0,
        stack_small_id: 0,
        stack_entry_digest: None,
    }))
}
