//! `POST /v1/images/generations`: OpenAI's route, in clear text, where the operator allows it.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use protocol::{CreateImageRequest, CreateImageResponse, ImageRequest};

use super::{Answer, Body, respond};
use crate::{
    error::ApiError,
    node::{Node, off_thread, unix_now},
};

pub(super) async fn generate(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer<CreateImageResponse> {
    let service = node.service()?;
    if !node.credentials().admit_key(&headers) {
        return Err(ApiError::Unauthorized);
    }
    let request = CreateImageRequest::from_json(&body)
        .map_err(|_| ApiError::Malformed)?
        .and_then(|body| ImageRequest::parse(body, service.offer(), || service.draw_seed()))
        .map_err(ApiError::Invalid)?;
    drop(body);
    let painted = service.engine().reserve()?.generate(request).await?;
    off_thread(move || respond::body(painted, unix_now())).await?.map(Json)
}
