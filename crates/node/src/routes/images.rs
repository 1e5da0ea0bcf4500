//! `POST /v1/images/generations`: OpenAI's route, in clear text, where the operator allows it; and
//! the images that it gives URLs of.

use std::{convert::Infallible, sync::Arc, time::Instant};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, Uri, request::Parts, uri::Authority},
    response::{IntoResponse, Response},
};
use protocol::{
    CreateImageRequest, CreateImageResponse, Delivery, ErrorBody, ImageEvent, ImageRequest,
    InvalidRequest,
};
use web::origin::own_authority;

use super::{
    Body,
    client::Client,
    off_thread::off_thread,
    provenance::Wanted,
    respond::{self, Links, Reader},
    stream::{EventEncoder, EventMessage, Part, Stream},
};
use crate::{delivery::Outbox, error::ApiError, node::Node};

/// Images from a prompt in clear text
///
/// OpenAI's image API. Every field is honoured, or refused by its name. With `stream: true` the answer
/// is a stream of events: `image_generation.partial_image`, `image_generation.completed`.
#[utoipa::path(
    post, path = "/v1/images/generations", tag = "images",
    request_body = CreateImageRequest,
    responses(
        (status = 200, content(
            (CreateImageResponse = "application/json"),
            (EventMessage = "text/event-stream"),
        ), description = "Images"),
    ),
)]
pub(super) async fn generate(
    State(node): State<Arc<Node>>,
    call: Call,
    Body(body): Body,
) -> Result<Response, ApiError> {
    call.answer(node, body, None).await
}

/// The same by the path of Azure's clients, which names a deployment: here it is the model, where the body names
/// none. A model's name may have slashes in it.
pub(super) async fn generate_deployment(
    State(node): State<Arc<Node>>,
    Path(rest): Path<String>,
    call: Call,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let model = rest.strip_suffix("/images/generations").ok_or(ApiError::NotFound)?;
    call.answer(node, body, Some(model.to_owned())).await
}

/// What both routes see of a request beside its body.
pub(super) struct Call {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<Node>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Infallible> {
        let client = Client::from_request_parts(parts, node).await?;
        Ok(Self { client, uri: parts.uri.clone(), headers: parts.headers.clone() })
    }
}

impl Call {
    async fn answer(
        self,
        node: Arc<Node>,
        body: Bytes,
        deployment: Option<String>,
    ) -> Result<Response, ApiError> {
        let Self { client: Client(client), uri, headers } = self;
        let service = node.service()?;
        if !node.credentials().admit_key(&headers) {
            return Err(ApiError::Unauthorized);
        }
        let mut request = CreateImageRequest::from_json(&body)?;
        request.model = request.model.or(deployment);
        let request = ImageRequest::parse(request, service.capabilities(), || service.draw_seed())
            .map_err(InvalidRequest::from)?;
        drop(body);
        let wanted = Wanted::clear(&request.provenance, &service).map_err(InvalidRequest::from)?;
        let measured = wanted.measured(&service).await?;
        let signer = service.keyring().current().statement_signer();
        let prover = wanted.prover(measured, &request.provenance, signer, &service)?;
        let permit = service.engine().reserve(client)?;
        if let Delivery::Stream { .. } = request.delivery {
            let (outbox, response) = Outbox::open(node.deliveries());
            Stream::new(service, outbox, Clear, prover, &request).spawn(permit, request);
            return Ok(response);
        }
        let output = permit.generate(request).await?;
        let prefix = prefix(&node, own_authority(&uri, &headers));
        let answer = off_thread(move || {
            let reader = Reader::Clear(Links { store: node.image_store(), prefix });
            respond::body(&output, &reader, &prover, service.metrics()).map(|(body, _)| body)
        });
        Ok(Json(answer.await??).into_response())
    }
}

/// An image that was asked for as a URL
///
/// Whoever knows its name may see it, for a while.
#[utoipa::path(
    get, path = "/v1/images/files/{name}", tag = "images",
    params(("name" = String, Path, description = "64 hex digits, out of `data[].url`")),
    responses(
        (status = 200, content_type = "image/png", body = [u8], description = "The file"),
        (status = 404, body = ErrorBody, description = "No such image, or not any more"),
    ),
)]
pub(super) async fn file(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    node.image_store().find(&name, Instant::now()).ok_or(ApiError::NotFound)
}

/// What the URLs of images begin with: what the operator says, or the name that this very client
/// reached the node by.
fn prefix(node: &Node, called: Option<Authority>) -> String {
    let config = node.config();
    if let Some(url) = &config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let scheme = node.scheme();
    match called {
        Some(host) => format!("{scheme}://{host}"),
        None => format!("{scheme}://{}", config.listen),
    }
}

/// Events as they are.
struct Clear;

impl EventEncoder for Clear {
    fn encode(&mut self, event: ImageEvent, _: Part, _: usize) -> Result<Vec<u8>, ApiError> {
        let mut json = event.to_json();
        // On its way into an answer in clear text; what is left behind is empty.
        Ok(std::mem::take(&mut *json))
    }

    fn names_events(&self) -> bool {
        true
    }
}
