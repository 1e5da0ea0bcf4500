//! An answer as events: opened one by one, and none missing, repeated, moved or forged.

use protocol::{
    ConfidentialComputeResponse, CreateImageRequest, ImageEvent, Operation, Sequenced, Usage,
};
use seal::{StreamOpener, Verified};

use crate::{
    AttestedNode, Call, Client, ClientError, DangerousClient, NodeKey, Recipient, Refusal,
    answer::Lines, json,
};

impl Client {
    /// Seals `request` to an attested key, and gives its answer as events: images on the way
    /// (`partial_images`), steps (`progress`), images. `stream` is set by itself.
    ///
    /// # Errors
    /// Where the node refuses.
    pub async fn generate_stream(
        &self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<EventStream, ClientError> {
        self.call().generate_stream(request, node).await
    }
}

impl Call<'_> {
    /// As [`Client::generate_stream`].
    ///
    /// # Errors
    /// As [`Client::generate_stream`].
    pub async fn generate_stream(
        self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<EventStream, ClientError> {
        self.stream(request, node.recipient()).await
    }

    async fn stream(
        self,
        mut request: CreateImageRequest,
        node: Recipient<'_>,
    ) -> Result<EventStream, ClientError> {
        request.stream = Some(true);
        let operation = request.operation();
        let (answer, opener) = self.ask(request, node).await?;
        let opener = match node.vouched() {
            Some(attested) => opener.stream_attested(*attested),
            None => opener.stream_unattested(),
        };
        Ok(EventStream { lines: answer.lines()?, opener, operation, expected: 0, end: None })
    }
}

impl DangerousClient<'_> {
    /// The same, sealed to a key that is taken on somebody's word.
    ///
    /// # Errors
    /// Where the node refuses.
    pub async fn generate_stream(
        &self,
        request: CreateImageRequest,
        node: &NodeKey,
    ) -> Result<EventStream, ClientError> {
        self.0.call().stream(request, self.recipient(node)).await
    }
}

/// The events of one answer. A node that is cut off, or a proxy that drops, repeats or reorders
/// events, is an error and never a shorter answer.
pub struct EventStream {
    lines: Lines,
    opener: StreamOpener,
    /// What was asked for, which every event's name says.
    operation: Operation,
    /// The number that the next event must have.
    expected: u64,
    /// What came with the last event, once it came.
    end: Option<End>,
}

/// What came with the last event.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// What the node reports for billing; absent where nothing was made.
    pub usage: Option<Usage>,
    /// What held of the last event, as of every one before it.
    pub verified: Verified,
}

impl EventStream {
    /// The next event; none after the last one.
    ///
    /// # Errors
    /// Where the connection or the stream breaks, or the node says that it failed.
    pub async fn next(&mut self) -> Result<Option<ImageEvent>, ClientError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let data = self.lines.next_data().await?.ok_or(ClientError::StreamCut)?;
        let envelope: ConfidentialComputeResponse = json(&data)?;
        let opened = self.opener.open(&envelope)?;
        let event = Sequenced::from_json(self.operation, opened.body.as_bytes())
            .map_err(|_| ClientError::NotUnderstood)?;
        if event.sequence_number != self.expected {
            return Err(ClientError::StreamOrder {
                expected: self.expected,
                found: event.sequence_number,
            });
        }
        self.expected += 1;
        if event.last {
            self.end = Some(End { usage: envelope.usage, verified: opened.verified });
        }
        match event.event {
            // Out of the seal.
            ImageEvent::Error(event) => {
                Err(ClientError::Refused(Box::new(Refusal::of(200, &event.error).sealed())))
            }
            event => Ok(Some(event)),
        }
    }

    /// What came with the last event, once it came.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }
}
