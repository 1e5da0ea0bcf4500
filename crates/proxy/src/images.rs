//! `POST /v1/images/generations`: OpenAI's route, in clear text on this side alone; and the images that
//! it gives URLs of.

mod answer;
mod events;

use std::{sync::Arc, time::Instant};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use client::TraceParent;
use protocol::CreateImageRequest;
use web::{credentials::bearer, origin::own_authority};

use self::answer::{Answered, Form};
pub(crate) use self::events::{Last, Teller, event_stream};
use crate::{
    body::Body,
    config::is_bearer_key,
    error::ApiError,
    pool::{Ask, Reply},
    proxy::Proxy,
};

/// Makes images of a prompt in clear text.
pub(crate) async fn generate(
    State(proxy): State<Arc<Proxy>>,
    uri: Uri,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let permit = proxy.permit()?;
    let (ask, form, count) = wipe::stack(|| {
        let mut request = CreateImageRequest::from_json(&body)?;
        drop(body);
        let form = Form::take(&mut request);
        let count = request.n.unwrap_or(1);
        let ask = Ask {
            json: request.to_json(),
            key: passed_on(&proxy, &headers),
            trace: trace(&headers),
        };
        Ok::<_, ApiError>((ask, form, count))
    })?;
    let (reply, _) = proxy.pool().send(&ask).await?;
    match reply {
        Reply::Stream(events) => Ok(event_stream(events::Clear, *events, permit)),
        Reply::Whole(answer) => {
            if i64::try_from(answer.response.data.len()) != Ok(count) {
                return Err(ApiError::WrongAnswer);
            }
            let base = match own_authority(&uri, &headers) {
                Some(host) => format!("http://{host}"),
                None => format!("http://{}", proxy.listen()),
            };
            let off_thread = tokio::task::spawn_blocking(move || {
                let links = answer::Links { store: proxy.images(), base };
                let body = wipe::stack(|| answer::write(answer.response, form, &links))?;
                Ok::<_, ApiError>(Answered { body, _permit: permit })
            });
            let answered = off_thread.await.map_err(|_| ApiError::Internal)??;
            let json = HeaderValue::from_static("application/json");
            Ok(([(CONTENT_TYPE, json)], Bytes::from_owner(answered)).into_response())
        }
    }
}

/// An image that was asked for as a URL: whoever knows its name may see it, for a while.
pub(crate) async fn file(
    State(proxy): State<Arc<Proxy>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    proxy.images().find(&name, Instant::now()).ok_or(ApiError::NotFound)
}

/// The caller's key, where neither the proxy nor its nodes have one that is configured.
pub(crate) fn passed_on(proxy: &Proxy, headers: &HeaderMap) -> Option<seal::Zeroizing<String>> {
    let key = if proxy.passes_keys_on() { bearer(headers) } else { None };
    key.filter(|key| is_bearer_key(key)).map(|key| key.to_owned().into())
}

/// The caller's trace, where its header is sound.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => TraceParent::parse(value.to_str().ok()?),
        _ => None,
    }
}
