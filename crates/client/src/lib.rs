//! A confidential-images client: seal a request, open and check its response.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::ClientError> {
//! use protocol::CreateImageRequest;
//!
//! let client = client::Client::new("https://node.example", client::ApiKey::none())?;
//! let request = CreateImageRequest {
//!     model: Some("black-forest-labs/FLUX.1-schnell".to_owned()),
//!     prompt: Some("a lighthouse at dusk".to_owned().into()),
//!     ..CreateImageRequest::default()
//! };
//! // Evidence first: this code, this model, this key, now, in a real TEE; or no request.
//! let node = client.attest(&attest::Policy::production()).await?;
//! let answer = client.generate(request, &node).await?;
//! assert_eq!(answer.response.data.len(), 1);
//! # Ok(()) }
//! ```
//!
//! [`Client::dangerous`] is the one way to send a request to a node that proved nothing.

mod answer;
mod attestation;
mod call;
mod document;
mod error;
mod evidence;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod image;
mod lines;
mod refusal;
mod salt;
mod stream;
mod tls;
mod trace;
mod transport;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, ConfidentialErrorResponse,
    CreateImageRequest, CreateImageResponse, NodeLockRequest, NodeLockResponse, Usage,
};
use seal::{Opener, Verified};
use serde::de::DeserializeOwned;

pub use attestation::{AttestedNode, fresh_nonce, now_secs};
pub use call::Call;
pub use document::{Document, document};
pub use error::{ClientError, HttpError};
pub use evidence::Evidence;
pub use http::{
    ApiKey, MAX_KEY_BYTES, install_crypto_provider, is_bearer_key, travels_in_clear_text,
};
pub use image::{InvalidImage, decode_image, image_file};
pub use refusal::Refusal;
pub use stream::{End, EventStream};
pub use trace::TraceParent;

use answer::{HttpAnswer, MAX_ANSWER_BYTES, MAX_WORDS_BYTES};
use http::Http;
use transport::Transport;

/// A client of one node, or of a proxy in front of many.
pub struct Client {
    http: Http,
}

impl Client {
    /// A client of the node at `base_url`, for instance `https://node.example`.
    ///
    /// # Errors
    /// Where the URL is none, no header carries the key, or TLS cannot be set up.
    pub fn new(base_url: &str, key: ApiKey) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(base_url, key)? })
    }

    /// Asks which key to seal to.
    ///
    /// # Errors
    /// Where the node does not answer, or answers no key.
    pub async fn lock(&self, model: &str) -> Result<NodeKey, ClientError> {
        self.call().lock(model).await
    }

    /// Seals `request` to an attested key, sends it, opens the answer and checks that the attested
    /// node gave it, with the attested model. A request with `images` is an edit:
    ///
    /// ```no_run
    /// # async fn example(client: client::Client, node: client::AttestedNode) -> Result<(), Box<dyn std::error::Error>> {
    /// use protocol::{CreateImageRequest, InputReference};
    ///
    /// let photo = InputReference::file(std::fs::read("photo.jpg")?.into());
    /// let request = CreateImageRequest {
    ///     model: Some("black-forest-labs/FLUX.2-klein-4B".to_owned()),
    ///     prompt: Some("the same room, with the wall painted green".to_owned().into()),
    ///     images: Some(vec![photo]),
    ///     ..CreateImageRequest::default()
    /// };
    /// let answer = client.generate(request, &node).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Where the node refuses, its keys' time is over, or its answer does not hold up.
    pub async fn generate(
        &self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<Answer, ClientError> {
        self.call().generate(request, node).await
    }

    /// Requests to nodes that proved nothing: whoever runs one may read them.
    #[must_use]
    pub fn dangerous(&self) -> DangerousClient<'_> {
        DangerousClient(self)
    }
}

impl Call<'_> {
    /// As [`Client::lock`].
    ///
    /// # Errors
    /// As [`Client::lock`].
    pub async fn lock(self, model: &str) -> Result<NodeKey, ClientError> {
        let request = NodeLockRequest { model: model.to_owned() };
        let (http, route) = (&self.client.http, ("/v1/nodes/lock", &self.headers));
        let answer = http.post(http.transport(), route, &request, MAX_WORDS_BYTES).await?;
        if answer.status() != 200 {
            return Err(refused(answer).await);
        }
        let lock: NodeLockResponse = json(&answer.json_body().await?)?;
        let key = BASE64_STANDARD.decode(&lock.public_key).ok();
        let encryption_key =
            key.and_then(|key| key.try_into().ok()).ok_or(ClientError::InvalidNodeKey)?;
        Ok(NodeKey { encryption_key, stack_small_id: lock.stack_small_id })
    }

    pub(crate) async fn exchange(
        self,
        request: CreateImageRequest,
        node: Recipient<'_>,
    ) -> Result<Answer, ClientError> {
        let (answer, opener) = self.ask(request, node).await?;
        let envelope: ConfidentialComputeResponse = json(&answer.json_body().await?)?;
        let opened = open(opener, &envelope, node.vouched())?;
        let response = CreateImageResponse::from_json(opened.body.as_bytes())
            .map_err(|_| ClientError::NotUnderstood)?;
        Ok(Answer { response, usage: envelope.usage, verified: opened.verified })
    }

    /// Seals and sends; what comes back is a success.
    pub(crate) async fn ask(
        self,
        mut request: CreateImageRequest,
        node: Recipient<'_>,
    ) -> Result<(HttpAnswer, Opener), ClientError> {
        node.attested.map_or(Ok(()), AttestedNode::check_time)?;
        let model_name = request.model.clone().unwrap_or_default();
        let stream = request.stream.unwrap_or(false);
        let operation = request.operation();
        salt::add(&mut request)?;
        let (sealed, opener) = seal::seal_request(&node.key.encryption_key, request.to_json())?;
        drop(request);
        let envelope = ConfidentialComputeRequest {
            model_name,
            stack_small_id: node.key.stack_small_id,
            stream: Some(stream),
            ..sealed
        };
        let route = (operation.confidential_path(), &self.headers);
        let http = &self.client.http;
        let answer = http.post(node.transport, route, &envelope, MAX_ANSWER_BYTES).await?;
        if answer.status() != 200 {
            let (status, retry) = (answer.status(), answer.retry());
            let body = answer.refusal().await?;
            let Ok(error) = serde_json::from_slice::<ConfidentialErrorResponse>(&body) else {
                return Err(ClientError::Refused(Box::new(Refusal::read(status, retry, &body))));
            };
            // What was sealed to us alone says which rule was broken.
            let opened = open(opener, &error.envelope, node.vouched())?;
            let refusal = Refusal::read(status, retry, opened.body.as_bytes());
            return Err(ClientError::Refused(Box::new(refusal.sealed())));
        }
        Ok((answer, opener))
    }
}

/// See [`Client::dangerous`].
pub struct DangerousClient<'a>(&'a Client);

impl DangerousClient<'_> {
    /// Seals `request` to a key that is taken on somebody's word.
    ///
    /// # Errors
    /// Where the node refuses, or its answer does not hold up.
    pub async fn generate(
        &self,
        request: CreateImageRequest,
        node: &NodeKey,
    ) -> Result<Answer, ClientError> {
        self.0.call().exchange(request, self.recipient(node)).await
    }

    fn recipient<'n>(&'n self, key: &'n NodeKey) -> Recipient<'n> {
        Recipient { key, attested: None, transport: self.0.http.transport() }
    }
}

/// Whom a request is for, and over what it goes there.
#[derive(Clone, Copy)]
struct Recipient<'a> {
    key: &'a NodeKey,
    /// Whose evidence was accepted, where it was asked for.
    attested: Option<&'a AttestedNode>,
    transport: &'a Transport,
}

impl<'a> Recipient<'a> {
    /// What the evidence vouches for.
    fn vouched(self) -> Option<&'a seal::Attested> {
        self.attested.map(|node| &node.attested)
    }
}

/// The key that a node is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKey {
    /// X25519 public key.
    pub encryption_key: [u8; 32],
    /// The proxy's billing stack; zero without a proxy.
    pub stack_small_id: u64,
}

/// An answer that was opened, and what was checked on the way.
pub struct Answer {
    /// The images.
    pub response: CreateImageResponse,
    /// What the node reports for billing.
    pub usage: Option<Usage>,
    /// What ties the answer to the request: both hashes, the key that signed, and the attested node, where there is one.
    pub verified: Verified,
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|_| ClientError::NotUnderstood)
}

fn open(
    opener: Opener,
    response: &ConfidentialComputeResponse,
    attested: Option<&seal::Attested>,
) -> Result<seal::Opened, ClientError> {
    Ok(match attested {
        Some(attested) => opener.open_attested(response, attested)?,
        None => opener.open_unattested(response)?,
    })
}

/// Why the node refuses what was not sealed.
async fn refused(answer: HttpAnswer) -> ClientError {
    let (status, retry) = (answer.status(), answer.retry());
    match answer.refusal().await {
        Ok(body) => ClientError::Refused(Box::new(Refusal::read(status, retry, &body))),
        Err(error) => error.into(),
    }
}
