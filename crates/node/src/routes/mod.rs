//! The HTTP surface, one file a family of routes.

mod attestation;
mod confidential;
mod health;
mod images;
mod lengths;
mod lock;
mod models;
mod openapi;
mod operations;
mod pages;
mod respond;
mod stream;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, Request},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    middleware,
    routing::{get, post},
};
use serde::de::DeserializeOwned;
use tokio::time;

use crate::{delivery, error::ApiError, node::Node, trace};

/// The largest body of a request. A prompt of 1000 characters takes at most 4 kB, 12 kB escaped;
/// the rest is room for a client's padding.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// Every route of `node`.
pub fn app(node: Arc<Node>) -> Router {
    let mut router = Router::new()
        .route("/v1/confidential/images/generations", post(confidential::generate))
        .route("/v1/attestation", get(attestation::report))
        .route("/v1/nodes/lock", post(lock::lock))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/health", get(health::health))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(operations::metrics))
        .route("/info", get(operations::info))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(pages::docs))
        .route("/", get(pages::playground));
    if node.config().allow_plaintext {
        router = router
            .route("/v1/images/generations", post(images::generate))
            .route("/v1/images/files/{name}", get(images::file));
    }
    router
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(node.clone(), trace::request))
        .layer(middleware::from_fn_with_state(node.clone(), delivery::track))
        .with_state(node)
}

/// A bounded body of JSON, read whole, in a bounded time.
struct Body(Bytes);

impl FromRequest<Arc<Node>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, node: &Arc<Node>) -> Result<Self, ApiError> {
        // Without a type it is taken for what it must be, as proxies drop headers.
        let media_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if media_type.is_some_and(|media_type| !is_json(media_type)) {
            return Err(ApiError::NotJson);
        }
        // What is declared too long is not even begun to be read.
        let declared = request.body().size_hint().lower();
        if declared > MAX_BODY_BYTES as u64 {
            return Err(ApiError::TooLarge);
        }
        let body = Bytes::from_request(request, node);
        let body = time::timeout(node.config().body_timeout(), body).await;
        body.map_err(|_| ApiError::TooSlow)?.map(Self).map_err(|rejection| {
            match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
                _ => ApiError::Malformed,
            }
        })
    }
}

/// `application/json`, whatever its parameters.
fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

impl Body {
    /// Reads one JSON object.
    fn object<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        // A JSON array would also fill a struct; serde takes either.
        if self.0.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ApiError::Malformed);
        }
        serde_json::from_slice(&self.0).map_err(|_| ApiError::Malformed)
    }
}

type Answer<T> = Result<Json<T>, ApiError>;
