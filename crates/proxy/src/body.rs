//! A caller's body: of JSON, bounded, read within a time, wiped.

use std::time::Duration;

use axum::{
    body::{Body as Incoming, HttpBody},
    extract::{FromRequest, Request},
};
use http_body_util::BodyExt;
use tokio::time;
use web::media_type::is_json;
use zeroize::Zeroizing;

use crate::{config::MAX_BODY_BYTES, error::ApiError};

/// How long a caller may take to send it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A body, whole. It may hold a prompt.
pub(crate) struct Body(pub(crate) Zeroizing<Vec<u8>>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        if request.body().size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(ApiError::TooLarge);
        }
        let read = time::timeout(TIMEOUT, read(request.into_body()));
        read.await.map_err(|_| ApiError::TooSlow)?.map(Self)
    }
}

async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // As long as is declared, or as long as may be: a buffer that grows leaves copies behind.
    let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let room = declared.unwrap_or(MAX_BODY_BYTES).min(MAX_BODY_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() else { continue };
        if bytes.len() + data.len() > room {
            return Err(ApiError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
