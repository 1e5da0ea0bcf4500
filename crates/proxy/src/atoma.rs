//! Atoma's SDKs: `POST /v1/nodes/lock` and `POST /v1/confidential/images/generations`, opened here and
//! sealed anew.
//!
//! They seal to whatever key they are handed, check no signature, and neither salt nor pad. So the key
//! that they are handed is this proxy's own, and everything that version 1 of the wire leaves open ends
//! on loopback: what goes out is sealed as by our own client, to a node whose evidence was accepted.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest, ErrorBody,
    ImageEvent, InvalidParameter, InvalidRequest, NodeLockRequest, NodeLockResponse, Operation,
    Sequenced,
};
use seal::{Pending, Plaintext, Responder, StreamResponder, Zeroizing, padded_capacity};
use serde::de::DeserializeOwned;
use web::sse;

use crate::{
    body::Body,
    error::ApiError,
    images::{EventEncoder, Last, event_stream, passed_on, trace},
    pool::{Ask, Failure, Reply, Trusted},
    proxy::Proxy,
};

/// Which key to seal to: this proxy's own, once some node can be trusted.
pub(crate) async fn lock(
    State(proxy): State<Arc<Proxy>>,
    Body(body): Body,
) -> Result<Json<NodeLockResponse>, ApiError> {
    let _: NodeLockRequest = object(&body)?;
    proxy.pool().any().await?;
    Ok(Json(NodeLockResponse {
        public_key: BASE64_STANDARD.encode(proxy.keys().current_public()),
        node_small_id: 0,
        stack_small_id: 0,
        stack_entry_digest: None,
    }))
}

/// Opens, seals anew, sends, opens, and seals for the caller.
pub(crate) async fn generate(
    State(proxy): State<Arc<Proxy>>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let permit = proxy.permit()?;
    let envelope: ConfidentialComputeRequest = object(&body)?;
    let (plaintext, pending) = proxy.keys().ring().open(&envelope, Instant::now())?;
    let read = wipe::stack(|| {
        let read = read(&plaintext, &envelope);
        drop(plaintext);
        read
    });
    let json = match read {
        Ok(json) => json,
        // Which cannot be told apart from a body that could not be opened.
        Err(InvalidRequest::NotAnObject) => return Err(ApiError::Malformed),
        Err(InvalidRequest::Parameter(invalid)) => return Err(refuse(pending, &invalid.body())),
    };
    let (key, trace) = (passed_on(&proxy, &headers), trace(&headers));
    let ask = Ask { json, model: Some(envelope.model_name), unnamed: None, key, trace };
    let (reply, trusted) = match proxy.pool().send(&ask).await {
        Ok(sent) => sent,
        // What a node tells its client alone, this proxy tells its caller alone.
        Err(Failure::Refused { refusal, with_own_key }) if refusal.is_sealed => {
            let error = ApiError::Node(Failure::Refused { refusal, with_own_key }).into_object();
            return Err(refuse(pending, &ErrorBody { error }));
        }
        Err(failure) => {
            // Otherwise the caller may send the very same envelope again, as SDKs do after 429 and 503.
            if failure.may_have_cost_work() {
                pending.use_up();
            }
            return Err(failure.into());
        }
    };
    let responder = pending.accept()?;
    match reply {
        Reply::Stream(events) => {
            let encoder = Sealed::new(responder, &trusted)?;
            Ok(event_stream(encoder, *events, permit))
        }
        Reply::Whole(answer) => {
            let manifest = *trusted.node.model_manifest();
            let usage = answer.usage;
            let sealed = tokio::task::spawn_blocking(move || {
                let body = wipe::stack(|| answer.response.to_json_with(0, padded_capacity));
                responder.seal(body, &manifest)
            });
            let sealed = sealed.await.map_err(|_| ApiError::Internal)??;
            let json = ConfidentialComputeResponse { usage, ..sealed }.to_json();
            Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
        }
    }
}

/// Events, each sealed on its own, numbered inside.
struct Sealed {
    /// Gone with the last one.
    parts: Option<StreamResponder>,
    manifest: [u8; 32],
    sequence_number: u64,
}

impl Sealed {
    fn new(responder: Responder, trusted: &Trusted) -> Result<Self, ApiError> {
        let parts = Some(responder.into_stream()?);
        Ok(Self { parts, manifest: *trusted.node.model_manifest(), sequence_number: 0 })
    }
}

impl EventEncoder for Sealed {
    fn encode(
        &mut self,
        event: ImageEvent,
        last: Last<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, ApiError> {
        let mut parts = self.parts.take().ok_or(ApiError::Internal)?;
        let is_last = matches!(last, Last::Yes(_));
        let event = Sequenced { sequence_number: self.sequence_number, last: is_last, event };
        let body = event.to_json_with(Operation::Generation, 0, padded_capacity);
        self.sequence_number += 1;
        let envelope = match last {
            Last::No => {
                let sealed = parts.seal(body, &self.manifest)?;
                self.parts = Some(parts);
                sealed
            }
            Last::Yes(end) => {
                let usage = end.and_then(|end| end.usage);
                ConfidentialComputeResponse { usage, ..parts.seal_last(body, &self.manifest)? }
            }
        };
        Ok(Zeroizing::new(sse::event(None, &envelope.to_json())))
    }
}

/// What was sealed, as a request's JSON.
fn read(
    plaintext: &Plaintext,
    envelope: &ConfidentialComputeRequest,
) -> Result<Zeroizing<Vec<u8>>, InvalidRequest> {
    let request = CreateImageRequest::from_json(plaintext.as_bytes())?;
    request.check_is_generation()?;
    // As nodes do: nothing binds what the envelope says in clear text.
    match &request.model {
        None => return Err(InvalidParameter::Missing { param: "model" }.into()),
        Some(model) if *model != envelope.model_name => {
            return Err(InvalidParameter::ModelMismatch.into());
        }
        Some(_) => {}
    }
    if request.stream.unwrap_or(false) != envelope.stream.unwrap_or(false) {
        return Err(InvalidParameter::StreamMismatch.into());
    }
    Ok(request.to_json())
}

fn refuse(pending: Pending, body: &ErrorBody) -> ApiError {
    // No answer of a model's: there is no manifest to name.
    let sealed = serde_json::to_vec(body)
        .map_err(|_| ApiError::Internal)
        .and_then(|body| Ok(pending.refuse(Zeroizing::new(body), &[0; 32])?));
    match sealed {
        Ok(sealed) => ApiError::Sealed(Box::new(sealed)),
        Err(error) => error,
    }
}

/// Reads one JSON object.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // A JSON array would also fill a struct; serde takes either.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(ApiError::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| ApiError::Malformed)
}
