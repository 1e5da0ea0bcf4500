//! An answer as events: made as if nobody read it, and read as fast as somebody does.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use hyper::body::Frame;
use tokio::{
    sync::mpsc,
    time::{Interval, interval},
};
use web::sse;

use super::{
    Deliveries, Delivery, Transport,
    chunk::{counted, next_chunk},
};

/// Marks a response whose body is delivered by [`Outbox`].
#[derive(Clone, Copy)]
pub(super) struct IsTracked;

/// Whether an answer is a stream of events, which ends later than its head is sent.
pub(crate) fn is_stream(response: &Response) -> bool {
    response.extensions().get::<IsTracked>().is_some()
}

/// Where a stream's events are put. Nothing here waits for the reader; what has not been read is
/// counted, for its maker to leave out what can be left out.
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Waiting>,
    delivery: Arc<Delivery>,
    unread: Arc<Unread>,
}

/// What has not been read.
#[derive(Default)]
struct Unread {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// One server-sent event.
pub(crate) struct Message {
    /// Outside of the data, where the event has a name there.
    pub(crate) event: Option<&'static str>,
    /// JSON, on one line.
    pub(crate) data: Vec<u8>,
}

struct Waiting {
    parts: VecDeque<Bytes>,
    bytes: usize,
    unread: Arc<Unread>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unread.events.fetch_sub(1, Ordering::Relaxed);
        self.unread.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Outbox {
    /// An outbox, and the answer that reads from it.
    pub(crate) fn open(deliveries: &Arc<Deliveries>) -> (Self, Response) {
        let delivery = deliveries.open(Transport::current(), Instant::now());
        let (sender, receiver) = mpsc::unbounded_channel();
        let outbox = Self { sender, delivery: delivery.clone(), unread: Arc::default() };
        let mut keep_alive = interval(sse::KEEP_ALIVE);
        // Its first tick would be at once.
        keep_alive.reset();
        let body =
            Body::new(Events { receiver, current: None, rest: Bytes::new(), delivery, keep_alive });
        let mut response = sse::response(body);
        response.extensions_mut().insert(IsTracked);
        (outbox, response)
    }

    /// Puts an event behind the others; `false` where nobody is there to read it.
    pub(crate) fn push(&self, message: Message) -> bool {
        let Message { event, data } = message;
        let bytes = data.len();
        let room = Arc::new(self.delivery.hold(bytes));
        let data = counted(data.into(), room);
        let parts = [sse::head(event).into(), data, Bytes::from_static(sse::END)];
        self.unread.events.fetch_add(1, Ordering::Relaxed);
        self.unread.bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting { parts: parts.into(), bytes, unread: self.unread.clone() };
        self.sender.send(waiting).is_ok()
    }

    /// Events that nobody has read.
    pub(crate) fn unread_events(&self) -> usize {
        self.unread.events.load(Ordering::Relaxed)
    }

    /// How long they are in all.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.bytes.load(Ordering::Relaxed)
    }

    /// Resolves when nobody is there to read any more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.delivery.complete(Instant::now());
    }
}

struct Events {
    receiver: mpsc::UnboundedReceiver<Waiting>,
    /// Counts as unread until all of it was taken.
    current: Option<Waiting>,
    rest: Bytes,
    delivery: Arc<Delivery>,
    keep_alive: Interval,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            if let Some(part) = this.current.as_mut().and_then(|waiting| waiting.parts.pop_front())
            {
                this.rest = part;
                continue;
            }
            this.current = None;
            match this.receiver.poll_recv(context) {
                Poll::Ready(Some(waiting)) => {
                    this.keep_alive.reset();
                    this.current = Some(waiting);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(this.keep_alive.poll_tick(context));
                    this.rest = Bytes::from_static(sse::COMMENT);
                }
            }
        }
        Poll::Ready(Some(Ok(Frame::data(next_chunk(&mut this.rest, &this.delivery)))))
    }
}
