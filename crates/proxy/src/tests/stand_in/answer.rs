//! The stand-in's answers, sound or not.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{
    CompletedEvent, ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest,
    ErrorBody, ErrorKind, ErrorObject, ImageEvent, ImageUsage, InputTokensDetails, Operation,
    ProgressEvent, Sequenced,
};
use seal::OpenError;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{IMAGE, Inner, MANIFEST, redirect};

/// What is wrong with the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    Sound,
    /// 422 for ever.
    Stale,
    /// 429 with this `Retry-After`, for ever.
    Busy(u64),
    /// A refusal with this status, in clear text.
    Status(u16),
    /// It serves another model.
    OtherModel,
    ForeignReceipt,
    NoReceipt,
    FlippedBit,
    /// The answer to an earlier request.
    Earlier,
    InClearText,
    Redirected,
    OtherCount,
    RemoteUrl,
    Hangup,
    // Of streams:
    Dropped,
    Swapped,
    Repeated,
    Cut,
    FlippedEvent,
    SealedError,
}

pub(super) async fn generate(
    State(node): State<Arc<Inner>>,
    headers: HeaderMap,
    Json(envelope): Json<ConfidentialComputeRequest>,
) -> Response {
    node.seen.lock().unwrap().push(headers);
    node.stacks.lock().unwrap().push(envelope.stack_small_id);
    let answer = *node.answer.lock().unwrap();
    match answer {
        Answer::Stale => return refusal(422, ErrorKind::StaleKey, "stale_key"),
        Answer::Busy(secs) => {
            let mut refusal = refusal(429, ErrorKind::RateLimitError, "queue_full");
            refusal.headers_mut().insert(header::RETRY_AFTER, secs.into());
            return refusal;
        }
        Answer::Status(status) => return refusal(status, ErrorKind::ServerError, "because"),
        Answer::OtherModel => {
            return refusal(404, ErrorKind::InvalidRequestError, "model_not_found");
        }
        Answer::Redirected => return redirect(&node),
        Answer::InClearText => {
            return Json(json!({ "created": 0, "data": [{ "url": data_url(&node) }] }))
                .into_response();
        }
        _ => {}
    }
    let keys = node.keys.lock().unwrap().clone();
    let (plaintext, pending) = match keys.ring.open(&envelope, Instant::now()) {
        Ok(opened) => opened,
        Err(OpenError::StaleKey { .. }) => return refusal(422, ErrorKind::StaleKey, "stale_key"),
        Err(error) => panic!("{error}"),
    };
    node.opened.fetch_add(1, Ordering::SeqCst);
    let Ok(request) = CreateImageRequest::from_json(plaintext.as_bytes()) else { panic!() };
    assert!(request.padding.is_some(), "a request is salted");
    assert_eq!(request.model.as_ref(), Some(&envelope.model_name));
    node.models.lock().unwrap().push(envelope.model_name.clone());
    let manifest: [u8; 32] = Sha256::digest(MANIFEST).into();
    if request.prompt.as_ref().is_some_and(|prompt| prompt.contains("refuse me")) {
        let error = protocol::InvalidParameter::Missing { param: "size" }.body();
        let body = Zeroizing::new(serde_json::to_vec(&error).unwrap());
        let envelope = pending.refuse(body, &manifest).unwrap();
        let error = ErrorObject {
            message: "sealed".to_owned(),
            kind: ErrorKind::InvalidRequestError,
            param: None,
            code: None,
        };
        let body = protocol::ConfidentialErrorResponse { envelope, error };
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let responder = pending.accept().unwrap();
    if request.stream == Some(true) {
        return stream(responder, &manifest, answer);
    }
    if answer == Answer::Hangup {
        let broken = futures_util::stream::iter([
            Ok(axum::body::Bytes::from_static(b"{\"ciphertext\":\"")),
            Err(std::io::Error::other("hangs up")),
        ]);
        let head = [(header::CONTENT_TYPE, "application/json")];
        return (head, Body::from_stream(broken)).into_response();
    }
    let count = if answer == Answer::OtherCount { 3 } else { request.n.unwrap_or(1) };
    let url = match answer {
        Answer::RemoteUrl => "https://tracker.example/x.png".to_owned(),
        _ => data_url(&node),
    };
    let data: Vec<_> = (0..count).map(|_| json!({ "url": url })).collect();
    let body = serde_json::to_vec(&json!({ "created": 7, "data": data, "seed": 3 })).unwrap();
    // A receipt over another model's manifest is somebody else's.
    let signed = if answer == Answer::ForeignReceipt { [1; 32] } else { manifest };
    let mut envelope = responder.seal(Zeroizing::new(body), &signed).unwrap();
    match answer {
        Answer::NoReceipt => envelope.receipt = None,
        Answer::FlippedBit => flip(&mut envelope),
        Answer::Earlier => envelope = node.earlier.lock().unwrap().clone().unwrap(),
        _ => *node.earlier.lock().unwrap() = Some(envelope.clone()),
    }
    Json(envelope).into_response()
}

fn data_url(node: &Inner) -> String {
    format!("data:image/png;base64,{}", node.image.lock().unwrap())
}

fn flip(envelope: &mut ConfidentialComputeResponse) {
    let other = if envelope.ciphertext.starts_with('A') { "B" } else { "A" };
    envelope.ciphertext.replace_range(0..1, other);
}

/// Three steps and an image; or what is told instead.
fn stream(responder: seal::Responder, manifest: &[u8; 32], answer: Answer) -> Response {
    let mut parts = responder.into_stream().unwrap();
    let mut lines = Vec::new();
    for step in 0..4 {
        let last = step == 3;
        let event = match last {
            false => ImageEvent::Progress(ProgressEvent { step, steps: 3 }),
            true if answer == Answer::SealedError => {
                let error = ErrorObject {
                    message: "too slow".to_owned(),
                    kind: ErrorKind::ServerError,
                    param: None,
                    code: Some("deadline_exceeded".to_owned()),
                };
                ImageEvent::Error(protocol::ErrorEvent { error })
            }
            true => ImageEvent::Completed(completed()),
        };
        let event = Sequenced { sequence_number: step.into(), last, event };
        let body = event.to_json_with(Operation::Generation, 0, |length| length);
        let mut envelope = parts.seal(body, manifest).unwrap();
        if step == 2 && answer == Answer::FlippedEvent {
            flip(&mut envelope);
        }
        lines.push(format!("data: {}\n\n", serde_json::to_string(&envelope).unwrap()));
    }
    match answer {
        Answer::Dropped => drop(lines.remove(1)),
        Answer::Swapped => lines.swap(1, 2),
        Answer::Repeated => lines.insert(1, lines[0].clone()),
        Answer::Cut => lines.truncate(3),
        _ => {}
    }
    let lines = lines.into_iter().map(Ok::<_, Infallible>);
    let body = Body::from_stream(futures_util::stream::iter(lines));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn completed() -> CompletedEvent {
    CompletedEvent {
        b64_json: IMAGE.to_owned().into(),
        index: 0,
        created_at: 7,
        size: "16x16".to_owned(),
        quality: "low".to_owned(),
        background: "opaque".to_owned(),
        output_format: "png".to_owned(),
        usage: ImageUsage::new(InputTokensDetails { text_tokens: 1, image_tokens: 0 }, 1),
        seed: Some(3),
        revised_prompt: None,
        provenance: None,
        warnings: Vec::new(),
    }
}

fn refusal(status: u16, kind: ErrorKind, code: &str) -> Response {
    let error = ErrorObject {
        message: "the stand-in says no".to_owned(),
        kind,
        param: None,
        code: Some(code.to_owned()),
    };
    (StatusCode::from_u16(status).unwrap(), Json(ErrorBody { error })).into_response()
}
