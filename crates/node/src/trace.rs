//! One line a request in the log: what came, what was answered, how long it took. Never a body,
//! a query or a header of the client's choosing but its request id and its trace's.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use tracing::{Instrument, Span};

use crate::{delivery, error::ApiError, node::Node};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 64;
/// Routes that are asked every few seconds.
const PROBES: [&str; 4] = ["/health", "/healthz", "/metrics", "/readyz"];
/// How requests are counted whose clients hung up, or which the node's end cut off. No answer has this status; nginx
/// counts them by it too.
const LEFT: u16 = 499;
const TRACEPARENT: &str = "traceparent";

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
        method = known_method(request.method()),
        route,
        trace = tracing::field::Empty,
        status = tracing::field::Empty
    );
    let parent = request.headers().get(TRACEPARENT).and_then(|it| Parent::parse(it.as_bytes()));
    if let Some(parent) = parent {
        span.record("trace", format_args!("{:032x}", parent.trace));
        parent.adopt(&span);
    }
    let started = Instant::now();
    let unanswered = Unanswered { node: &node, route, span: &span, started, is_answered: false };
    let mut response = next.run(request).instrument(span.clone()).await;
    unanswered.answered();
    node.traffic().answered(route, response.status().as_u16());
    span.in_scope(|| {
        span.record("status", response.status().as_u16());
        let milliseconds = started.elapsed().as_millis() as u64;
        // A stream's line comes when it ends, from whoever makes its events.
        match delivery::is_stream(&response) {
            true => {}
            // They come every few seconds, for ever.
            false if PROBES.contains(&route) && response.status().is_success() => {
                tracing::debug!(milliseconds, "answered");
            }
            false => tracing::info!(milliseconds, "answered"),
        }
    });
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// A request whose end nobody has told yet. Dropped before it is answered, it is told as one that was left.
struct Unanswered<'a> {
    node: &'a Node,
    route: &'a str,
    span: &'a Span,
    started: Instant,
    is_answered: bool,
}

impl Unanswered<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.is_answered || std::thread::panicking() {
            return;
        }
        self.node.traffic().answered(self.route, LEFT);
        let outcome = match self.node.service() {
            Err(ApiError::Draining) => "unfinished when the node stopped",
            _ => "stopped by its client",
        };
        let milliseconds = self.started.elapsed().as_millis() as u64;
        self.span.in_scope(|| tracing::info!(milliseconds, outcome, "not answered"));
    }
}

/// A method as the log names it: what a client invents may be long, and anything.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] =
        ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Which trace of the caller's a request belongs to: W3C Trace Context, §3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl Parent {
    /// `None` for what the recommendation calls invalid: the request is then the first of a trace.
    fn parse(header: &[u8]) -> Option<Self> {
        let header = std::str::from_utf8(header).ok()?;
        let parts: Vec<&str> = header.split('-').collect();
        let (version, known) = parts.split_at_checked(1)?;
        // Later versions may say more behind; this one says no more.
        let [trace, span, flags, rest @ ..] = known else { return None };
        if version[0] == "ff" || (version[0] == "00" && !rest.is_empty()) {
            return None;
        }
        let parent = Self {
            trace: hex(trace, 32)?,
            span: hex(span, 16)? as u64,
            flags: hex(flags, 2)? as u8,
        };
        (hex(version[0], 2).is_some() && parent.trace != 0 && parent.span != 0).then_some(parent)
    }

    /// Makes `span` the child of the caller's span where traces are exported.
    #[cfg(feature = "otlp")]
    fn adopt(self, span: &tracing::Span) {
        use opentelemetry::trace::{
            SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState,
        };
        use tracing_opentelemetry::OpenTelemetrySpanExt;

        let parent = SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        );
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        // Fails where no traces are exported; there is nothing to be told then.
        let _ = span.set_parent(context);
    }

    #[cfg(not(feature = "otlp"))]
    fn adopt(self, _: &tracing::Span) {}
}

/// So many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_hex))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_named_only_where_it_is_one() {
        let name = |method: &str| known_method(&Method::from_bytes(method.as_bytes()).unwrap());
        assert_eq!(
            (name("GET"), name("get"), name(&"X".repeat(30_000))),
            ("GET", "other", "other")
        );
    }

    #[test]
    fn trace_parents_are_read_strictly() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span: 0x00f0_67aa_0ba9_02b7,
            flags: 1,
        };
        assert_eq!(Parent::parse(good), Some(parent));
        let later = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes";
        assert_eq!(Parent::parse(later), Some(parent));
        for bad in [
            &b""[..],
            b"00",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"\xff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
