//! What operators look at: numbers for Prometheus, and what runs here.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use protocol::{ErrorBody, MAX_INPUT_FILES_BYTES, ModelCapabilities};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use crate::{
    error::ApiError,
    limits::MAX_BODY_BYTES,
    metrics,
    node::{Node, Service},
};

/// OpenMetrics' text form, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Numbers for Prometheus
///
/// Numbers tell who asks how much and when, if nothing else: for holders of a metrics key, where
/// there are any; else nobody sees them here where credentials are asked for. The listener for probes
/// (`health_listen`) has them too.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text",
            description = "OpenMetrics"),
        (status = 401, body = ErrorBody, description = "No valid metrics key"),
    ))]
pub(super) async fn metrics(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match node.credentials().admit_metrics(&headers) {
        true => Ok(figures(&node)),
        false => Err(ApiError::NoMetricsKey),
    }
}

/// The same, on the listener for probes.
pub(super) async fn metrics_probe(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match node.credentials().admit_metrics_probe(&headers) {
        true => Ok(figures(&node)),
        false => Err(ApiError::NoMetricsKey),
    }
}

fn figures(node: &Node) -> Response {
    let service = node.measured_service();
    let numbers = service.as_deref().map(|service: &Service| {
        let engine = service.engine();
        service.metrics().set_queue(engine.depth(), engine.queue_secs());
        service.metrics()
    });
    let text = metrics::expose(node.traffic(), numbers);
    ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}

/// What runs here, for a person or a dashboard; `/v1/attestation` has what to believe.
#[derive(Serialize, ToSchema)]
pub(super) struct Info {
    /// Of this program.
    version: &'static str,
    /// The commit it was built from, followed by `-modified` where the tree differed from it; null where the build
    /// was not told.
    commit: Option<&'static str>,
    /// The model's name in requests; of several, the first one's.
    model: String,
    /// All of them, in their order.
    models: Vec<InfoModel>,
    /// SHA-256 of the model's manifest, hex; of several models, of all of theirs.
    model_manifest_sha256: String,
    /// Where each engine computes, and in which type.
    engines: Vec<String>,
    /// Whose hardware vouches for this node.
    tee: String,
    /// The name of the key that requests are sealed to.
    key_id: String,
    /// SHA-256 of the SubjectPublicKeyInfo that TLS ends at, hex; null where it does not end in the node.
    tls_spki_sha256: Option<String>,
    /// Whether `/v1/images/generations` is served.
    plaintext: bool,
    limits: InfoLimits,
}

#[derive(Serialize, ToSchema)]
struct InfoModel {
    /// Its name in requests.
    id: String,
    /// How many images an edit may give it; 0 where it draws from text alone.
    input_images: usize,
}

#[derive(Serialize, ToSchema)]
struct InfoLimits {
    /// Of one image.
    max_pixels: u64,
    /// n × width × height.
    max_total_pixels: u64,
    max_prompt_chars: usize,
    max_body_bytes: usize,
    /// Of the files of an edit's input images, together.
    max_input_bytes: usize,
    /// Requests that wait.
    queue_capacity: usize,
    /// Seconds one request may take.
    deadline_secs: u64,
}

/// What runs here
#[utoipa::path(get, path = "/info", tag = "operations",
    responses(
        (status = 200, body = Info, description = "For a person or a dashboard"),
        (status = 503, body = ErrorBody, description = "Loading or stopping"),
    ))]
pub(super) async fn info(State(node): State<Arc<Node>>) -> Answer<Info> {
    let service = node.service()?;
    let config = node.config();
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        commit: crate::COMMIT,
        model: service.capabilities().model.clone(),
        models: service.all_capabilities().iter().map(described).collect(),
        model_manifest_sha256: service.manifest_hex(),
        engines: service.devices().to_vec(),
        tee: service.platform().to_string(),
        key_id: service.key_id().to_string(),
        tls_spki_sha256: node.tls_spki_sha256().map(str::to_owned),
        plaintext: config.allow_plaintext,
        limits: InfoLimits {
            max_pixels: config.max_pixels,
            max_total_pixels: config.max_total_pixels,
            max_prompt_chars: config.max_prompt_chars,
            max_body_bytes: MAX_BODY_BYTES,
            max_input_bytes: MAX_INPUT_FILES_BYTES,
            queue_capacity: config.queue_capacity,
            deadline_secs: config.deadline_secs,
        },
    }))
}

fn described(offered: &ModelCapabilities) -> InfoModel {
    InfoModel { id: offered.model.clone(), input_images: offered.max_input_images }
}
