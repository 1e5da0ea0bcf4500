//! `GET /v1/models` and `/v1/models/{id}`, in OpenAI's shape.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use protocol::{Model, ModelList};

use super::Answer;
use crate::{
    error::ApiError,
    node::{Node, Service},
};

pub(super) async fn list(State(node): State<Arc<Node>>, headers: HeaderMap) -> Answer<ModelList> {
    let service = admit(&node, &headers)?;
    Ok(Json(ModelList::new(vec![model(&service)])))
}

pub(super) async fn one(
    State(node): State<Arc<Node>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Model> {
    let service = admit(&node, &headers)?;
    if id != service.offer().model {
        return Err(ApiError::UnknownModel);
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
    Model::new(&service.offer().model, service.ready_since_secs())
}
