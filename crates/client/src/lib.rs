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
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod image;
mod lines;
mod salt;
mod stream;
mod tls;
mod transport;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use printable::Printable;
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, ConfidentialErrorResponse,
    CreateImageRequest, CreateImageResponse, ErrorBody, NodeLockRequest, NodeLockResponse, Usage,
};
use seal::{Opener, Verified};
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use attestation::{AttestedNode, Evidence, fresh_nonce};
pub use error::HttpError;
pub use http::{ApiKey, travels_in_clear_text};
pub use image::{InvalidImage, decode_image, image_file};
pub use stream::{End, EventStream};

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
    /// Where the URL is none, or TLS cannot be set up.
    pub fn new(base_url: &str, key: ApiKey) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(base_url, key)? })
    }

    /// Asks which key to seal to.
    ///
    /// # Errors
    /// Where the node does not answer, or answers no key.
    pub async fn lock(&self, model: &str) -> Result<NodeKey, ClientError> {
        let request = NodeLockRequest { model: model.to_owned() };
        let transport = self.http.transport();
        let answer = self.http.post(transport, "/v1/nodes/lock", &request, MAX_WORDS_BYTES).await?;
        let status = answer.status();
        if status != 200 {
            return Err(refused(status, &answer.refusal().await?));
        }
        let lock: NodeLockResponse = json(&answer.json_body().await?)?;
        let key = BASE64_STANDARD.decode(&lock.public_key).ok();
        let encryption_key =
            key.and_then(|key| key.try_into().ok()).ok_or(ClientError::InvalidNodeKey)?;
        Ok(NodeKey { encryption_key, stack_small_id: lock.stack_small_id })
    }

    /// Seals `request` to an attested key, sends it, opens the answer and checks that the attested
    /// node gave it, with the attested model.
    ///
    /// # Errors
    /// Where the node refuses, or its answer does not hold up.
    pub async fn generate(
        &self,
        request: CreateImageRequest,
        node: &AttestedNode,
    ) -> Result<Answer, ClientError> {
        self.exchange(request, node.recipient()).await
    }

    /// Requests to nodes that proved nothing: whoever runs one may read them.
    #[must_use]
    pub fn dangerous(&self) -> DangerousClient<'_> {
        DangerousClient(self)
    }

    async fn exchange(
        &self,
        request: CreateImageRequest,
        node: Recipient<'_>,
    ) -> Result<Answer, ClientError> {
        let (answer, opener) = self.ask(request, node).await?;
        let envelope: ConfidentialComputeResponse = json(&answer.json_body().await?)?;
        let opened = open(opener, &envelope, node.attested)?;
        let response = CreateImageResponse::from_json(opened.body.as_bytes())
            .map_err(|_| ClientError::NotUnderstood)?;
        Ok(Answer { response, usage: envelope.usage, verified: opened.verified })
    }

    /// Seals and sends; what comes back is a success.
    async fn ask(
        &self,
        mut request: CreateImageRequest,
        node: Recipient<'_>,
    ) -> Result<(HttpAnswer, Opener), ClientError> {
        let model_name = request.model.clone().unwrap_or_default();
        let stream = request.stream.unwrap_or(false);
        salt::add(&mut request)?;
        let (sealed, opener) = seal::seal_request(&node.key.encryption_key, request.to_json())?;
        drop(request);
        let envelope = ConfidentialComputeRequest {
            model_name,
            stack_small_id: node.key.stack_small_id,
            stream: Some(stream),
            ..sealed
        };
        let path = "/v1/confidential/images/generations";
        let answer = self.http.post(node.transport, path, &envelope, MAX_ANSWER_BYTES).await?;
        let status = answer.status();
        if status != 200 {
            let body = answer.refusal().await?;
            return Err(match serde_json::from_slice::<ConfidentialErrorResponse>(&body) {
                Ok(error) => open_refusal(status, &error.envelope, (opener, node.attested))?,
                Err(_) => refused(status, &body),
            });
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
        self.0.exchange(request, self.recipient(node)).await
    }

    fn recipient<'n>(&'n self, key: &'n NodeKey) -> Recipient<'n> {
        Recipient { key, attested: None, transport: self.0.http.transport() }
    }
}

/// Whom a request is for, and over what it goes there.
#[derive(Clone, Copy)]
struct Recipient<'a> {
    key: &'a NodeKey,
    /// What its evidence vouches for, where it was asked for.
    attested: Option<&'a seal::Attested>,
    transport: &'a Transport,
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
    /// What held.
    pub verified: Verified,
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|_| ClientError::NotUnderstood)
}

/// Why there is no image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node says no.
    #[error("the node refused ({status}): \"{message}\"")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In the node's words.
        message: Printable,
    },
    /// The answer is not of the protocol's shape.
    #[error("the node's answer is not of the protocol's shape")]
    NotUnderstood,
    /// A stream ended before its last event: the node or the connection died, or somebody cut it.
    #[error("the node's answer was cut off before its end")]
    StreamCut,
    /// An event is not the one that was due: somebody left one out, repeated one or moved one.
    #[error("event {found} of the node's answer came where {expected} was due")]
    StreamOrder {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The node's evidence is refused: nothing was sent.
    #[error("the node's evidence was refused, and nothing was sent to it\n\n{appraisal}")]
    Untrusted {
        /// Check by check.
        appraisal: Box<attest::verify::Appraisal>,
    },
    /// The key is not 32 bytes.
    #[error("the node's key is not an X25519 public key")]
    InvalidNodeKey,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The request cannot be sealed.
    #[error(transparent)]
    Seal(#[from] seal::SealError),
    /// The response does not hold up.
    #[error(transparent)]
    Response(#[from] seal::ResponseError),
}

/// The refusal that was sealed to us alone says which rule was broken.
fn open_refusal(
    status: u16,
    envelope: &ConfidentialComputeResponse,
    (opener, attested): (Opener, Option<&seal::Attested>),
) -> Result<ClientError, ClientError> {
    let opened = open(opener, envelope, attested)?;
    Ok(refused(status, opened.body.as_bytes()))
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

fn refused(status: u16, body: &[u8]) -> ClientError {
    let message = serde_json::from_slice::<ErrorBody>(body)
        .map_or_else(|_| "no reason given".into(), |body| Printable::new(&body.error.message));
    ClientError::Refused { status, message }
}
