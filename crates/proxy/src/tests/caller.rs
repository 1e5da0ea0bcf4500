//! A program that speaks to the proxy.

use std::{net::SocketAddr, sync::Arc};

use attest::Policy;
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use zeroize::Zeroizing;

use super::stand_in::{MODEL, StandIn};
use crate::{
    Config, NodeAddress, Proxy, StartError,
    serve::{Connections, serve_at_most},
};

/// What no node may be sent as it is.
pub(super) const PROMPT: &str = "a vermilion lighthouse beneath thunderclouds";

/// A proxy on a free port, until it is dropped.
pub(super) struct Running {
    pub(super) url: String,
    pub(super) proxy: Arc<Proxy>,
    http: reqwest::Client,
    serving: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(super) fn config(nodes: &[&str]) -> Config {
    let node = |url: &&str| NodeAddress { url: (*url).to_owned(), evidence: None };
    Config {
        nodes: nodes.iter().map(node).collect(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        policy: Policy::production().dangerous().accept_simulated(),
        policy_name: "a test's".to_owned(),
        public_url: None,
        api_key: None,
        insecure_http: false,
        client_key: None,
        audit: None,
    }
}

pub(super) fn key(key: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(key.to_owned()))
}

pub(super) async fn run(config: Config) -> Result<Running, StartError> {
    run_at_most(Connections::DEFAULT, config).await
}

pub(super) async fn run_at_most(
    connections: Connections,
    config: Config,
) -> Result<Running, StartError> {
    let proxy = Proxy::start(config).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let for_ever = std::future::pending();
    let serving = tokio::spawn(serve_at_most(connections, listener, proxy.clone(), for_ever));
    Ok(Running { url, proxy, http: reqwest::Client::new(), serving })
}

/// A sound node, and a proxy of it.
pub(super) async fn pair() -> (StandIn, Running) {
    let node = StandIn::start().await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    (node, proxy)
}

impl Running {
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(super) async fn post(&self, body: Value) -> Response {
        let url = format!("{}/v1/images/generations", self.url);
        self.http.post(url).json(&body).send().await.unwrap()
    }

    /// One request of OpenAI's shape.
    pub(super) async fn ask(&self) -> (StatusCode, Value) {
        let answer = self.post(json!({ "model": MODEL, "prompt": PROMPT })).await;
        (answer.status(), answer.json().await.unwrap())
    }

    /// The same as a stream: names and data of its events.
    pub(super) async fn ask_stream(&self) -> Vec<(String, Value)> {
        let answer = self
            .post(json!({ "model": MODEL, "prompt": PROMPT, "stream": true, "progress": true }))
            .await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        let text = answer.text().await.unwrap();
        let events = text.split("\n\n").filter(|event| event.starts_with("event: "));
        let read = |event: &str| {
            let (name, data) = event.split_once('\n').unwrap();
            let data = data.strip_prefix("data: ").unwrap();
            (name["event: ".len()..].to_owned(), serde_json::from_str(data).unwrap())
        };
        events.map(read).collect()
    }

    /// The code of a refused request.
    pub(super) async fn refused(&self) -> (u16, String) {
        let (status, body) = self.ask().await;
        (status.as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }
}
