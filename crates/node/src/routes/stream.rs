//! An answer as events, while the engine draws.

use std::{sync::Arc, time::Instant};

use engine::{Image, InputImage, Output, PartialImage, Permit, Update, Updates};
use protocol::{
    CompletedEvent, Delivery, ErrorEvent, Format, ImageEvent, ImageRequest, ImageText, ImageUsage,
    InputTokensDetails, Operation, PartialImageEvent, ProgressEvent, Size, Usage,
};
use tracing::Instrument;
use utoipa::ToSchema;

use super::{lengths, off_thread::off_thread, provenance::Prover, respond};
use crate::{
    clock::unix_now,
    delivery::{Message, Outbox},
    error::ApiError,
    node::Service,
};

/// Where so many bytes of events are unread, previews are left out: before they are numbered and
/// sealed, so that the stream stays whole.
const MAX_UNREAD_BYTES: usize = 16 * 1024 * 1024;
/// Where so many events are unread, steps are left out too.
const MAX_UNREAD_EVENTS: usize = 64;

/// How a route writes its events.
pub(super) trait EventEncoder: Send + 'static {
    /// An event as the `data` of one message; where it is sealed, filled up to so many bytes.
    ///
    /// # Errors
    /// Where it cannot be sealed, or comes after the last one.
    fn encode(
        &mut self,
        event: ImageEvent,
        part: Part,
        filled_bytes: usize,
    ) -> Result<Vec<u8>, ApiError>;

    /// Whether an event's name stands outside of it too, as OpenAI's do.
    fn names_events(&self) -> bool;
}

/// One message of an event stream
#[derive(ToSchema)]
#[expect(dead_code, reason = "its shape alone is read, by the OpenAPI document")]
pub(super) struct EventMessage {
    /// The `type` of the event, on the route in clear text.
    event: Option<String>,
    /// JSON: a `PartialImageEvent`, `CompletedEvent`, `ProgressEvent` or `ErrorEvent`; on the
    /// confidential route a `ConfidentialComputeResponse` that one of these is sealed in.
    data: String,
}

/// An event's place in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Others come.
    Middle,
    /// The last one, and what the request is billed by, where it made something.
    Last(Option<Usage>),
}

/// What every event of a request says.
#[derive(Clone)]
struct Style {
    size: Size,
    quality: &'static str,
    format: Format,
}

impl Style {
    fn of(request: &ImageRequest) -> Self {
        Self { size: request.size, quality: request.quality.name(), format: request.format }
    }
}

/// The events of one request.
pub(super) struct Stream<E> {
    service: Arc<Service>,
    /// Away while it works beside the threads that answer.
    encoder: Option<E>,
    outbox: Outbox,
    operation: Operation,
    prover: Arc<Prover>,
    style: Style,
    started: Instant,
    has_failed: bool,
}

/// Nobody is there any more, or nothing is left to be said.
struct Disconnected;

impl<E: EventEncoder> Stream<E> {
    pub(super) fn new(
        service: Arc<Service>,
        outbox: Outbox,
        encoder: E,
        prover: Prover,
        request: &ImageRequest,
    ) -> Self {
        Self {
            service,
            encoder: Some(encoder),
            outbox,
            operation: request.operation,
            prover: Arc::new(prover),
            style: Style::of(request),
            started: Instant::now(),
            has_failed: false,
        }
    }

    /// Begins a stream that ends with the request's images, or with an error. A client that hangs
    /// up takes its request out of the queue, or stops it between two steps; one that reads slowly
    /// holds up nothing but itself.
    pub(super) fn spawn(mut self, permit: Permit, request: ImageRequest, images: Vec<InputImage>) {
        let streaming = async move {
            let ended = self.run(permit, request, images).await;
            let outcome = match ended {
                Ok(()) => "done",
                Err(Disconnected) if self.has_failed => "failed",
                Err(Disconnected) => "stopped by its client",
            };
            let milliseconds = self.started.elapsed().as_millis() as u64;
            tracing::info!(milliseconds, outcome, "answered");
        };
        tokio::spawn(streaming.in_current_span());
    }

    async fn run(
        &mut self,
        permit: Permit,
        request: ImageRequest,
        images: Vec<InputImage>,
    ) -> Result<(), Disconnected> {
        let progress = matches!(request.delivery, Delivery::Stream { progress: true, .. });
        if progress {
            self.step(0, request.steps.get() * request.count.get()).await?;
        }
        let (sender, mut updates) = engine::updates();
        let mut generation = permit.generate_watched(request, images, sender);
        let output = loop {
            tokio::select! {
                biased;
                () = self.outbox.closed() => return Err(Disconnected),
                Some(update) = updates.next() => self.update(update, progress, &updates).await?,
                output = &mut generation => break output,
            }
        };
        match output {
            Ok(output) => {
                // The engine may have been quicker than this task: it tells everything before it
                // answers.
                while let Some(update) = updates.next().await {
                    self.update(update, progress, &updates).await?;
                }
                self.complete(output).await
            }
            Err(error) => self.fail(error.into()).await,
        }
    }

    async fn update(
        &mut self,
        update: Update,
        progress: bool,
        updates: &Updates,
    ) -> Result<(), Disconnected> {
        let has_room = self.outbox.unread_events() < MAX_UNREAD_EVENTS;
        let has_room_for_previews = has_room && self.outbox.unread_bytes() < MAX_UNREAD_BYTES;
        updates.pause_previews(!has_room_for_previews);
        match update {
            Update::Step { done, total } if progress && has_room => self.step(done, total).await,
            Update::Preview(preview) if has_room_for_previews => self.partial(preview).await,
            Update::Step { .. } | Update::Preview(_) => Ok(()),
        }
    }

    async fn step(&mut self, done: usize, total: usize) -> Result<(), Disconnected> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let event = ProgressEvent { step: count(done), steps: count(total) };
        self.send(Part::Middle, move |_| Ok((ImageEvent::Progress(event), 0))).await
    }

    async fn partial(&mut self, preview: PartialImage) -> Result<(), Disconnected> {
        let style = self.style.clone();
        self.send(Part::Middle, move |service| {
            let (b64_json, filled_bytes) = base64(&preview.image, style.format, service)?;
            let event = ImageEvent::PartialImage(PartialImageEvent {
                b64_json,
                partial_image_index: preview.ordinal as u32,
                index: preview.index as u32,
                created_at: unix_now(),
                size: style.size.to_string(),
                quality: style.quality.to_owned(),
                background: respond::BACKGROUND.to_owned(),
                output_format: style.format.name().to_owned(),
            });
            Ok((event, filled_bytes))
        })
        .await
    }

    async fn complete(&mut self, output: Output) -> Result<(), Disconnected> {
        let output = Arc::new(output);
        let count = output.generated.images.len();
        let billed = respond::usage(&output);
        for index in 0..count {
            let part = match index + 1 == count {
                true => Part::Last(Some(billed)),
                false => Part::Middle,
            };
            let (output, prover) = (output.clone(), self.prover.clone());
            self.send(part, move |service| completed(&output, index, &prover, service)).await?;
        }
        Ok(())
    }

    async fn fail(&mut self, error: ApiError) -> Result<(), Disconnected> {
        self.send(Part::Last(None), move |_| Ok((failure(error), 0))).await
    }

    /// Makes an event and the length that it is filled up to, encodes it, and leaves it to whoever reads.
    async fn send(
        &mut self,
        part: Part,
        make: impl FnOnce(&Service) -> Result<(ImageEvent, usize), ApiError> + Send + 'static,
    ) -> Result<(), Disconnected> {
        let Some(mut encoder) = self.encoder.take() else { return Err(Disconnected) };
        let (service, operation) = (self.service.clone(), self.operation);
        let made = off_thread(move || {
            // An image that cannot be encoded ends the stream, and its client is told.
            let ((event, filled_bytes), part) = match make(&service) {
                Ok(made) => (made, part),
                Err(error) => ((failure(error), 0), Part::Last(None)),
            };
            let name = encoder.names_events().then(|| event.kind(operation));
            let data = encoder.encode(event, part, filled_bytes)?;
            let failed = matches!(part, Part::Last(None));
            Ok::<_, ApiError>((encoder, Message { event: name, data }, failed))
        });
        // What cannot be sealed is a cut, which its client notices.
        let Ok(Ok((encoder, message, failed))) = made.await else {
            self.has_failed = true;
            return Err(Disconnected);
        };
        self.encoder = Some(encoder);
        self.has_failed |= failed;
        if self.outbox.push(message) && !failed { Ok(()) } else { Err(Disconnected) }
    }
}

fn failure(error: ApiError) -> ImageEvent {
    ImageEvent::Error(ErrorEvent { error: error.into_object() })
}

fn completed(
    output: &Output,
    index: usize,
    prover: &Prover,
    service: &Service,
) -> Result<(ImageEvent, usize), ApiError> {
    let request = &output.request;
    let image = &output.generated.images[index];
    let (read, made) = respond::tokens(output);
    let read = if index == 0 { read } else { InputTokensDetails::default() };
    let style = Style::of(request);
    let marked = prover.marked(image);
    let file = respond::file(marked.as_ref().unwrap_or(image), request.format, service.metrics())?;
    let filled_bytes = lengths::event(service, image.size, request.format, file.len());
    let (file, provenance) = prover.prove(request, (index, image), file)?;
    let event = ImageEvent::Completed(CompletedEvent {
        b64_json: respond::base64(file),
        index: index as u32,
        created_at: unix_now(),
        size: style.size.to_string(),
        quality: style.quality.to_owned(),
        background: respond::BACKGROUND.to_owned(),
        output_format: request.format.name().to_owned(),
        usage: ImageUsage::new(read, made / request.count.get() as u32),
        seed: Some(request.seed.offset(index).get()),
        revised_prompt: request.revised_prompt(),
        provenance,
        warnings: respond::warnings(output),
    });
    Ok((event, filled_bytes))
}

/// The image's file, and the length that its event is filled up to.
fn base64(
    image: &Image,
    format: Format,
    service: &Service,
) -> Result<(ImageText, usize), ApiError> {
    let file = respond::file(image, format, service.metrics())?;
    let filled_bytes = lengths::event(service, image.size, format, file.len());
    Ok((respond::base64(file), filled_bytes))
}
