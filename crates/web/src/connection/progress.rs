//! Requests and answers on their way: what has arrived, and what waits to be taken.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::Version,
};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::runtime::Handle;

use super::request::Request;
use crate::linger;

/// A request's body, which tells how much of it is here, and when that is all.
pub(super) struct Received {
    /// `None` once dropped.
    body: Option<Incoming>,
    version: Version,
    /// `None` once all of it is here.
    request: Option<Arc<Request>>,
}

impl Received {
    pub(super) fn new(body: Incoming, version: Version, request: &Arc<Request>) -> Self {
        let mut this = Self { body: Some(body), version, request: Some(request.clone()) };
        this.note_end();
        this
    }

    fn note_end(&mut self) {
        if self.is_end_stream()
            && let Some(request) = self.request.take()
        {
            request.received();
        }
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match (&frame, &self.request) {
            (Some(Ok(frame)), Some(request)) => {
                request.brought(frame.data_ref().map_or(0, Bytes::len));
            }
            (None, Some(request)) => {
                request.received();
                self.request = None;
            }
            _ => {}
        }
        self.note_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else { return };
        request.body_dropped();
        // On HTTP/1 its connection ends with it, and lingers. What is drained here ends with the connection too, and
        // counts as no request of it.
        if self.version == Version::HTTP_2
            && let Some(body) = self.body.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(linger::drain(body));
        }
    }
}

/// An answer's body, which notes when each of its pieces is taken: HTTP asks for the next one then.
pub struct Answer {
    body: Body,
    request: Arc<Request>,
}

impl Answer {
    pub(super) fn new(body: Body, request: Arc<Request>) -> Self {
        Self { body, request }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.request.working();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_some() {
            self.request.waiting();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
