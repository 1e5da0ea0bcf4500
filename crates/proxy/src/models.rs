//! `GET /v1/models`: what the attested nodes say they serve, in OpenAI's shape.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use protocol::{InvalidParameter, Model, ModelList};
use seal::Zeroizing;
use web::path::PathName;

use crate::{
    error::ApiError,
    images::{passed_on, trace},
    pool::Ask,
    proxy::Proxy,
};

pub(crate) async fn list(
    State(proxy): State<Arc<Proxy>>,
    headers: HeaderMap,
) -> Result<Json<ModelList>, ApiError> {
    models(&proxy, &headers).await.map(Json)
}

pub(crate) async fn one(
    State(proxy): State<Arc<Proxy>>,
    PathName(id): PathName,
    headers: HeaderMap,
) -> Result<Json<Model>, ApiError> {
    let list = models(&proxy, &headers).await?;
    let served = list.data.iter().map(|model| &*model.id).collect::<Vec<_>>().join(", ");
    let found = list.data.into_iter().find(|model| model.id == id);
    found.map(Json).ok_or(ApiError::Invalid(InvalidParameter::UnknownModel { served }))
}

async fn models(proxy: &Proxy, headers: &HeaderMap) -> Result<ModelList, ApiError> {
    let _permit = proxy.permit()?;
    let ask = Ask {
        json: Zeroizing::default(),
        model: None,
        unnamed: None,
        key: passed_on(proxy, headers),
        trace: trace(headers),
    };
    Ok(proxy.pool().models(&ask).await?)
}
