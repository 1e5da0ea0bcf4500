//! The node that is attacked, and clients of both versions of HTTP.

use std::{net::TcpListener, process::Stdio, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tests::{Exchange, http, http_builder};
use tokio::time::timeout;

use crate::program::Program;

pub(crate) const MODEL: &str = "obscura/demo";
/// The bearer key of metrics, where a node has one.
pub(crate) const METRICS: &str = "metrics";
/// Far more than anything here takes, and less than a run of tests has.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The program, serving.
pub(crate) struct Target {
    program: Program,
    log: NamedTempFile,
    /// Its clients, see [`both`]; each attack may have its own.
    pub(crate) clients: [Client; 2],
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

impl Target {
    pub(crate) async fn start(words: &[&str]) -> Self {
        let log = NamedTempFile::new().unwrap();
        let program = Program::serve(words, Stdio::from(log.reopen().unwrap()));
        program.ready().await;
        Self { url: program.url.clone(), clients: both(), program, log }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Stops it, and gives what it logged.
    pub(crate) fn stop(self) -> String {
        self.program.stop();
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    pub(crate) fn post(&self, client: &Client, path: &str) -> RequestBuilder {
        client.post(format!("{}{path}", self.url))
    }

    /// The X25519 key that clients are told to seal to.
    pub(crate) async fn public_key(&self, bearer: &str) -> [u8; 32] {
        let asked = self.post(&self.clients[0], "/v1/nodes/lock").bearer_auth(bearer);
        let answer = asked.json(&json!({"model": MODEL})).send().await.unwrap();
        let lock: Value = answer.json().await.unwrap();
        BASE64_STANDARD.decode(lock["public_key"].as_str().unwrap()).unwrap().try_into().unwrap()
    }

    /// A request with these fields, to be sent by this client.
    pub(crate) async fn sealed(&self, client: &Client, fields: Value) -> Exchange {
        self.sealed_to(&self.public_key("").await, client, fields)
    }

    /// The same, sealed to a key that is known.
    pub(crate) fn sealed_to(&self, key: &[u8; 32], client: &Client, mut fields: Value) -> Exchange {
        fields["model"] = MODEL.into();
        let body = fields.to_string();
        let mut exchange = Exchange::seal_to(&self.url, key, body.as_bytes(), client.clone());
        exchange.envelope.model_name = MODEL.to_owned();
        exchange.envelope.stream = fields["stream"].as_bool();
        exchange
    }

    /// Seals and sends; the answer as soon as it begins.
    pub(crate) async fn ask(&self, client: &Client, fields: Value) -> Response {
        in_time(self.sealed(client, fields).await.request().send()).await.unwrap()
    }

    /// A number out of its metrics.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let asked = self.clients[0].get(format!("{}/metrics", self.url)).bearer_auth(METRICS);
        let answer = asked.send().await.unwrap();
        let text = answer.text().await.unwrap();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.next().unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// Waits until nothing waits or runs.
    pub(crate) async fn idle(&self) {
        in_time(async {
            while self.metric("obscura_queue_depth").await > 0.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

/// A client of HTTP/1.1, and one that speaks HTTP/2 from its first byte on.
pub(crate) fn both() -> [Client; 2] {
    [http(), http_builder().http2_prior_knowledge().build().unwrap()]
}

pub(crate) async fn in_time<T>(task: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, task).await.expect("in time")
}

/// An address that nothing listens on.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Settings, each behind its flag.
pub(crate) fn set(settings: &[String]) -> Vec<&str> {
    settings.iter().flat_map(|setting| ["--set", setting]).collect()
}

/// Fields of the least work that there is.
pub(crate) fn small() -> Value {
    json!({"prompt": "a red star", "size": "16x16", "steps": 1})
}

/// Fields of a stream that takes far longer than a test, if nobody stops it: it is answered as soon as it is
/// taken on, and ends soon after its reader has left.
pub(crate) fn endless() -> Value {
    json!({"prompt": "a red star", "size": "512x512", "steps": 50, "n": 10, "stream": true})
}
