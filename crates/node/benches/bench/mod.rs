//! A node whose model hands out one image that was made before, and requests to it.

#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::sync::Arc;

use attest::evidence::Sources;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, header::CONTENT_TYPE},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use candle_core::Device;
use engine::{Generated, Generator, Image, Job, Pipeline, ProgressObserver, PromptTokens, Timings};
use mimalloc::MiMalloc;
use node::{Config, LoadedModel, Node, Service};
use protocol::{ConfidentialComputeRequest, NodeLockResponse, Size};
use serde_json::{Value, json};
use tower::ServiceExt;
use zeroize::Zeroizing;
use zeroizing_alloc::ZeroAlloc;

/// The program's own: what a large buffer costs depends on it.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// The model that the stand-in is called.
pub(crate) const MODEL: &str = "bench/model";

/// The routes of a node that always hands out these pixels.
pub(crate) fn stand(size: Size, rgb: Vec<u8>) -> Router {
    node::app(node(size, rgb))
}

/// The same node, listening on loopback; where.
pub(crate) async fn listening(size: Size, rgb: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(node::serve(listener, node(size, rgb), std::future::pending()));
    address
}

/// The routes of a node that draws with the demo model.
pub(crate) fn drawing() -> Router {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    node::app(started(pipeline.native_size(), Box::new(pipeline)))
}

fn node(size: Size, rgb: Vec<u8>) -> Arc<Node> {
    started(size, Box::new(Stand(rgb)))
}

fn started(native_size: Size, generator: Box<dyn Generator>) -> Arc<Node> {
    let loaded = LoadedModel {
        model: MODEL.to_owned(),
        native_size,
        manifest: Vec::new(),
        generators: vec![generator],
    };
    let node: Arc<Node> =
        Node::new(Config { replay_capacity: 1 << 24, ..Config::default() }).unwrap();
    node.start(Service::start(loaded, Sources::simulated(), &node).unwrap());
    node
}

/// Hands out one image that was made before.
struct Stand(Vec<u8>);

impl Generator for Stand {
    fn generate(
        &mut self,
        job: &Job<'_>,
        _: &mut dyn ProgressObserver,
    ) -> Result<Generated, engine::Error> {
        Ok(Generated {
            images: vec![Image { size: job.size, rgb: self.0.clone().into() }],
            prompt_tokens: PromptTokens { t5: 5, computed: 256, truncated: false },
            timings: Timings::default(),
        })
    }
}

/// As hard to compress as a photograph: smooth shapes under fine grain.
pub(crate) fn image(size: Size) -> Vec<u8> {
    let mut state = 1_u32;
    let mut grain = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    };
    let (width, height) = (size.width_px(), size.height_px());
    (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| [(x / 5) as u8, (y / 5) as u8, ((x + y) / 9) as u8])
        .map(|value| value.saturating_add(grain()))
        .collect()
}

/// Sends a sealed request and reads the answer to its end.
pub(crate) async fn generate(app: &Router, body: Vec<u8>) -> Vec<u8> {
    post(app, "/v1/confidential/images/generations", body).await
}

/// The key that requests are sealed to.
pub(crate) async fn node_key(app: &Router) -> [u8; 32] {
    let body = json!({ "model": MODEL }).to_string().into_bytes();
    let lock: NodeLockResponse =
        serde_json::from_slice(&post(app, "/v1/nodes/lock", body).await).unwrap();
    BASE64_STANDARD.decode(lock.public_key).unwrap().try_into().unwrap()
}

async fn post(app: &Router, path: &str, body: Vec<u8>) -> Vec<u8> {
    let request =
        Request::post(path).header(CONTENT_TYPE, "application/json").body(Body::from(body));
    let answer = app.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()
}

/// The body of a fresh sealed request.
pub(crate) fn sealed(key: &[u8; 32]) -> Vec<u8> {
    sealed_with(key, json!({}))
}

/// The same, with these fields too.
pub(crate) fn sealed_with(key: &[u8; 32], fields: Value) -> Vec<u8> {
    let mut body = json!({ "model": MODEL, "prompt": "a red house on a green field" });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let stream = body.get("stream").and_then(Value::as_bool);
    let body = body.to_string();
    let (sealed, _) = seal::seal_request(key, Zeroizing::new(body.into_bytes())).unwrap();
    serde_json::to_vec(&ConfidentialComputeRequest {
        model_name: MODEL.to_owned(),
        stream,
        ..sealed
    })
    .unwrap()
}
