//! The HTTP surface, one file a family of routes.

mod attestation;
mod client;
mod confidential;
mod health;
mod images;
mod inputs;
mod lengths;
mod lock;
mod models;
mod off_thread;
mod openapi;
mod operations;
mod pages;
mod provenance;
mod respond;
mod stream;

use std::sync::Arc;

use axum::{
    Json, Router, middleware,
    routing::{MethodRouter, get, post},
};

use protocol::{InvalidRequest, ModelCapabilities};

use crate::{
    auth, delivery,
    error::ApiError,
    node::{Node, Service},
    origins::{self, OriginGuard},
    requests, trace,
};

/// Every route of `node`.
pub fn app(node: Arc<Node>) -> Router {
    let keyed = |route: MethodRouter<Arc<Node>>| {
        let credentials = node.credentials().clone();
        route.route_layer(middleware::from_fn_with_state(credentials, auth::require_key))
    };
    let signed = |route: MethodRouter<Arc<Node>>| {
        let credentials = node.credentials().clone();
        let layer = middleware::from_fn_with_state(credentials, auth::require_key_or_signature);
        route.route_layer(layer)
    };
    // What pages of other sites may use, where the operator does not forbid it: nothing in it is
    // secret, and what is sent there is sealed.
    //
    // Bounds and guards stand inside the headers that let a page read a refusal, and a browser's preflight is
    // answered before them.
    let known_host = middleware::from_fn_with_state(node.origins().clone(), origins::known_host);
    let bounded = middleware::from_fn_with_state(node.requests().clone(), requests::bounded);
    let listed = Router::new()
        .route("/v1/confidential/images/generations", signed(post(confidential::generate)))
        .route("/v1/confidential/images/edits", signed(post(confidential::edit)))
        .route("/v1/attestation", get(attestation::report))
        .route("/v1/attestation/configuration", get(attestation::configuration))
        .route("/info", get(operations::info))
        // Before the layers, which answer a browser's preflight in its place.
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(node.origins().clone(), origins::listed_pages))
        .layer(known_host.clone())
        .layer(bounded.clone())
        .layer(node.origins().cors_listed());
    let mut own = Router::new()
        .route("/v1/nodes/lock", keyed(post(lock::lock)))
        .route("/v1/models", keyed(get(models::list)))
        .route("/v1/models/{*id}", keyed(get(models::one)))
        .route("/health", get(health::health))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(pages::docs))
        .route("/docs/{file}", get(pages::file))
        .route("/", get(pages::playground));
    if node.config().allow_plaintext {
        own = own
            .route("/v1/images/generations", keyed(post(images::generate)))
            .route("/v1/images/edits", keyed(post(images::edit)))
            .route("/openai/deployments/{*rest}", keyed(post(images::of_deployment)))
            .route("/v1/images/files/{name}", get(images::file));
    } else {
        own = own
            .route("/v1/images/generations", post(route_off))
            .route("/v1/images/edits", post(route_off))
            .route("/openai/deployments/{*rest}", post(route_off));
    }
    let own = own
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(|| async { ApiError::NoRoute })
        .layer(middleware::from_fn_with_state(node.origins().clone(), origins::own_pages))
        .layer(known_host)
        .layer(bounded)
        .layer(node.origins().cors_own());
    listed
        .merge(own)
        .layer(middleware::from_fn_with_state(node.clone(), trace::request))
        .layer(middleware::from_fn_with_state(node.deliveries().clone(), delivery::track))
        .with_state(node)
}

/// What a listener for probes answers. No line in the log for each: probes come every few seconds.
///
/// It asks for no credentials. On loopback a browser reaches it, and what it says is not for pages whose names lead
/// there; elsewhere its network is the operator's choice, and so are names in it.
pub(crate) fn probes(node: Arc<Node>, is_on_loopback: bool) -> Router {
    let guard = OriginGuard { is_open: is_on_loopback, ..node.config().origin_guard() };
    Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(operations::metrics_probe))
        .fallback(|| async { ApiError::NoRoute })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::new(guard), origins::known_host))
        .with_state(node)
}

/// Without a look at the body, which may be a prompt.
async fn route_off() -> ApiError {
    ApiError::RouteOff
}

/// What the model of this name offers; or an error with what is served instead.
fn capabilities_of<'a>(
    service: &'a Service,
    model: &str,
) -> Result<&'a ModelCapabilities, ApiError> {
    Ok(service.capabilities_of(model).map_err(InvalidRequest::from)?)
}

async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

type Answer<T> = Result<Json<T>, ApiError>;
