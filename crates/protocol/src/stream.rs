//! The events of a streamed answer: OpenAI's, and our own for progress and, under encryption, order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    ErrorObject, ImageProvenance, ImageText, ImageUsage, Operation, SecretString,
    json::to_filled_json,
};

/// One event. Holds images: no `Debug`, no `Clone`.
pub enum ImageEvent {
    /// Where the request is; only where it asks for these.
    Progress(ProgressEvent),
    /// An image on the way.
    PartialImage(PartialImageEvent),
    /// An image.
    Completed(CompletedEvent),
    /// There will be no (more) images.
    Error(ErrorEvent),
}

/// Our extension: a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressEvent {
    /// Steps done, over all images; 0 while the request waits.
    pub step: u32,
    /// Steps of all images.
    pub steps: u32,
}

/// What the model makes of the noise so far, decoded.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct PartialImageEvent {
    /// The image's file in base64.
    #[schema(value_type = String)]
    pub b64_json: ImageText,
    /// 0, 1, 2: how many came before it.
    pub partial_image_index: u32,
    /// Our extension: which of `n` images this is on the way to, from 0.
    #[serde(default)]
    pub index: u32,
    /// In seconds since 1970.
    pub created_at: u64,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// `low`, `medium` or `high`.
    pub quality: String,
    /// Always `opaque`.
    pub background: String,
    /// `png`, `jpeg` or `webp`.
    pub output_format: String,
}

/// An image that is done.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct CompletedEvent {
    /// The image's file in base64.
    #[schema(value_type = String)]
    pub b64_json: ImageText,
    /// Our extension: which of `n` images this is, from 0.
    #[serde(default)]
    pub index: u32,
    /// In seconds since 1970.
    pub created_at: u64,
    /// `WIDTHxHEIGHT`.
    pub size: String,
    /// `low`, `medium` or `high`.
    pub quality: String,
    /// Always `opaque`.
    pub background: String,
    /// `png`, `jpeg` or `webp`.
    pub output_format: String,
    /// Of this image; the prompt counts towards the first alone, so that the sum is the request's.
    pub usage: ImageUsage,
    /// Our extension: this image's own seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The prompt as it was drawn, where it is not the prompt as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub revised_prompt: Option<SecretString>,
    /// Our extension: what proves where the image is from, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Box<ImageProvenance>>,
    /// As in an answer that is no stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What went wrong after the stream had begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEvent {
    /// As in an answer that is no stream.
    pub error: ErrorObject,
}

impl ImageEvent {
    /// The event's name in the answer to such a request, in SSE's `event:` and in its own `type`.
    #[must_use]
    pub fn kind(&self, operation: Operation) -> &'static str {
        let [progress, partial_image, completed] = names(operation);
        match self {
            Self::Progress(_) => progress,
            Self::PartialImage(_) => partial_image,
            Self::Completed(_) => completed,
            Self::Error(_) => ERROR,
        }
    }

    /// The event as JSON, for the route in clear text.
    #[must_use]
    pub fn to_json(&self, operation: Operation) -> Zeroizing<Vec<u8>> {
        self.write(operation, Order { sequence_number: None, last: None }, 0, |length| length)
    }

    fn write(
        &self,
        operation: Operation,
        order: Order,
        filled_bytes: usize,
        capacity: impl Fn(usize) -> usize,
    ) -> Zeroizing<Vec<u8>> {
        let kind = self.kind(operation);
        match self {
            Self::Progress(event) => {
                to_filled_json(&Tagged { kind, order, event }, 0, filled_bytes, capacity)
            }
            Self::PartialImage(event) => {
                let image = event.b64_json.written_bytes();
                to_filled_json(&Tagged { kind, order, event }, image, filled_bytes, capacity)
            }
            Self::Completed(event) => {
                let image = event.b64_json.written_bytes();
                to_filled_json(&Tagged { kind, order, event }, image, filled_bytes, capacity)
            }
            Self::Error(event) => {
                to_filled_json(&Tagged { kind, order, event }, 0, filled_bytes, capacity)
            }
        }
    }

    fn read(operation: Operation, kind: &str, body: &[u8]) -> Result<Self, NotAnEvent> {
        let [progress, partial_image, completed] = names(operation);
        let event = match kind {
            _ if kind == progress => serde_json::from_slice(body).map(Self::Progress),
            _ if kind == partial_image => serde_json::from_slice(body).map(Self::PartialImage),
            _ if kind == completed => serde_json::from_slice(body).map(Self::Completed),
            ERROR => serde_json::from_slice(body).map(Self::Error),
            _ => return Err(NotAnEvent),
        };
        event.map_err(|_| NotAnEvent)
    }
}

/// An event and its place in the stream, as it is sealed: whoever opens it sees whether one is
/// missing, twice there, or in another's place, and whether the end is the end.
pub struct Sequenced {
    /// From 0, one by one.
    pub sequence_number: u64,
    /// Whether nothing comes after it.
    pub last: bool,
    /// The event.
    pub event: ImageEvent,
}

impl Sequenced {
    /// Writes what is to be sealed, followed by spaces up to `filled_bytes`, into a buffer of
    /// `capacity(length)` bytes.
    #[must_use]
    pub fn to_json_with(
        &self,
        operation: Operation,
        filled_bytes: usize,
        capacity: impl Fn(usize) -> usize,
    ) -> Zeroizing<Vec<u8>> {
        let order = Order { sequence_number: Some(self.sequence_number), last: Some(self.last) };
        self.event.write(operation, order, filled_bytes, capacity)
    }

    /// Reads what was opened of the answer to such a request.
    ///
    /// # Errors
    /// Where it is none of these events, or has no sequence number.
    pub fn from_json(operation: Operation, body: &[u8]) -> Result<Self, NotAnEvent> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
            sequence_number: u64,
            #[serde(rename = "final")]
            last: bool,
        }
        // In two passes, so that an image is read into its own buffer and no other.
        let head: Head = serde_json::from_slice(body).map_err(|_| NotAnEvent)?;
        let event = ImageEvent::read(operation, &head.kind, body)?;
        Ok(Self { sequence_number: head.sequence_number, last: head.last, event })
    }
}

/// Not an event of a stream of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event of a stream of images")]
pub struct NotAnEvent;

const ERROR: &str = "error";

/// Of progress, of an image on the way, of an image.
fn names(operation: Operation) -> [&'static str; 3] {
    match operation {
        Operation::Generation => [
            "image_generation.progress",
            "image_generation.partial_image",
            "image_generation.completed",
        ],
        Operation::Edit => {
            ["image_edit.progress", "image_edit.partial_image", "image_edit.completed"]
        }
    }
}

#[derive(Serialize)]
struct Tagged<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    order: Order,
    #[serde(flatten)]
    event: &'a T,
}

#[derive(Serialize)]
struct Order {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_number: Option<u64>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    last: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_travels_with_its_place() {
        let event = ImageEvent::Progress(ProgressEvent { step: 3, steps: 4 });
        assert_eq!(
            *event.to_json(Operation::Generation),
            *br#"{"type":"image_generation.progress","step":3,"steps":4}"#
        );
        assert_eq!(
            *event.to_json(Operation::Edit),
            *br#"{"type":"image_edit.progress","step":3,"steps":4}"#
        );
        let sealed = Sequenced { sequence_number: 7, last: true, event };
        let sealed = sealed.to_json_with(Operation::Edit, 0, |l| l);
        assert!(Sequenced::from_json(Operation::Generation, &sealed).is_err());
        let back = Sequenced::from_json(Operation::Edit, &sealed).unwrap();
        assert_eq!((back.sequence_number, back.last), (7, true));
        let ImageEvent::Progress(event) = back.event else { panic!("another event") };
        assert_eq!((event.step, event.steps), (3, 4));
    }

    #[test]
    fn what_has_no_place_is_no_event() {
        for body in [
            r#"{"type":"image_generation.progress","step":3,"steps":4}"#,
            r#"{"type":"image_generation.progress","sequence_number":0,"step":3,"steps":4}"#,
            r#"{"type":"other","sequence_number":0,"final":true}"#,
            r#"{"type":"image_generation.completed","sequence_number":0,"final":true}"#,
            "[]",
        ] {
            let read = Sequenced::from_json(Operation::Generation, body.as_bytes());
            assert!(read.is_err(), "{body}");
        }
    }
}
