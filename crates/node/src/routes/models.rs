//! `GET /v1/models` and `/v1/models/{id}`, in OpenAI's shape.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use protocol::{ErrorBody, Model, ModelList};

use super::Answer;
use crate::{
    error::ApiError,
    node::{Node, Service},
};

/// The models that are served
#[utoipa::path(
    get, path = "/v1/models", tag = "models",
    responses(
        (status = 200, body = ModelList, description = "One"),
        (status = 401, body = ErrorBody, description = "No valid credentials"),
        (status = 503, body = ErrorBody, description = "Loading or stopping"),
    ),
)]
pub(super) async fn list(State(node): State<Arc<Node>>, headers: HeaderMap) -> Answer<ModelList> {
    let service = admit(&node, &headers)?;
    Ok(Json(ModelList::new(vec![model(&service)])))
}

/// One model
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models",
    params(("id" = String, Path, description = "Its name; slashes stay slashes")),
    responses(
        (status = 200, body = Model, description = "It is served"),
        (status = 401, body = ErrorBody, description = "No valid credentials"),
        (status = 404, body = ErrorBody, description = "It is not"),
        (status = 503, body = ErrorBody, description = "Loading or stopping"),
    ),
)]
pub(super) async fn one(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Model> {
    let service = admit(&node, &headers)?;
    if id != service.capabilities().model {
        return Err(super::unknown_model(&service));
    }
    Ok(Json(model(&service)))
}

fn admit(node: &Node, headers: &HeaderMap) -> Result<Arc<Service>, ApiError> {
    let service = node.service()?;
    match node.credentials().admit_key(headers) {
        true => Ok(service),
        false => Err(ApiError::Unauthorized),
    }
}

fn model(service: &Service) -> Model {
    Model::new(&service.capabilities().model, service.ready_since_secs())
}
