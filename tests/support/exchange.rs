//! One sealed request and its answer, field by field.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageResponse, ErrorBody,
    NodeLockResponse,
};
use reqwest::{Client, ClientBuilder};
use seal::Opener;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::MODEL;

/// An HTTP client that gives up rather than hang a test. It takes any certificate: whose key a connection
/// ends at is for the client under test to judge.
///
/// # Panics
/// Where there is none to be had.
#[must_use]
pub fn http() -> Client {
    http_builder().build().expect("a client")
}

/// What [`http`] is made of, for a client that differs in something.
///
/// # Panics
/// Where there is no cryptography to be had.
pub fn http_builder() -> ClientBuilder {
    // Installs the cryptography that reqwest takes from the process.
    client::Client::new("http://127.0.0.1", client::ApiKey::none()).expect("a sound URL");
    let client = Client::builder().timeout(Duration::from_secs(60));
    client.tls_danger_accept_invalid_certs(true)
}

/// A request, ready to be sent or to be broken first.
pub struct Exchange {
    /// What will be sent.
    pub envelope: ConfidentialComputeRequest,
    opener: Opener,
    url: String,
    http: Client,
}

impl Exchange {
    /// Seals `body` to the node's key.
    ///
    /// # Panics
    /// Where the node gives no key.
    pub async fn seal(node_url: &str, body: &[u8]) -> Self {
        let http = http();
        let lock = http.post(format!("{node_url}/v1/nodes/lock")).json(&json!({"model": MODEL}));
        let lock: NodeLockResponse =
            lock.send().await.expect("an answer").json().await.expect("a key");
        Self::seal_to(node_url, &key_of(&lock), body, http)
    }

    /// Seals `body` to this key.
    ///
    /// # Panics
    /// Where the key is no key.
    #[must_use]
    pub fn seal_to(node_url: &str, key: &[u8; 32], body: &[u8], http: Client) -> Self {
        let (sealed, opener) =
            seal::seal_request(key, Zeroizing::new(body.to_vec())).expect("a good key");
        let envelope = ConfidentialComputeRequest {
            model_name: MODEL.to_owned(),
            stream: Some(false),
            ..sealed
        };
        let url = format!("{node_url}/v1/confidential/images/generations");
        Self { envelope, opener, url, http }
    }

    /// Seals these fields, and the model's name.
    pub async fn of(node_url: &str, fields: Value) -> Self {
        let mut body = fields;
        if body.get("model").is_none() {
            body["model"] = MODEL.into();
        }
        Self::seal(node_url, body.to_string().as_bytes()).await
    }

    /// The same to the route for edits.
    #[must_use]
    pub fn to_edits(mut self) -> Self {
        self.url = self.url.replace("/generations", "/edits");
        self
    }

    /// The request as the HTTP client will send it, for headers to be added.
    pub fn request(&self) -> reqwest::RequestBuilder {
        self.http.post(&self.url).json(&self.envelope)
    }

    /// Sends it, with a bearer key.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn send_with_key(self, key: &str) -> Sent {
        let answer = self.request().bearer_auth(key).send().await.expect("an answer");
        Sent::new(answer, self.opener).await
    }

    /// Sends it.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn send(self) -> Sent {
        let answer = self.request().send().await.expect("an answer");
        Sent::new(answer, self.opener).await
    }
}

/// An answer, sealed or not.
pub struct Sent {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header, where there is one.
    pub retry_after_secs: Option<u64>,
    /// The body in clear text.
    pub text: String,
    opener: Opener,
}

impl Sent {
    async fn new(answer: reqwest::Response, opener: Opener) -> Self {
        let retry_after = answer.headers().get("retry-after");
        Self {
            status: answer.status().as_u16(),
            retry_after_secs: retry_after.map(|secs| secs.to_str().unwrap().parse().unwrap()),
            text: answer.text().await.expect("a body"),
            opener,
        }
    }

    /// Opens the sealed body, which is a response or, at 400, an error.
    ///
    /// # Panics
    /// Where it does not open.
    pub fn open(self) -> String {
        let envelope: ConfidentialComputeResponse =
            serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("sealed: {}", self.text));
        let opened = self.opener.open_unattested(&envelope).expect("it opens");
        String::from_utf8(opened.body.as_bytes().to_vec()).expect("JSON is UTF-8")
    }

    /// Opens a response with images.
    ///
    /// # Panics
    /// Where it is none.
    pub fn images(self) -> CreateImageResponse {
        assert_eq!(self.status, 200, "{}", self.text);
        CreateImageResponse::from_json(self.open().as_bytes()).expect("a response")
    }
}

/// The error object in a body.
///
/// # Panics
/// Where the body is none.
#[must_use]
pub fn error_of(body: &str) -> protocol::ErrorObject {
    serde_json::from_str::<ErrorBody>(body).unwrap_or_else(|_| panic!("an error: {body}")).error
}

fn key_of(lock: &NodeLockResponse) -> [u8; 32] {
    BASE64_STANDARD.decode(&lock.public_key).unwrap().try_into().unwrap()
}
