//! A caller's body: of a type that its route takes, bounded, read within a time, wiped.

use std::time::Duration;

use axum::{
    body::{Body as Incoming, HttpBody},
    extract::{FromRequest, Request},
};
use http_body_util::BodyExt;
use protocol::{MAX_EDIT_FORM_BYTES, MAX_EDIT_JSON_BYTES};
use tokio::time::{Instant, timeout_at};
use web::{body_error::BodyError, body_rate::earned, media_type::is_json, multipart};
use zeroize::Zeroizing;

use crate::{config::MAX_BODY_BYTES, error::ApiError};

/// How long a caller may take to send it, beside what its bytes earn.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A body of JSON, whole. It may hold a prompt.
pub(crate) struct Body(pub(crate) Zeroizing<Vec<u8>>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(BodyError::NotJson.into());
        }
        whole(request.into_body(), MAX_BODY_BYTES, TIMEOUT).await.map(Self)
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
            return whole(request.into_body(), MAX_EDIT_JSON_BYTES, TIMEOUT).await.map(Self::Json);
        }
        let boundary = multipart::boundary(request.headers()).ok_or(BodyError::NotJsonOrForm)?;
        let body = whole(request.into_body(), MAX_EDIT_FORM_BYTES, TIMEOUT).await?;
        Ok(Self::Form { boundary, body })
    }
}

async fn whole(
    mut body: Incoming,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(BodyError::TooLarge { max_bytes }.into());
    }
    let begun = Instant::now();
    // As long as is declared, or as long as may be: a buffer that grows leaves copies behind.
    let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let room = declared.unwrap_or(max_bytes).min(max_bytes);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    loop {
        let frame = timeout_at(begun + timeout + earned(bytes.len()), body.frame()).await;
        let Some(frame) = frame.map_err(|_| BodyError::TooSlow)? else { return Ok(bytes) };
        let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() else { continue };
        if bytes.len() + data.len() > room {
            return Err(BodyError::TooLarge { max_bytes }.into());
        }
        bytes.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;

    use super::*;

    /// A piece of so many bytes, and much later another one.
    async fn sent(first: usize) -> Result<usize, ApiError> {
        let timeout = Duration::from_millis(100);
        let piece = move |n: u32| async move {
            tokio::time::sleep(3 * n * timeout).await;
            let bytes = Bytes::from(vec![b' '; if n == 0 { first } else { 1 }]);
            (n < 2).then_some((Ok::<_, std::io::Error>(bytes), n + 1))
        };
        let body = Incoming::from_stream(stream::unfold(0u32, piece));
        whole(body, 4 << 20, timeout).await.map(|body| body.len())
    }

    #[tokio::test]
    async fn what_has_come_earns_time_for_the_rest() {
        assert_eq!(sent(2 << 20).await.ok(), Some((2 << 20) + 1));
        assert!(matches!(sent(1).await, Err(ApiError::Body(BodyError::TooSlow))));
    }
}
