//! `POST /v1/confidential/images/generations` and `POST /v1/confidential/images/edits`: the way a private image
//! takes.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use engine::{InputImage, Permit, Sharers};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest, Delivery,
    ErrorBody, ImageEvent, ImageRequest, InvalidParameter, InvalidRequest, Operation, Sequenced,
};
use seal::{OpenError, Pending, Plaintext, StreamResponder, Unbegun};
use zeroize::Zeroizing;

use super::{
    client::Client,
    inputs, lengths,
    off_thread::off_thread,
    provenance::Wanted,
    respond::{self, Reader},
    stream::{EventEncoder, EventMessage, Part, Stream},
};
use crate::{
    body::{Body, Bounded, SealedEdit},
    delivery::Outbox,
    error::ApiError,
    metrics::Stage,
    node::{Node, Service},
};

/// Images from a sealed prompt
///
/// Opened, drawn and sealed again inside the TEE. What is sealed are [`CreateImageRequest`] and
/// [`protocol::CreateImageResponse`]; of a stream, each event.
#[utoipa::path(
    post, path = "/v1/confidential/images/generations", tag = "confidential",
    operation_id = "create_sealed_image",
    request_body = ConfidentialComputeRequest,
    responses(
        (status = 200, content(
            (ConfidentialComputeResponse = "application/json"),
            (EventMessage = "text/event-stream"),
        ), description = "Sealed images"),
        (status = 409, body = ErrorBody, description = "This request was opened before"),
        (status = 422, body = ErrorBody, description = "Sealed to a key this node does not hold"),
    ),
)]
pub(super) async fn generate(
    State(node): State<Arc<Node>>,
    Client(client): Client,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let service = node.service()?;
    let call = SealedCall { node: node.clone(), service: service.clone(), client, headers };
    let opened = call.open(body, Operation::Generation)?;
    answer(&node, service, opened).await
}

/// Images from sealed images and a sealed prompt
///
/// As for generations; what is sealed is an [`protocol::EditImageRequest`].
#[utoipa::path(
    post, path = "/v1/confidential/images/edits", tag = "confidential",
    operation_id = "create_sealed_image_edit",
    request_body = ConfidentialComputeRequest,
    responses(
        (status = 200, content(
            (ConfidentialComputeResponse = "application/json"),
            (EventMessage = "text/event-stream"),
        ), description = "Sealed images"),
        (status = 409, body = ErrorBody, description = "This request was opened before"),
        (status = 422, body = ErrorBody, description = "Sealed to a key this node does not hold"),
    ),
)]
pub(super) async fn edit(
    State(node): State<Arc<Node>>,
    Client(client): Client,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let service = node.service()?;
    inputs::refuse_where_useless(&service)?;
    let edit = node.edits().expect(client)?;
    let body = edit.body::<SealedEdit, _>(request, &node).await?;
    let arrived = Instant::now();
    let call = SealedCall { node: node.clone(), service: service.clone(), client, headers };
    let mut opened = edit.read(body, move |body| call.open(body, Operation::Edit)).await??;
    opened.permit = opened.permit.waiting_since(arrived);
    answer(&node, service, opened).await
}

/// What the routes see of a request beside its body.
struct SealedCall {
    node: Arc<Node>,
    service: Arc<Service>,
    client: Sharers,
    headers: HeaderMap,
}

/// A request that was opened, with its place.
struct Opened {
    permit: Permit,
    pending: Pending,
    read: Result<(ImageRequest, Vec<InputImage>, Wanted), InvalidRequest>,
}

impl SealedCall {
    /// Opens a request and reads it, an edit's images included.
    fn open<const MAX_BYTES: usize>(
        self,
        body: Bounded<MAX_BYTES>,
        operation: Operation,
    ) -> Result<Opened, ApiError> {
        let Self { node, service, client, headers } = self;
        let envelope: Result<ConfidentialComputeRequest, ApiError> = body.object();
        drop(body);
        let admission = node.credentials().admit(&headers, envelope.as_ref().ok())?;
        let mut envelope = envelope?;
        super::capabilities_of(&service, &envelope.model_name)?;

        // A place first: a request that finds none stays unopened, and can be sent again.
        let permit = service.engine().reserve(client)?;
        let opened = service
            .metrics()
            .timed(Stage::Open, || service.keyring().open(&envelope, Instant::now()));
        let (plaintext, pending) = opened.inspect_err(|error| {
            if matches!(error, OpenError::Unopenable) {
                service.metrics().unopened();
            }
        })?;
        node.credentials().spend(admission, &envelope)?;
        // Of an edit, tens of megabytes that are needed no more.
        envelope.ciphertext = String::new();
        let read = wipe::stack(|| {
            let read = read(&plaintext, &envelope, operation, &service);
            drop(plaintext);
            read
        });
        Ok(Opened { permit, pending, read })
    }
}

async fn answer(
    node: &Node,
    service: Arc<Service>,
    Opened { permit, pending, read }: Opened,
) -> Result<Response, ApiError> {
    let (request, images, wanted) = match read {
        Ok(read) => read,
        // Which cannot be told apart from a body that could not be opened.
        Err(InvalidRequest::NotAnObject) => return Err(ApiError::Malformed),
        Err(InvalidRequest::Parameter(invalid)) => {
            return Err(seal_refusal(pending, invalid, service).await);
        }
    };
    let measured = wanted.measured(&service).await?;
    let responder = pending.accept()?;
    let signer = responder.statement_signer();
    let prover = wanted.prover(measured, &request, signer, &service)?;

    if let Delivery::Stream { .. } = request.delivery {
        let parts = Some(responder.into_stream()?);
        let operation = request.operation;
        let sealed = Sealed { service: service.clone(), operation, parts, sequence_number: 0 };
        let (outbox, response) = Outbox::open(node.deliveries());
        Stream::new(service, outbox, sealed, prover, request).spawn(permit, images);
        return Ok(response);
    }
    // Who leaves before an engine begins may send the very same envelope again.
    let unbegun = responder.unbegun();
    let permit = permit.on_begin(move || unbegun.into_iter().for_each(Unbegun::begin));
    let output = permit.generate(request, images).await?;
    let envelope = off_thread(move || {
        let usage = respond::usage(&output);
        let (body, file_bytes) =
            respond::body(&output, &Reader::Sealed, &prover, service.metrics())?;
        let filled = lengths::answer(&service, &output.request, file_bytes);
        let sealed = service.metrics().timed(Stage::Seal, || {
            let body = body.to_json_with(filled, seal::padded_capacity);
            responder.seal(body, service.manifest())
        })?;
        Ok::<_, ApiError>(ConfidentialComputeResponse { usage: Some(usage), ..sealed }.to_json())
    })
    .await??;
    Ok(([(CONTENT_TYPE, "application/json")], envelope).into_response())
}

/// Events, each sealed on its own, numbered inside.
struct Sealed {
    service: Arc<Service>,
    operation: Operation,
    /// Gone with the last one.
    parts: Option<StreamResponder>,
    sequence_number: u64,
}

impl EventEncoder for Sealed {
    fn encode(
        &mut self,
        event: ImageEvent,
        part: Part,
        filled_bytes: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let manifest = *self.service.manifest();
        let last = matches!(part, Part::Last(_));
        let body = Sequenced { sequence_number: self.sequence_number, last, event }.to_json_with(
            self.operation,
            filled_bytes,
            seal::padded_capacity,
        );
        self.sequence_number += 1;
        let mut parts = self.parts.take().ok_or(ApiError::Internal)?;
        let service = self.service.clone();
        let envelope = service.metrics().timed(Stage::Seal, || match part {
            Part::Middle => {
                let sealed = parts.seal(body, &manifest)?;
                self.parts = Some(parts);
                Ok::<_, ApiError>(sealed)
            }
            Part::Last(usage) => {
                let sealed = parts.seal_last(body, &manifest)?;
                Ok(ConfidentialComputeResponse { usage, ..sealed })
            }
        })?;
        Ok(envelope.to_json())
    }

    fn names_events(&self) -> bool {
        // What an event is, is inside.
        false
    }
}

/// What was sealed, as a request that keeps every rule.
fn read(
    plaintext: &Plaintext,
    envelope: &ConfidentialComputeRequest,
    operation: Operation,
    service: &Service,
) -> Result<(ImageRequest, Vec<InputImage>, Wanted), InvalidRequest> {
    let body = CreateImageRequest::from_json(plaintext.as_bytes())?;
    let scanned = inputs::scan(body, operation, service)?;
    envelope.check_binding(&scanned.request)?;
    let wanted = Wanted::sealed(&scanned.request, service)?;
    let (request, images) = scanned.decode(service)?;
    Ok((request, images, wanted))
}

async fn seal_refusal(
    pending: Pending,
    invalid: InvalidParameter,
    service: Arc<Service>,
) -> ApiError {
    let sealed = off_thread(move || {
        let body = serde_json::to_vec(&invalid.body()).map_err(|_| ApiError::Internal)?;
        pending.refuse(Zeroizing::new(body), service.manifest()).map_err(ApiError::from)
    });
    match sealed.await {
        Ok(Ok(sealed)) => ApiError::Sealed(Box::new(sealed)),
        Ok(Err(error)) | Err(error) => error,
    }
}
