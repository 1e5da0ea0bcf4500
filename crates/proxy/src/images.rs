//! `POST /v1/images/generations` and `POST /v1/images/edits`: OpenAI's routes, in clear text on this side alone; and
//! the images that they give URLs of.

mod answer;
mod events;

use std::{convert::Infallible, sync::Arc, time::Instant};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Uri, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use client::{TraceParent, is_bearer_key};
use protocol::{CreateImageRequest, FormField, Operation};
use seal::Zeroizing;
use tokio::sync::OwnedSemaphorePermit;
use web::{
    body_error::BodyError, credentials::bearer, multipart, origin::own_authority, path::PathName,
};

use self::answer::{Answered, Form};
pub(crate) use self::events::{EventEncoder, Last, event_stream};
use crate::{
    body::{Body, EditBody},
    error::ApiError,
    pool::{Ask, Reply},
    proxy::Proxy,
};

/// Makes images of a prompt in clear text.
pub(crate) async fn generate(call: Call, Body(body): Body) -> Result<Response, ApiError> {
    call.generate(body, None).await
}

/// Makes images of images and a prompt in clear text, as JSON or as a form. What goes out is JSON, sealed.
pub(crate) async fn edit(call: Call, request: Request) -> Result<Response, ApiError> {
    call.edit(request, None).await
}

/// The same two by the paths of Azure's clients, as nodes have them: the deployment is the model, where the body names
/// none. A model's name may have slashes in it.
pub(crate) async fn of_deployment(
    PathName(rest): PathName,
    call: Call,
    request: Request,
) -> Result<Response, ApiError> {
    if let Some(model) = rest.strip_suffix("/images/edits") {
        return call.edit(request, Some(model.to_owned())).await;
    }
    let model = rest.strip_suffix("/images/generations").ok_or(ApiError::NotSealed)?;
    let Body(body) = Body::from_request(request, &call.proxy).await?;
    call.generate(body, Some(model.to_owned())).await
}

/// What the routes see of a request beside its body.
pub(crate) struct Call {
    proxy: Arc<Proxy>,
    uri: Uri,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<Proxy>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, proxy: &Arc<Proxy>) -> Result<Self, Infallible> {
        let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
        Ok(Self { proxy: proxy.clone(), uri, headers })
    }
}

impl Call {
    async fn generate(
        self,
        body: Zeroizing<Vec<u8>>,
        deployment: Option<String>,
    ) -> Result<Response, ApiError> {
        let permit = self.proxy.permit()?;
        let asked = wipe::stack(|| {
            let mut request = CreateImageRequest::from_json(&body)?;
            drop(body);
            request.check_is_generation().map_err(ApiError::Invalid)?;
            request.model = request.model.or(deployment);
            Ok::<_, ApiError>(asked(request, &self.proxy, &self.headers))
        })?;
        let reply = self.proxy.pool().send(&asked.ask).await?.0;
        answer(self.proxy, (&self.uri, &self.headers), asked.expected, reply, permit).await
    }

    async fn edit(
        self,
        request: Request,
        deployment: Option<String>,
    ) -> Result<Response, ApiError> {
        // Each takes some hundred megabytes until it is answered.
        let (permit, _room) = (self.proxy.permit()?, self.proxy.edit_permit()?);
        let body = EditBody::from_request(request, &self.proxy).await?;
        let (reader, of_reader) = (self.proxy.clone(), self.headers.clone());
        let read = tokio::task::spawn_blocking(move || {
            wipe::stack(|| {
                let mut request = read_edit(&body)?;
                drop(body);
                // Whatever else it lacks, it is sent where edits go.
                request.images.get_or_insert_default();
                request.model = request.model.or(deployment);
                Ok::<_, ApiError>(asked(request, &reader, &of_reader))
            })
        });
        let asked = read.await.map_err(|_| ApiError::Internal)??;
        let reply = self.proxy.pool().send(&asked.ask).await?.0;
        answer(self.proxy, (&self.uri, &self.headers), asked.expected, reply, permit).await
    }
}

fn read_edit(body: &EditBody) -> Result<CreateImageRequest, ApiError> {
    match body {
        EditBody::Json(body) => Ok(CreateImageRequest::from_json(body)?),
        EditBody::Form { boundary, body } => {
            let parts = multipart::parts(body, boundary).map_err(BodyError::NotAForm)?;
            let fields = parts.iter().map(|part| FormField { name: &part.name, value: part.data });
            CreateImageRequest::from_form(fields).map_err(ApiError::Invalid)
        }
    }
}

/// A request on its way out, and what is kept of it for its answer.
struct Asked {
    ask: Ask,
    expected: Expected,
}

/// What a caller's answer has to be.
struct Expected {
    operation: Operation,
    form: Form,
    /// How many images.
    count: i64,
}

fn asked(mut request: CreateImageRequest, proxy: &Proxy, headers: &HeaderMap) -> Asked {
    let expected = Expected {
        operation: request.operation(),
        form: Form::take(&mut request),
        count: request.n.unwrap_or(1),
    };
    let ask = Ask {
        json: request.to_json(),
        unnamed: request.model.is_none().then_some(expected.operation),
        model: request.model,
        key: passed_on(proxy, headers),
        trace: trace(headers),
    };
    Asked { ask, expected }
}

async fn answer(
    proxy: Arc<Proxy>,
    (uri, headers): (&Uri, &HeaderMap),
    Expected { operation, form, count }: Expected,
    reply: Reply,
    permit: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    match reply {
        Reply::Stream(events) => Ok(event_stream(events::Clear { operation }, *events, permit)),
        Reply::Whole(answer) => {
            if i64::try_from(answer.response.data.len()) != Ok(count) {
                return Err(ApiError::WrongAnswer);
            }
            let base = base(&proxy, uri, headers);
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

/// What URLs of images begin with: what the owner says, or what this very caller calls the proxy.
fn base(proxy: &Proxy, uri: &Uri, headers: &HeaderMap) -> String {
    match (proxy.public_url(), own_authority(uri, headers)) {
        (Some(url), _) => url.to_owned(),
        (None, Some(host)) => format!("http://{host}"),
        (None, None) => format!("http://{}", proxy.listen()),
    }
}

/// An image that was asked for as a URL: whoever knows its name may see it, for a while.
pub(crate) async fn file(
    State(proxy): State<Arc<Proxy>>,
    PathName(name): PathName,
) -> Result<Response, ApiError> {
    proxy.images().find(&name, Instant::now()).ok_or(ApiError::NotFound)
}

/// The caller's key, where neither the proxy nor its nodes have one that is configured.
pub(crate) fn passed_on(proxy: &Proxy, headers: &HeaderMap) -> Option<Zeroizing<String>> {
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
