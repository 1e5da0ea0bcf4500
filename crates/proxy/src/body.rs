//! A caller's body: of a type that its route takes, bounded, read within a time, wiped.

use std::time::Duration;

use axum::{
    body::{Body as Incoming, HttpBody},
    extract::{FromRequest, Request},
};
use http_body_util::BodyExt;
use protocol::{MAX_EDIT_FORM_BYTES, MAX_EDIT_JSON_BYTES};
use tokio::time;
use web::{body_error::BodyError, media_type::is_json, multipart};
use zeroize::Zeroizing;

use crate::{config::MAX_BODY_BYTES, error::ApiError};

/// How long a caller may take to send it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A body of JSON, whole. It may hold a prompt.
pub(crate) struct Body(pub(crate) Zeroizing<Vec<u8>>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(BodyError::NotJson.into());
        }
        whole(request.into_body(), MAX_BODY_BYTES).await.map(Self)
    }
}

/// The body of an edit, whole. It holds images.
pub(crate) enum EditBody {
    Json(Zeroizing<Vec<u8>>),
    Form { boundary: String, body: Zeroizing<Vec<u8>> },
}

impl<S: Send + Sync> FromRequest<S> for EditBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if is_json(request.headers()) {
            return whole(request.into_body(), MAX_EDIT_JSON_BYTES).await.map(Self::Json);
        }
        let boundary = multipart::boundary(request.headers()).ok_or(BodyError::NotJsonOrForm)?;
        let body = whole(request.into_body(), MAX_EDIT_FORM_BYTES).await?;
        Ok(Self::Form { boundary, body })
    }
}

async fn whole(body: Incoming, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge { max_bytes }.into());
    }
    time::timeout(TIMEOUT, read(body, max_bytes)).await.map_err(|_| BodyError::TooSlow)?
}

async fn read(mut body: Incoming, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // As long as is declared, or as long as may be: a buffer that grows leaves copies behind.
    let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let room = declared.unwrap_or(max_bytes).min(max_bytes);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() else { continue };
        if bytes.len() + data.len() > room {
            return Err(BodyError::TooLarge { max_bytes }.into());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
