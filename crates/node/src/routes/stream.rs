//! An answer as events, while the engine draws.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use engine::{Output, Permit, Picture, Update};
use futures_util::stream;
use protocol::{
    CompletedEvent, ErrorEvent, Format, ImageEvent, ImageRequest, ImageUsage, PartialImageEvent,
    PictureText, ProgressEvent, Usage,
};
use tokio::sync::mpsc;

use super::respond;
use crate::{
    error::ApiError,
    metrics::Metrics,
    node::{Service, off_thread, unix_now},
};

/// Events that wait for a slow client; the engine never waits for it.
const EVENTS_WAITING: usize = 2;
/// What a proxy takes for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How a route writes its events.
pub(super) trait EventEncoder: Send + 'static {
    /// An event as the `data` of one message.
    ///
    /// # Errors
    /// Where it cannot be sealed, or comes after the last one.
    fn encode(&mut self, event: ImageEvent, part: Part) -> Result<Vec<u8>, ApiError>;

    /// Whether an event's name stands outside of it too, as OpenAI's do.
    fn names_events(&self) -> bool;
}

/// An event's place in the stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Others come.
    Middle,
    /// The last one, and what the request is billed by, where it made something.
    Last(Option<Usage>),
}

/// Answers with a stream that ends with the request's pictures, or with an error. A client that
/// hangs up takes its request out of the queue, or stops it between two steps.
pub(super) fn respond(
    service: Arc<Service>,
    permit: Permit,
    request: ImageRequest,
    progress: bool,
    encoder: impl EventEncoder,
) -> Response {
    let (events, inbox) = mpsc::channel(EVENTS_WAITING);
    let style = Style::of(&request);
    let stream = Stream { service, encoder: Some(encoder), events, style };
    tokio::spawn(stream.run(permit, request, progress));
    let events = stream::unfold(inbox, |mut inbox| async move {
        let event: Event = inbox.recv().await?;
        Some((Ok::<_, Infallible>(event), inbox))
    });
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx would hold events back until its buffer is full.
    ([("x-accel-buffering", "no")], sse).into_response()
}

/// What every event of a request says.
#[derive(Clone)]
struct Style {
    size: String,
    quality: &'static str,
    format: Format,
}

impl Style {
    fn of(request: &ImageRequest) -> Self {
        Self {
            size: request.size.to_string(),
            quality: request.quality.name(),
            format: request.format,
        }
    }
}

struct Stream<W> {
    service: Arc<Service>,
    /// Away while it works beside the threads that answer.
    encoder: Option<W>,
    events: mpsc::Sender<Event>,
    style: Style,
}

/// Nobody is there any more, or nothing is left to be said.
struct Disconnected;

impl<W: EventEncoder> Stream<W> {
    async fn run(mut self, permit: Permit, request: ImageRequest, progress: bool) {
        // Nobody is left to be told.
        let _ = self.drive(permit, request, progress).await;
    }

    async fn drive(
        &mut self,
        permit: Permit,
        request: ImageRequest,
        progress: bool,
    ) -> Result<(), Disconnected> {
        let steps = request.steps.get() * request.count.get();
        if progress {
            self.step(0, steps).await?;
        }
        let (sender, mut updates) = mpsc::unbounded_channel();
        let generating = permit.generate_watched(request, sender);
        tokio::pin!(generating);
        let events = self.events.clone();
        let output = loop {
            tokio::select! {
                biased;
                () = events.closed() => return Err(Disconnected),
                Some(update) = updates.recv() => self.update(update, progress).await?,
                output = &mut generating => break output,
            }
        };
        // The engine may have been quicker than this task: it tells everything before it answers.
        while let Ok(update) = updates.try_recv() {
            self.update(update, progress).await?;
        }
        match output {
            Ok(output) => self.complete(output).await,
            Err(failed) => self.fail(failed.into()).await,
        }
    }

    async fn update(&mut self, update: Update, progress: bool) -> Result<(), Disconnected> {
        match update {
            Update::Step { done, total } if progress => self.step(done, total).await,
            Update::Step { .. } => Ok(()),
            Update::Preview { index, ordinal, picture } => {
                self.partial(index, ordinal, picture).await
            }
        }
    }

    async fn step(&mut self, done: usize, total: usize) -> Result<(), Disconnected> {
        let count = |n: usize| u32::try_from(n).unencoder_or(u32::MAX);
        let event = ProgressEvent { step: count(done), steps: count(total) };
        self.send(Part::Middle, move |_| Ok(ImageEvent::Progress(event))).await
    }

    async fn partial(
        &mut self,
        index: usize,
        ordinal: usize,
        picture: Picture,
    ) -> Result<(), Disconnected> {
        let style = self.style.clone();
        self.send(Part::Middle, move |metrics| {
            Ok(ImageEvent::PartialImage(PartialImageEvent {
                b64_json: base64(&picture, style.format, metrics)?,
                partial_image_index: ordinal as u32,
                index: index as u32,
                created_at: unix_now(),
                size: style.size,
                quality: style.quality.to_owned(),
                background: respond::BACKGROUND.to_owned(),
                output_format: style.format.name().to_owned(),
            }))
        })
        .await
    }

    async fn complete(&mut self, output: Output) -> Result<(), Disconnected> {
        let output = Arc::new(output);
        let count = output.generated.pictures.len();
        let billed = respond::usage(&output);
        for index in 0..count {
            let part = match index + 1 == count {
                true => Part::Last(Some(billed)),
                false => Part::Middle,
            };
            let output = output.clone();
            self.send(part, move |metrics| completed(&output, index, metrics)).await?;
        }
        Ok(())
    }

    async fn fail(&mut self, error: ApiError) -> Result<(), Disconnected> {
        self.send(Part::Last(None), move |_| Ok(failure(error))).await
    }

    /// Makes an event, encoders it, and waits for room to send it.
    async fn send(
        &mut self,
        part: Part,
        make: impl FnOnce(&Metrics) -> Result<ImageEvent, ApiError> + Send + 'static,
    ) -> Result<(), Disconnected> {
        let Some(mut encoder) = self.encoder.take() else { return Err(Disconnected) };
        let service = self.service.clone();
        let made = off_thread(move || {
            // A picture that cannot be encoded ends the stream, and its client is told.
            let (event, part) = match make(service.metrics()) {
                Ok(event) => (event, part),
                Err(error) => (failure(error), Part::Last(None)),
            };
            let name = encoder.names_events().then(|| event.kind());
            let data = encoder.encode(event, part)?;
            let text = String::from_utf8(data).map_err(|_| ApiError::Internal)?;
            let event = name.map_or_else(Event::default, |name| Event::default().event(name));
            Ok::<_, ApiError>((encoder, event.data(text), matches!(part, Part::Last(None))))
        });
        // What cannot be sealed is a cut, which its client notices.
        let Ok(Ok((encoder, event, failed))) = made.await else { return Err(Disconnected) };
        self.encoder = Some(encoder);
        self.events.send(event).await.map_err(|_| Disconnected)?;
        if failed { Err(Disconnected) } else { Ok(()) }
    }
}

fn failure(error: ApiError) -> ImageEvent {
    ImageEvent::Error(ErrorEvent { error: error.into_object() })
}

fn completed(output: &Output, index: usize, metrics: &Metrics) -> Result<ImageEvent, ApiError> {
    let request = &output.request;
    let picture = &output.generated.pictures[index];
    let (read, made) = respond::tokens(output);
    let read = if index == 0 { read } else { 0 };
    let style = Style::of(request);
    Ok(ImageEvent::Completed(CompletedEvent {
        b64_json: base64(picture, request.format, metrics)?,
        index: index as u32,
        created_at: unix_now(),
        size: style.size,
        quality: style.quality.to_owned(),
        background: respond::BACKGROUND.to_owned(),
        output_format: request.format.name().to_owned(),
        usage: ImageUsage::new(read, made / request.count.get() as u32),
        seed: Some(request.seed.offset(index).get()),
        revised_prompt: request.revised_prompt(),
        warnings: respond::warnings(output),
    }))
}

fn base64(picture: &Picture, format: Format, metrics: &Metrics) -> Result<PictureText, ApiError> {
    respond::file(picture, format, metrics).map(respond::base64)
}
