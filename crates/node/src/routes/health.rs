//! Whether the process lives, and whether it will serve.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use crate::{error::ApiError, node::Node};

/// Atoma's health check.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The process lives.
pub(super) async fn live() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok")
}

/// Requests will be served: weights loaded, keys made, not draining.
pub(super) async fn ready(State(node): State<Arc<Node>>) -> Result<Json<Value>, ApiError> {
    let service = node.service()?;
    Ok(Json(json!({
        "status": "ready",
        "model": service.offer().model,
        "queue_depth": service.engine().depth(),
    })))
}
