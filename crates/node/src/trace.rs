//! One line a request in the log: what came, what was answered, how long it took. Never a body,
//! a query or a header of the client's choosing but its request id.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;

use crate::node::Node;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 64;

/// Gives the request an id, or takes over the client's, and logs its end.
pub(crate) async fn request(
    State(node): State<Arc<Node>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .filter(|id| is_plain(id.as_bytes()))
        .cloned()
        .unwrap_or_else(fresh_id);
    // The route's pattern, not the path: a path is the client's to fill.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        route
    );
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    node.traffic().answered(route, response.status().as_u16());
    span.in_scope(|| {
        tracing::info!(
            status = response.status().as_u16(),
            milliseconds = started.elapsed().as_millis() as u64,
            "answered"
        );
    });
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

fn is_plain(id: &[u8]) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn fresh_id() -> HeaderValue {
    // Only a name for the log: without randomness it is the same for all, and nothing else breaks.
    let number = getrandom::u64().unwrap_or_default();
    HeaderValue::from_str(&format!("{number:016x}")).expect("hex digits are a header value")
}
