//! An answer whose whole body is there.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};

use super::{
    Deliveries, Delivery, Room, Transport,
    chunk::{counted, next_chunk},
    events::IsTracked,
};

/// Delivers the answers of every route, within bounds of time and memory.
pub(crate) async fn track(
    State(deliveries): State<Arc<Deliveries>>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let is_empty = response.body().is_end_stream();
    if is_empty || response.extensions().get::<IsTracked>().is_some() {
        return response;
    }
    let now = Instant::now();
    let delivery = deliveries.open(Transport::current(), now);
    delivery.complete(now);
    response.map(|body| Body::new(Whole::new(body, &delivery)))
}

struct Whole {
    body: Body,
    /// What the body gave and no connection has taken yet.
    rest: Bytes,
    room: Arc<Room>,
}

impl Whole {
    fn new(body: Body, delivery: &Arc<Delivery>) -> Self {
        let bytes = body.size_hint().lower();
        let room = delivery.hold(usize::try_from(bytes).unwrap_or(usize::MAX));
        Self { body, rest: Bytes::new(), room: Arc::new(room) }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(bytes) => self.rest = counted(bytes, self.room.clone()),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let delivery = self.room.delivery.clone();
        Poll::Ready(Some(Ok(Frame::data(next_chunk(&mut self.rest, &delivery)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        if let Some(upper) = hint.upper() {
            all.set_upper(upper + rest);
        }
        all.set_lower(hint.lower() + rest);
        all
    }
}
