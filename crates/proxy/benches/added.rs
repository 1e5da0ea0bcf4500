//! What the proxy adds: the same request by our own client, and by way of the proxy, in turn.
//!
//! `cargo bench -p obscura-proxy --bench added`
//!
//! The node is a stand-in that seals and signs as nodes do and draws nothing, behind a relay that both
//! ways take. Both verify, seal, open and check; the proxy also reads a caller's request and writes its
//! answer. Times are medians, from the request to the answer's last byte.

#![allow(missing_docs, dead_code, unused_imports, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../src/tests/stand_in/mod.rs"]
mod stand_in;
#[path = "../src/tests/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use attest::Policy;
use client::{ApiKey, Client};
use mimalloc::MiMalloc;
use protocol::CreateImageRequest;
use proxy::{Config, NodeAddress, Proxy};
use serde_json::json;
use stand_in::{MODEL, StandIn};
use zeroizing_alloc::ZeroAlloc;

/// As the program's.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

#[tokio::main]
async fn main() {
    let node = StandIn::start().await;
    let policy = Policy::production().dangerous().accept_simulated();
    let config = Config {
        nodes: vec![NodeAddress { url: node.url.clone(), evidence: None }],
        listen: "127.0.0.1:0".parse().unwrap(),
        policy: policy.clone(),
        policy_name: "a benchmark's".to_owned(),
        public_url: None,
        api_key: None,
        insecure_http: false,
        client_key: None,
        audit: None,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/images/generations", listener.local_addr().unwrap());
    let proxy = Proxy::start(config).await.unwrap();
    tokio::spawn(proxy::serve(listener, proxy, std::future::pending()));
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let attested = client.attest(&policy).await.unwrap();
    let http = reqwest::Client::new();

    println!("{:<24}{:>12}{:>12}{:>12}", "answer", "direct, ms", "proxy, ms", "added, ms");
    for (name, image_bytes, rounds) in [("small", 3, 300), ("image of 3 MB", 3_000_000, 60)] {
        *node.inner.image.lock().unwrap() = "A".repeat(image_bytes / 3 * 4);
        let (mut direct, mut proxied) = (Vec::new(), Vec::new());
        for round in 0..rounds + 10 {
            let started = Instant::now();
            let request = CreateImageRequest {
                model: Some(MODEL.to_owned()),
                prompt: Some("a lighthouse at dusk".to_owned().into()),
                ..CreateImageRequest::default()
            };
            let answer = client.generate(request, &attested).await.unwrap();
            let took_directly = started.elapsed();
            drop(answer);

            let started = Instant::now();
            let body = json!({
                "model": MODEL, "prompt": "a lighthouse at dusk", "response_format": "b64_json",
            });
            let answer = http.post(&url).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes.len() > image_bytes);
            let took_by_proxy = started.elapsed();
            if round >= 10 {
                direct.push(took_directly);
                proxied.push(took_by_proxy);
            }
        }
        let (direct, proxied) = (median(direct), median(proxied));
        println!("{name:<24}{direct:>12.2}{proxied:>12.2}{:>12.2}", proxied - direct);
    }
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
