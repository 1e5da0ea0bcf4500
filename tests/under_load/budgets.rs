//! Bytes and requests that clients may hold at once.

use std::time::Duration;

use node::{Config, MAX_BODY_BYTES};
use tests::{OneColour, TestNode, error_of, http};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn beginning(node: &TestNode, headers: &str, length: usize, sent: usize) -> TcpStream {
    let address = node.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/nodes/lock HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n{}",
        " ".repeat(sent)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// All bodies together have so much memory; who finds none is told to come back, and can.
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
    let held = beginning(&node, "", MAX_BODY_BYTES, 200_000).await;
    let refused = async {
        loop {
            let answer = large().await;
            if answer.status() != 200 {
                return answer;
            }
        }
    };
    // The node takes a moment to read what it was sent.
    let refused = timeout(PATIENCE, refused).await.expect("the budget is spent");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let body = refused.text().await.unwrap();
    assert_eq!(error_of(&body).code.as_deref(), Some("bodies_busy"));
    drop(held);
    assert_eq!(large().await.status(), 200, "whoever hangs up gives it back");
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
        timeout(PATIENCE, full).await.expect("one request is all it may have open");
        assert_eq!(status("192.0.2.2").await, expected[1], "trusted: {trusted}");
    }
}
