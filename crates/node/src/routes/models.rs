//! `GET /v1/models` and `/v1/models/{id}`, in OpenAI's shape.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use protocol::{ErrorBody, Model, ModelCapabilities, ModelList};
use web::path::PathName;

use super::Answer;
use crate::{
    error::ApiError,
    node::{Node, Service},
};

/// The models that are served
#[utoipa::path(
    get, path = "/v1/models", tag = "models",
    operation_id = "list_models",
    responses(
        (status = 200, body = ModelList, description = "In clear text, the first is drawn with where a request names none; \
            for an edit, the first that takes input images"),
        (status = 401, body = ErrorBody, description = "No valid credentials"),
        (status = 503, body = ErrorBody, description = "Loading or stopping"),
    ),
)]
pub(super) async fn list(State(node): State<Arc<Node>>, headers: HeaderMap) -> Answer<ModelList> {
    let service = admit(&node, &headers)?;
    let all = service.all_capabilities().iter().map(|offered| model(&service, offered));
    Ok(Json(ModelList::new(all.collect())))
}

/// One model
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "models",
    operation_id = "retrieve_model",
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
    PathName(id): PathName,
    headers: HeaderMap,
) -> Answer<Model> {
    let service = admit(&node, &headers)?;
    let capabilities = super::capabilities_of(&service, &id)?;
    Ok(Json(model(&service, capabilities)))
}

fn admit(node: &Node, headers: &HeaderMap) -> Result<Arc<Service>, ApiError> {
    let service = node.service()?;
    match node.credentials().admit_key(headers) {
        true => Ok(service),
        false => Err(ApiError::Unauthorized),
    }
}

fn model(service: &Service, capabilities: &ModelCapabilities) -> Model {
    let ModelCapabilities { model, max_input_images, .. } = capabilities;
    Model::new(model, service.ready_since_secs(), *max_input_images)
}
