//! The HTTP surface, one file a family of routes.

mod attestation;
mod confidential;
mod health;
mod images;
mod lock;
mod models;
mod respond;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request},
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use serde::de::DeserializeOwned;

use crate::{error::ApiError, node::Node, trace};

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
        .route("/readyz", get(health::ready));
    if node.config().allow_plaintext {
        router = router.route("/v1/images/generations", post(images::generate));
    }
    router
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(trace::request))
        .with_state(node)
}

/// A bounded body, read whole.
struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
                _ => ApiError::Malformed,
            }
        })
    }
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
