//! Requests a second of a node on loopback whose model hands out one image that was made before:
//! HTTP, JSON, opening, PNG, sealing, and nothing else. Ours, or with `PEER=http://…` whoever
//! answers the same two routes there.
//!
//! `cargo bench -p obscura-node --bench requests`

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should say so")]
#![allow(clippy::print_stdout, reason = "its result")]

mod bench;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use protocol::{NodeLockResponse, Size};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const CLIENTS: usize = 16;
const TIME: Duration = Duration::from_secs(5);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Ok(peer) = std::env::var("PEER") {
            return measure("peer", peer.strip_prefix("http://").unwrap()).await;
        }
        // The last one's answers are 3 MB long.
        for (width, height) in [(64, 64), (1024, 1024), (1024, 816)] {
            let size = Size::new(width, height).unwrap();
            let address = bench::listening(size, bench::image(size)).await;
            measure(&size.to_string(), &address).await;
        }
    });
}

async fn measure(name: &str, address: &str) {
    let key = node_key(address).await;
    let until = Instant::now() + TIME;
    let bytes = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(address.to_owned(), key, until, bytes.clone())))
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    took.sort();
    println!(
        "{name}: {:.0} requests a second, {} kB each, p50 {:.1?}, p99 {:.1?} with {CLIENTS} clients",
        took.len() as f64 / TIME.as_secs_f64(),
        bytes.load(Ordering::Relaxed) / took.len() / 1000,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
    );
}

/// One request after the other on one connection; how long each took.
async fn client(
    address: String,
    key: [u8; 32],
    until: Instant,
    bytes: Arc<AtomicUsize>,
) -> Vec<Duration> {
    let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut took = Vec::new();
    let mut answer = Vec::new();
    while Instant::now() < until {
        let body = bench::sealed(&key);
        let started = Instant::now();
        let path = "/v1/confidential/images/generations";
        post(&mut connection, path, &body, &mut answer).await;
        took.push(started.elapsed());
        bytes.fetch_add(answer.len(), Ordering::Relaxed);
    }
    took
}

async fn node_key(address: &str) -> [u8; 32] {
    let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
    let body = json!({ "model": bench::MODEL }).to_string();
    let mut answer = Vec::new();
    post(&mut connection, "/v1/nodes/lock", body.as_bytes(), &mut answer).await;
    let lock: NodeLockResponse = serde_json::from_slice(&answer).unwrap();
    BASE64_STANDARD.decode(lock.public_key).unwrap().try_into().unwrap()
}

/// The least of HTTP: a head that ends with an empty line, a body of a known length. The answer's goes
/// into a buffer that is used again, so that whoever asks takes little of the time that is measured.
async fn post(
    connection: &mut BufReader<TcpStream>,
    path: &str,
    body: &[u8],
    answer: &mut Vec<u8>,
) {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
    answer.resize(length.trim().parse().unwrap(), 0);
    connection.read_exact(answer).await.unwrap();
}
