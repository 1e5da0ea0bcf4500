//! `POST /v1/confidential/images/generations`: the way a private picture takes.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State, http::HeaderMap};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest, ImageRequest,
    InvalidParameter, Usage,
};
use seal::{Plaintext, RequestParts, Responder, SealedResponse};
use zeroize::Zeroizing;

use super::{Answer, Body, respond};
use crate::{
    error::ApiError,
    node::{Node, Service, off_thread, unix_now},
};

pub(super) async fn generate(
    State(node): State<Arc<Node>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<ConfidentialComputeResponse> {
    let service = node.service()?;
    let envelope: Result<ConfidentialComputeRequest, ApiError> = body.object();
    let admitted = node.credentials().admit_key(&headers)
        || envelope.as_ref().is_ok_and(|envelope| {
            parts(envelope)
                .body_hash()
                .is_ok_and(|hash| node.credentials().admit_signature(&headers, &hash))
        });
    if !admitted {
        return Err(ApiError::Unauthorized);
    }
    let envelope = envelope?;
    if envelope.model_name != service.offer().model {
        return Err(ApiError::UnknownModel);
    }

    // A place first: a request that finds none stays unopened, and can be sent again.
    let place = service.engine().reserve()?;
    let (plaintext, responder) = service.keyring().open(&parts(&envelope), Instant::now())?;
    let request = match read(&plaintext, &envelope, &service)? {
        Ok(request) => request,
        Err(invalid) => return Err(seal_refusal(responder, invalid, service).await),
    };
    drop(plaintext);

    let painted = place.generate(request).await?;
    let envelope = off_thread(move || {
        let usage = respond::usage(&painted);
        let body = respond::body(painted, unix_now())?;
        let sealed =
            responder.seal(body.to_json_with(seal::padded_capacity), service.manifest())?;
        Ok::<_, ApiError>(envelope_of(sealed, Some(usage)))
    })
    .await??;
    Ok(Json(envelope))
}

/// What was sealed, as a request that keeps every rule. The outer error is for a body that is no
/// JSON object, which cannot be told apart from one that could not be opened.
fn read(
    plaintext: &Plaintext,
    envelope: &ConfidentialComputeRequest,
    service: &Service,
) -> Result<Result<ImageRequest, InvalidParameter>, ApiError> {
    let body =
        CreateImageRequest::from_json(plaintext.as_bytes()).map_err(|_| ApiError::Malformed)?;
    Ok(body
        .and_then(|body| ImageRequest::parse(body, service.offer(), || service.draw_seed()))
        .and_then(|request| envelope.check_binding(&request).map(|()| request)))
}

async fn seal_refusal(
    responder: Responder,
    invalid: InvalidParameter,
    service: Arc<Service>,
) -> ApiError {
    let sealed = off_thread(move || {
        let body = serde_json::to_vec(&invalid.body()).map_err(|_| ApiError::Internal)?;
        responder.seal(Zeroizing::new(body), service.manifest()).map_err(ApiError::from)
    });
    match sealed.await {
        Ok(Ok(sealed)) => ApiError::Sealed(Box::new(envelope_of(sealed, None))),
        Ok(Err(error)) | Err(error) => error,
    }
}

fn parts(envelope: &ConfidentialComputeRequest) -> RequestParts<'_> {
    RequestParts {
        ciphertext: &envelope.ciphertext,
        nonce: &envelope.nonce,
        salt: &envelope.salt,
        client_dh_public_key: &envelope.client_dh_public_key,
        node_dh_public_key: &envelope.node_dh_public_key,
        plaintext_body_hash: &envelope.plaintext_body_hash,
    }
}

fn envelope_of(sealed: SealedResponse, usage: Option<Usage>) -> ConfidentialComputeResponse {
    ConfidentialComputeResponse {
        ciphertext: sealed.ciphertext,
        nonce: sealed.nonce,
        response_hash: Some(sealed.response_hash),
        signature: Some(sealed.signature),
        usage,
        receipt: Some(sealed.receipt),
    }
}
