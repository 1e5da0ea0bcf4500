//! What an HTTP/2 client can do that an HTTP/1 client cannot.

use std::time::Duration;

use node::Config;
use serde_json::json;
use tests::{
    Exchange, OneColour, TestNode, http,
    http2::{END_HEADERS, END_STREAM, Http2, frame, head, kind},
};
use tokio::time::{sleep, timeout};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Two seconds for who drips, where the machine is busy; a body that comes as it should may take thirty.
const DRAINED: Duration = Duration::from_secs(20);
const ENHANCE_YOUR_CALM: u32 = 11;

async fn still_serves(node: &TestNode) {
    let answer = http().get(format!("{}/healthz", node.url)).send();
    assert_eq!(timeout(TIMEOUT, answer).await.expect("in time").unwrap().status(), 200);
    Exchange::of(&node.url, json!({"prompt": "x"})).await.send().await.images();
}

/// Answers that nobody takes are reset, and their client's share is free again.
#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_window_are_reset() {
    let config =
        Config { delivery_timeout_secs: 6, max_requests_per_address: 25, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut stalled = Http2::connect(&node.url, 0).await;
    for number in 0..25 {
        stalled.request(2 * number + 1, "/openapi.json").await;
    }
    for _ in 0..25 {
        let answered = timeout(TIMEOUT, stalled.next_of(kind::HEADERS)).await;
        answered.expect("in time").expect("each is answered");
    }
    let refused = http().get(format!("{}/healthz", node.url)).send().await.unwrap();
    assert_eq!(refused.status(), 429, "the address has its share");
    assert!(refused.headers().contains_key("retry-after"));
    for _ in 0..25 {
        let reset = timeout(TIMEOUT, stalled.next_of(kind::RST_STREAM)).await.expect("in time");
        if reset.is_none() {
            break; // The whole connection was idle for as long.
        }
    }
    still_serves(&node).await;
}

/// A byte now and then is no progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_of_window_holds_nothing() {
    let config = Config { delivery_timeout_secs: 2, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut stalled = Http2::connect(&node.url, 0).await;
    stalled.request(1, "/openapi.json").await;
    let ended = async {
        loop {
            let one = frame(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
            if !stalled.write(&one).await {
                return;
            }
            match timeout(Duration::from_millis(100), stalled.next_of(kind::RST_STREAM)).await {
                Ok(_) => return,
                Err(_) => continue,
            }
        }
    };
    timeout(TIMEOUT, ended).await.expect("it is reset");
    still_serves(&node).await;
}

/// What is still read of a body that was refused has the same bounds as over HTTP/1.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_body_that_drips_is_reset() {
    let node = TestNode::start(OneColour::instant()).await;
    let mut dripping = Http2::connect(&node.url, 65_535).await;
    let long = head("POST", "/v1/images/generations", &[("content-length", "100000000")]);
    assert!(dripping.write(&frame(kind::HEADERS, END_HEADERS, 1, &long)).await);
    let refused = timeout(TIMEOUT, dripping.next_of(kind::HEADERS)).await.expect("in time");
    assert!(refused.is_some(), "the refusal comes before the body");
    let ended = async {
        while dripping.write(&frame(kind::DATA, 0, 1, b" ")).await {
            let reset = dripping.next_of(kind::RST_STREAM);
            if timeout(Duration::from_millis(100), reset).await.is_ok() {
                return;
            }
        }
    };
    timeout(DRAINED, ended).await.expect("it is reset");
    still_serves(&node).await;
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection() {
    let node = TestNode::start(OneColour::instant()).await;
    let mut hostile = Http2::connect(&node.url, 65_535).await;
    let cancel = 8_u32.to_be_bytes();
    let mut flood = Vec::new();
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let head = head("GET", "/openapi.json", &[]);
        flood.extend(frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, &head));
        flood.extend(frame(kind::RST_STREAM, 0, stream, &cancel));
    }
    // The node may close before it has taken all of it.
    hostile.write(&flood).await;
    let end = timeout(TIMEOUT, hostile.next_of(kind::GOAWAY)).await.expect("it is ended");
    if let Some(goaway) = end {
        let reason = u32::from_be_bytes(goaway.payload[4..8].try_into().unwrap());
        assert_eq!(reason, ENHANCE_YOUR_CALM);
    }
    still_serves(&node).await;
}

/// CVE-2024-27316 and its like.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_ends_the_connection() {
    let node = TestNode::start(OneColour::instant()).await;
    let mut hostile = Http2::connect(&node.url, 65_535).await;
    hostile.write(&frame(kind::HEADERS, 0, 1, &head("GET", "/", &[]))).await;
    let more = frame(
        kind::CONTINUATION,
        0,
        1,
        &[&[0, 1, b'a', 100][..], &[b'b'; 100]].concat().repeat(100),
    );
    let mut taken = 0;
    while taken < 10_000 && hostile.write(&more).await {
        taken += 1;
    }
    assert!(taken < 10_000, "a head of {} megabytes was taken", taken / 100);
    still_serves(&node).await;
}

/// Frames that only ask for an answer, from a client that reads none.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_cost_nobody_else() {
    let node = TestNode::start(OneColour::instant()).await;
    for flood in [frame(kind::PING, 0, 0, &[7; 8]), frame(kind::SETTINGS, 0, 0, &[])] {
        let mut hostile = Http2::connect(&node.url, 65_535).await;
        let piece = flood.repeat(1000);
        // Until the node takes no more of it, or 20 MB.
        for _ in 0..1000 {
            let written = timeout(Duration::from_millis(500), hostile.write(&piece)).await;
            if !matches!(written, Ok(true)) {
                break;
            }
        }
        still_serves(&node).await;
    }
}

/// An honest client is not hurt by any of these bounds.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_reader_gets_everything() {
    let node = TestNode::start(OneColour::instant()).await;
    let mut honest = Http2::connect(&node.url, 1000).await;
    honest.request(1, "/openapi.json").await;
    let mut bytes = 0;
    loop {
        let data = timeout(TIMEOUT, honest.next_of(kind::DATA)).await.expect("in time").unwrap();
        bytes += data.payload.len();
        if data.flags & END_STREAM != 0 {
            break;
        }
        let more = (data.payload.len() as u32).to_be_bytes();
        if !data.payload.is_empty() {
            honest.write(&frame(kind::WINDOW_UPDATE, 0, 1, &more)).await;
            honest.write(&frame(kind::WINDOW_UPDATE, 0, 0, &more)).await;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let whole = http().get(format!("{}/openapi.json", node.url)).send().await.unwrap();
    assert_eq!(bytes, whole.bytes().await.unwrap().len());
}
