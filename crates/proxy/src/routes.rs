//! Which routes there are, and what stands before each.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};

use crate::{atoma, error::ApiError, guard, images, models, proxy::Proxy, verification};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Every route of `proxy`.
pub(crate) fn app(proxy: Arc<Proxy>) -> Router {
    let keyed = Router::new()
        .route("/v1/images/generations", post(images::generate))
        .route("/v1/images/edits", post(images::edit))
        .route("/openai/deployments/{*rest}", post(images::of_deployment))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/nodes/lock", post(atoma::lock))
        .route("/v1/confidential/images/generations", post(atoma::generate))
        .route("/verification", get(verification::verdicts))
        .route("/", get(verification::start))
        .route_layer(middleware::from_fn_with_state(proxy.clone(), guard::key));
    keyed
        // The name is the key.
        .route("/v1/images/files/{name}", get(images::file))
        // A released file, in which nothing is secret.
        .route("/page", get(verification::sealing_page))
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .fallback(|| async { ApiError::NotSealed })
        .layer(middleware::from_fn_with_state(proxy.clone(), guard::origin))
        .layer(middleware::from_fn(log))
        .with_state(proxy)
}

/// Whether a request would be sent to some node now.
async fn ready(State(proxy): State<Arc<Proxy>>) -> StatusCode {
    match proxy.pool().members().iter().any(|member| member.reachable().is_some()) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// A request, which is told when it is answered, or dropped since its caller hung up.
struct Unanswered<'a> {
    id: &'a str,
    route: &'a str,
    started: Instant,
    is_answered: bool,
}

impl Unanswered<'_> {
    fn answered(mut self, status: StatusCode) {
        self.is_answered = true;
        let (id, route, milliseconds) = (self.id, self.route, self.milliseconds());
        let status_code = status.as_u16();
        // Probes come every few seconds, for ever.
        if matches!(route, "/healthz" | "/readyz") && status.is_success() {
            tracing::debug!(id, route, status = status_code, milliseconds, "answered");
        } else {
            tracing::info!(id, route, status = status_code, milliseconds, "answered");
        }
    }

    fn milliseconds(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered && !std::thread::panicking() {
            let (id, route, milliseconds) = (self.id, self.route, self.milliseconds());
            let outcome = "stopped by its caller";
            tracing::info!(id, route, milliseconds, outcome, "not answered");
        }
    }
}

/// A line a request: which route, what came of it, how long it took. Nothing that a caller wrote.
async fn log(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let id = format!("{:016x}", getrandom::u64().unwrap_or_default());
    let unanswered = Unanswered { id: &id, route, started: Instant::now(), is_answered: false };
    let mut response = next.run(request).await;
    unanswered.answered(response.status());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    response
}
