//! Connections with bounds: how many there may be, in all and of one source; which of them makes way for a
//! new one; and a socket whose peer must take what it is sent.
//!
//! Who serves them takes each with its [`Slot`] from [`ConnectionLimiter::accept`], wraps its stream into
//! a [`Socket`], answers its requests with [`answer`], and ends it when [`Slot::evicted`] resolves.

mod accept;
mod activity;
mod limiter;
mod progress;
mod request;
mod socket;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use hyper::body::Incoming;
use tower::ServiceExt;

use self::progress::Received;
pub use self::{
    limiter::{ConnectionLimiter, Slot},
    progress::Answer,
    socket::{LeastRate, Socket},
};

/// Answers one request, and notes how far it has come.
pub fn answer(
    router: Router,
    request: Request<Incoming>,
    slot: Arc<Slot>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
    let progress = request::Request::begin(slot);
    let version = request.version();
    let request = request.map(|body| Body::new(Received::new(body, version, &progress)));
    let answering = router.oneshot(request);
    async move { Ok(answering.await?.map(|body| Answer::new(body, progress))) }
}
