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

/// How a caller is told an event.
pub(crate) trait Teller: Send + 'static {
    /// One server-sent event. `end` is there with the last one; after an error there is none.
    fn tell(&mut self, event: ImageEvent, end: Last<'_>) -> Result<Zeroizing<Vec<u8>>, ApiError>;
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

impl Teller for Clear {
    fn tell(&mut self, event: ImageEvent, _: Last<'_>) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let (kind, json) = (event.kind(self.operation), event.to_json(self.operation));
        Ok(Zeroizing::new(sse::event(Some(kind), &json)))
    }
}

/// An answer of events. It is made as fast as it is read: whoever stops reading stops the node.
pub(crate) fn event_stream(
    teller: impl Teller,
    events: EventStream,
    permit: OwnedSemaphorePermit,
) -> Response {
    let telling = Telling { teller, events, ended: false, _permit: permit };
    let chunks = stream::unfold(telling, |mut telling| async move {
        let chunk = telling.next().await?;
        Some((Ok::<_, Infallible>(chunk), telling))
    });
    sse::response(Body::from_stream(chunks))
}

struct Telling<T> {
    teller: T,
    events: EventStream,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl<T: Teller> Telling<T> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        // Waiting for the next event can be given up and taken up again.
        let Ok(next) = time::timeout(sse::KEEP_ALIVE, self.events.next()).await else {
            return Some(Bytes::from_static(sse::COMMENT));
        };
        let told = match next {
            Ok(None) => return None,
            Ok(Some(event)) => {
                let end = self.events.end();
                self.ended = end.is_some();
                let last = if self.ended { Last::Yes(end) } else { Last::No };
                wipe::stack(|| self.teller.tell(event, last))
            }
            // Nothing that came before is taken back, and nothing comes after it.
            Err(error) => {
                self.ended = true;
                let error = ApiError::from(error).into_object();
                self.teller.tell(ImageEvent::Error(ErrorEvent { error }), Last::Yes(None))
            }
        };
        match told {
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
