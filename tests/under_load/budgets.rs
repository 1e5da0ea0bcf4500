//! Bytes and requests that clients may hold at once.

use std::{
    cell::Cell,
    sync::{Arc, mpsc},
    time::Duration,
};

use node::{Config, MAX_BODY_BYTES};
use tests::{OneColour, TestNode, error_of, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const TIMEOUT: Duration = Duration::from_secs(60);

async fn beginning(node: &TestNode, headers: &str, length: usize, sent: usize) -> TcpStream {
    let address = node.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/nodes/lock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n{}",
        " ".repeat(sent)
    );
    // The node may answer before it has taken all of it.
    let _ = socket.write_all(head.as_bytes()).await;
    socket
}

/// All bodies together have so much memory; where it is taken, the body that has been on its way the
/// longest makes way, and is told to come back.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_budget_of_memory() {
    let config = Config { body_memory_bytes: MAX_BODY_BYTES, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let large = || {
        let body = format!("{{\"model\": \"{}\"{}}}", tests::MODEL, " ".repeat(200_000));
        let url = format!("{}/v1/nodes/lock", node.url);
        let request = http().post(url).header("content-type", "application/json").body(body);
        async move { request.send().await.expect("an answer") }
    };
    assert_eq!(large().await.status(), 200);
    let mut held = beginning(&node, "", MAX_BODY_BYTES, 200_000).await;
    let is_over = Cell::new(false);
    let told = async {
        let mut answer = Vec::new();
        let _ = held.read_to_end(&mut answer).await;
        is_over.set(true);
        String::from_utf8(answer).unwrap()
    };
    let others = async {
        while !is_over.get() {
            assert_eq!(large().await.status(), 200, "nobody else is refused");
        }
    };
    // The node takes a moment to read what it was sent.
    let both = async { tokio::join!(told, others).0 };
    let told = timeout(TIMEOUT, both).await.expect("it makes way");
    let (head, body) = told.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after"), "{head}");
    assert_eq!(error_of(body).code.as_deref(), Some("bodies_busy"));
}

/// Who waits or is drawn for holds no memory that other bodies need.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_read_is_let_go() {
    let (begun, has_begun) = mpsc::channel();
    let slow = OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_secs(5)) };
    let config =
        Config { allow_plaintext: true, body_memory_bytes: MAX_BODY_BYTES, ..Config::default() };
    let node = TestNode::with_config(slow, config).await;
    let large = |path: &str| {
        let body = format!(
            "{{\"model\": \"{}\", \"prompt\": \"x\"{}}}",
            tests::MODEL,
            " ".repeat(200_000)
        );
        let request = http().post(format!("{}{path}", node.url));
        request.header("content-type", "application/json").body(body).send()
    };
    let drawn = tokio::spawn(large("/v1/images/generations"));
    has_begun.recv().unwrap();
    assert_eq!(large("/v1/nodes/lock").await.unwrap().status(), 200);
    drawn.abort();
}

/// Whoever fills that memory again and again keeps nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_keep_no_other_out() {
    let config = Config { body_memory_bytes: 8 * MAX_BODY_BYTES, ..Config::default() };
    let node = Arc::new(TestNode::with_config(OneColour::instant(), config).await);
    let hostile: Vec<_> = (0..32)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move {
                loop {
                    let mut held = beginning(&node, "", MAX_BODY_BYTES, MAX_BODY_BYTES - 1).await;
                    let _ = held.read_to_end(&mut Vec::new()).await;
                }
            })
        })
        .collect();
    let body = format!("{{\"model\": \"{}\"}}", tests::MODEL);
    for _ in 0..10 {
        let asked = http().post(format!("{}/v1/nodes/lock", node.url));
        let asked = asked.header("content-type", "application/json").body(body.clone()).send();
        assert_eq!(timeout(TIMEOUT, asked).await.expect("in time").unwrap().status(), 200);
    }
    hostile.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Each client of a trusted reverse proxy has a share of its own, and nobody else names clients.
#[tokio::test(flavor = "multi_thread")]
async fn clients_have_shares_by_the_address_that_a_trusted_proxy_names() {
    for (trusted, expected) in [(true, [429, 200]), (false, [429, 429])] {
        let config = Config {
            max_requests_per_address: 1,
            trusted_forwarders: match trusted {
                true => vec!["127.0.0.0/8".parse().unwrap()],
                false => Vec::new(),
            },
            ..Config::default()
        };
        let node = TestNode::with_config(OneColour::instant(), config).await;
        let status = |client: &str| {
            let url = format!("{}/healthz", node.url);
            let request = http().get(url).header("x-forwarded-for", client);
            async move { request.send().await.unwrap().status().as_u16() }
        };
        let _held = beginning(&node, "X-Forwarded-For: 192.0.2.1\r\n", 100, 1).await;
        let full = async {
            while status("198.51.100.9, 192.0.2.1").await != expected[0] {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, full).await.expect("one request is all it may have open");
        assert_eq!(status("192.0.2.2").await, expected[1], "trusted: {trusted}");
    }
}
