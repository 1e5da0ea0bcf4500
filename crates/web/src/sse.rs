//! Server-sent events (WHATWG HTML, 9.2): how an answer of them is written.

use std::time::Duration;

use axum::{
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::{IntoResponse, Response},
};

/// After how long without an event a [`COMMENT`] is sent: what stands between takes it for a sign of life.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A line that readers skip.
pub const COMMENT: &[u8] = b":\n\n";
/// What stands behind an event's data.
pub const END: &[u8] = b"\n\n";

/// What stands before an event's data, which is one line. `name`: where it has one outside of it.
#[must_use]
pub fn head(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("event: {name}\n")) + "data: "
}

/// One event, whole, in a buffer that did not grow: its data may be secret.
#[must_use]
pub fn event(name: Option<&str>, data: &[u8]) -> Vec<u8> {
    [head(name).as_bytes(), data, END].concat()
}

/// An answer whose body is events.
pub fn response(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE.as_str(), "text/event-stream"),
        (CACHE_CONTROL.as_str(), "no-cache"),
        // nginx would hold events back until its buffer is full.
        ("x-accel-buffering", "no"),
    ];
    (headers, body).into_response()
}
