//! A streamed answer: opened event by event, and told on at once.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use client::{End, EventStream};
use futures_util::stream;
use protocol::{ErrorEvent, ImageEvent, Operation};
use tokio::{sync::OwnedSemaphorePermit, time};
use web::sse;
use zeroize::Zeroizing;

use crate::error::ApiError;

/// How a route writes its events.
pub(crate) trait EventEncoder: Send + 'static {
    /// One server-sent event. `end` is there with the last one; after an error there is none.
    fn encode(&mut self, event: ImageEvent, end: Last<'_>) -> Result<Zeroizing<Vec<u8>>, ApiError>;
}

/// Whether an event is the last one.
#[derive(Clone, Copy)]
pub(crate) enum Last<'a> {
    No,
    /// With what the node said at its end, unless that was an error.
    Yes(Option<&'a End>),
}

/// Events as OpenAI tells them.
pub(super) struct Clear {
    pub(super) operation: Operation,
}

impl EventEncoder for Clear {
    fn encode(&mut self, event: ImageEvent, _: Last<'_>) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let (kind, json) = (event.kind(self.operation), event.to_json(self.operation));
        Ok(Zeroizing::new(sse::event(Some(kind), &json)))
    }
}

/// An answer of events. It is made as fast as it is read: whoever stops reading stops the node.
pub(crate) fn event_stream(
    encoder: impl EventEncoder,
    events: EventStream,
    permit: OwnedSemaphorePermit,
) -> Response {
    let relay = Relay { encoder, events, ended: false, _permit: permit };
    let chunks = stream::unfold(relay, |mut relay| async move {
        let chunk = relay.next().await?;
        Some((Ok::<_, Infallible>(chunk), relay))
    });
    sse::response(Body::from_stream(chunks))
}

struct Relay<E> {
    encoder: E,
    events: EventStream,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl<E: EventEncoder> Relay<E> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        // Waiting for the next event can be given up and taken up again.
        let Ok(next) = time::timeout(sse::KEEP_ALIVE, self.events.next()).await else {
            return Some(Bytes::from_static(sse::COMMENT));
        };
        let encoded = match next {
            Ok(None) => return None,
            Ok(Some(event)) => {
                let end = self.events.end();
                self.ended = end.is_some();
                let last = if self.ended { Last::Yes(end) } else { Last::No };
                wipe::stack(|| self.encoder.encode(event, last))
            }
            // Nothing that came before is taken back, and nothing comes after it.
            Err(error) => {
                self.ended = true;
                let error = ApiError::from(error).into_object();
                self.encoder.encode(ImageEvent::Error(ErrorEvent { error }), Last::Yes(None))
            }
        };
        match encoded {
            Ok(message) => Some(Bytes::from_owner(Secret(message))),
            // The caller sees a stream that was cut.
            Err(_) => None,
        }
    }
}

struct Secret(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
