//! `POST /v1/images/generations` and `POST /v1/images/edits`: OpenAI's routes, in clear text, where the operator
//! allows it; and the images that they give URLs of.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Instant};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use engine::{InputImage, Permit, Sharers};
use protocol::{
    CreateImageRequest, CreateImageResponse, Delivery, EditImageRequest, ErrorBody, FormField,
    ImageEvent, ImageRequest, Operation,
};
use utoipa::ToSchema;
use web::{body_error::BodyError, multipart, path::PathName};

use super::{
    client::Client,
    inputs,
    off_thread::off_thread,
    provenance::Wanted,
    respond::{self, Links, Reader},
    stream::{EventEncoder, EventMessage, Part, Stream},
};
use crate::{
    address::Peer,
    base_url::base_url,
    body::{Body, Bounded, ClearEdit},
    delivery::Outbox,
    error::ApiError,
    node::{Node, Service},
};

/// Images from a prompt in clear text
///
/// OpenAI's image API. Every field is honoured, or refused by its name. With `stream: true` the answer
/// is a stream of events: `image_generation.partial_image`, `image_generation.completed`.
#[utoipa::path(
    post, path = "/v1/images/generations", tag = "images",
    operation_id = "create_image",
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
    Bounded(body): Body,
) -> Result<Response, ApiError> {
    call.generate(node, body, None).await
}

/// Images from images and a prompt in clear text
///
/// OpenAI's `images.edit`, as JSON or as a form. Input images are PNG, JPEG or WebP, 20 MB in all, and stay in
/// memory. With `stream: true` the answer is a stream of events: `image_edit.partial_image`,
/// `image_edit.completed`.
#[utoipa::path(
    post, path = "/v1/images/edits", tag = "images",
    operation_id = "create_image_edit",
    request_body(content(
        (EditImageRequest = "application/json"),
        (EditForm = "multipart/form-data"),
    )),
    responses(
        (status = 200, content(
            (CreateImageResponse = "application/json"),
            (EventMessage = "text/event-stream"),
        ), description = "Images"),
    ),
)]
pub(super) async fn edit(
    State(node): State<Arc<Node>>,
    call: Call,
    request: Request,
) -> Result<Response, ApiError> {
    call.edit(node, request, None).await
}

/// The same two by the paths of Azure's clients, which name a deployment: here it is the model, where the body names
/// none. A model's name may have slashes in it.
pub(super) async fn of_deployment(
    State(node): State<Arc<Node>>,
    PathName(rest): PathName,
    call: Call,
    request: Request,
) -> Result<Response, ApiError> {
    if let Some(model) = rest.strip_suffix("/images/edits") {
        return call.edit(node, request, Some(model.to_owned())).await;
    }
    let model = rest.strip_suffix("/images/generations").ok_or(ApiError::NotFound)?;
    let Bounded(body) = Body::from_request(request, &node).await?;
    call.generate(node, body, Some(model.to_owned())).await
}

/// The form of an edit, as OpenAI's clients send it
#[derive(ToSchema)]
#[expect(dead_code, reason = "its shape alone is read, by the OpenAPI document")]
pub(super) struct EditForm {
    /// Files: PNG, JPEG or WebP. `image[]` is the same field.
    #[schema(value_type = Vec<Vec<u8>>, format = Binary, min_items = 1, max_items = 4)]
    image: Vec<Vec<u8>>,
    /// What to draw.
    #[schema(min_length = 1)]
    prompt: String,
    /// A PNG as large as the first image, transparent where that is drawn anew.
    #[schema(value_type = Option<Vec<u8>>, format = Binary)]
    mask: Option<Vec<u8>>,
    /// The model; the node's first that takes images where absent. Every other field of the JSON form is taken as
    /// well, as text.
    model: Option<String>,
}

/// What the routes see of a request beside its body.
pub(super) struct Call {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    peer: Option<IpAddr>,
}

impl FromRequestParts<Arc<Node>> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Infallible> {
        let client = Client::from_request_parts(parts, node).await?;
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        Ok(Self { client, uri: parts.uri.clone(), headers: parts.headers.clone(), peer })
    }
}

/// A request with its place, ready to be drawn.
struct Ready {
    permit: Permit,
    request: ImageRequest,
    images: Vec<InputImage>,
}

impl Call {
    async fn generate(
        self,
        node: Arc<Node>,
        body: Bytes,
        deployment: Option<String>,
    ) -> Result<Response, ApiError> {
        let service = self.admitted(&node)?;
        let ready = wipe::stack(|| {
            let mut request = CreateImageRequest::from_json(&body)?;
            // Its memory is for other bodies while this request waits and is drawn.
            drop(body);
            request.model = request.model.or(deployment);
            ready(request, Operation::Generation, self.client.0, &service)
        })?;
        self.answer(node, service, ready).await
    }

    async fn edit(
        self,
        node: Arc<Node>,
        request: Request,
        deployment: Option<String>,
    ) -> Result<Response, ApiError> {
        let service = self.admitted(&node)?;
        inputs::refuse_where_useless(&service)?;
        let (client, of_reader) = (self.client.0, service.clone());
        let edit = node.edits().expect(client)?;
        let body = edit.body::<ClearEdit, _>(request, &node).await?;
        let arrived = Instant::now();
        let read = edit.read(body, move |body| {
            let mut request = read_edit(&body)?;
            drop(body);
            request.model = request.model.or(deployment);
            ready(request, Operation::Edit, client, &of_reader)
        });
        let mut ready = read.await??;
        ready.permit = ready.permit.waiting_since(arrived);
        self.answer(node, service, ready).await
    }

    fn admitted(&self, node: &Node) -> Result<Arc<Service>, ApiError> {
        let service = node.service()?;
        match node.credentials().admit_key(&self.headers) {
            true => Ok(service),
            false => Err(ApiError::Unauthorized),
        }
    }

    async fn answer(
        self,
        node: Arc<Node>,
        service: Arc<Service>,
        Ready { permit, request, images }: Ready,
    ) -> Result<Response, ApiError> {
        let wanted = Wanted::clear(&request, &service).map_err(ApiError::Invalid)?;
        let measured = wanted.measured(&service).await?;
        let signer = service.keyring().current().statement_signer();
        let prover = wanted.prover(measured, &request, signer, &service)?;
        if let Delivery::Stream { .. } = request.delivery {
            let (outbox, response) = Outbox::open(node.deliveries());
            let encoder = Clear { operation: request.operation };
            Stream::new(service, outbox, encoder, prover, request).spawn(permit, images);
            return Ok(response);
        }
        let output = permit.generate(request, images).await?;
        let prefix = prefix(&node, &self.uri, &self.headers, self.peer);
        let answer = off_thread(move || {
            let reader = Reader::Clear(Links { store: node.image_store(), prefix });
            respond::body(&output, &reader, &prover, service.metrics()).map(|(body, _)| body)
        });
        Ok(Json(answer.await??).into_response())
    }
}

/// Checks everything, takes a place, and then decodes what there is to decode.
fn ready(
    mut request: CreateImageRequest,
    operation: Operation,
    client: Sharers,
    service: &Service,
) -> Result<Ready, ApiError> {
    // In clear text, what names no model is drawn by the first that can.
    let first = || service.capabilities_for(operation).model.clone();
    request.model.get_or_insert_with(first);
    let scanned = inputs::scan(request, operation, service).map_err(ApiError::Invalid)?;
    let permit = service.engine().reserve(client)?;
    let (request, images) = scanned.decode(service).map_err(ApiError::Invalid)?;
    Ok(Ready { permit, request, images })
}

fn read_edit(body: &ClearEdit) -> Result<CreateImageRequest, ApiError> {
    match body {
        ClearEdit::Json(body) => Ok(CreateImageRequest::from_json(body)?),
        ClearEdit::Form { boundary, body } => {
            let parts = multipart::parts(body, boundary).map_err(BodyError::NotAForm)?;
            let fields = parts.iter().map(|part| FormField { name: &part.name, value: part.data });
            CreateImageRequest::from_form(fields).map_err(ApiError::Invalid)
        }
    }
}

/// An image that was asked for as a URL
///
/// Whoever knows its name may see it, for a while.
#[utoipa::path(
    get, path = "/v1/images/files/{name}", tag = "images",
    operation_id = "image_file",
    params(("name" = String, Path, description = "64 hex digits, out of `data[].url`")),
    responses(
        (status = 200, content_type = "image/png", body = [u8], description = "The file"),
        (status = 404, body = ErrorBody, description = "No such image, or not any more"),
    ),
)]
pub(super) async fn file(
    State(node): State<Arc<Node>>,
    PathName(name): PathName,
) -> Result<Response, ApiError> {
    node.image_store().find(&name, Instant::now()).ok_or(ApiError::NotFound)
}

/// What the URLs of images begin with: what the operator says, or what this very client calls the node.
fn prefix(node: &Node, uri: &Uri, headers: &HeaderMap, peer: Option<IpAddr>) -> String {
    let config = node.config();
    if let Some(url) = &config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let known = base_url(node.scheme(), uri, headers, peer, &config.forwarders());
    known.unwrap_or_else(|| format!("{}://{}", node.scheme(), config.listen))
}

/// Events as they are.
struct Clear {
    operation: Operation,
}

impl EventEncoder for Clear {
    fn encode(&mut self, event: ImageEvent, _: Part, _: usize) -> Result<Vec<u8>, ApiError> {
        let mut json = event.to_json(self.operation);
        // On its way into an answer in clear text; what is left behind is empty.
        Ok(std::mem::take(&mut *json))
    }

    fn names_events(&self) -> bool {
        true
    }
}
