//! Whether the process lives, and whether it will serve.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use protocol::ErrorBody;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::ApiError, node::Node};

/// Atoma's health check
#[utoipa::path(get, path = "/health", tag = "operations",
    responses((status = 200, body = Health, description = "The process lives")))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The process lives
#[utoipa::path(get, path = "/healthz", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain", description = "It does")))]
pub(super) async fn live() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok")
}

/// Requests will be served: weights loaded, keys made, not draining
///
/// No figures: how long the queue is tells what others asked for. `/metrics` has them.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, body = Ready, description = "They will"),
        (status = 503, body = ErrorBody, description = "They will not, now"),
    ))]
pub(super) async fn ready(State(node): State<Arc<Node>>) -> Result<Json<Ready>, ApiError> {
    let service = node.service()?;
    Ok(Json(Ready { status: "ready", model: service.capabilities().model.clone() }))
}

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// The model's name in requests.
    model: String,
}
