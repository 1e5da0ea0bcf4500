//! A node that is asked to stop finishes what runs and refuses the rest.

use std::{
    sync::{atomic::Ordering, mpsc},
    time::Duration,
};

use node::Config;
use serde_json::{Value, json};
use tests::{Exchange, MODEL, OneColour, TestNode, error_of, http, http2::Http2};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_and_what_waits_is_refused() {
    let (begun, has_begun) = mpsc::channel();
    let generator =
        OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_millis(150)) };
    let node = TestNode::with_config(generator, Config::default()).await;
    let running = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    has_begun.recv().unwrap();
    let waiting = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    while node.queue_depth().await < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    node.stop().await;
    assert_eq!(running.await.unwrap().images().data.len(), 1);
    let waiting = waiting.await.unwrap();
    assert_eq!(waiting.status, 503);
    assert!(waiting.retry_after_secs.is_some());
}

/// Whoever waits is told while the image before them is still being made: alone, in a stream, and
/// with an envelope that was opened.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_at_once() {
    let (begun, has_begun) = mpsc::channel();
    let slow = OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_secs(1)) };
    let finished = slow.finished.clone();
    let config = Config { allow_plaintext: true, ..Config::default() };
    let node = TestNode::with_config(slow, config).await;
    let url = node.url.clone();
    let running = tokio::spawn(Exchange::of(&url, json!({"prompt": "x"})).await.send());
    has_begun.recv().unwrap();

    let mut sealed = Vec::new();
    for _ in 0..6 {
        sealed.push(tokio::spawn(Exchange::of(&url, json!({"prompt": "x"})).await.send()));
    }
    let clear = tokio::spawn(
        http().post(format!("{url}/v1/images/generations")).json(&asked(false)).send(),
    );
    let stream = http().post(format!("{url}/v1/images/generations")).json(&asked(true));
    let stream = stream.send().await.unwrap();
    while node.queue_depth().await < 9 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let stopping = tokio::spawn(node.stop());
    for waiting in sealed {
        let waiting = waiting.await.unwrap();
        assert_eq!((waiting.status, waiting.retry_after_secs), (503, Some(5)));
        assert_eq!(error_of(&waiting.text).code.as_deref(), Some("draining"));
    }
    assert_eq!(clear.await.unwrap().unwrap().status(), 503);
    let events = stream.text().await.unwrap();
    assert!(events.contains("\"draining\""), "{events}");
    assert_eq!(finished.load(Ordering::SeqCst), 0, "they were told before");
    assert_eq!(running.await.unwrap().images().data.len(), 1);
    stopping.await.unwrap();
}

fn asked(stream: bool) -> Value {
    json!({"model": MODEL, "prompt": "x", "stream": stream})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_takes_too_long_does_not_hold_the_node() {
    let (begun, has_begun) = mpsc::channel();
    let generator =
        OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_secs(5)) };
    let config = Config { drain_secs: 1, ..Config::default() };
    let node = TestNode::with_config(generator, config).await;
    let running =
        tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.request().send());
    has_begun.recv().unwrap();
    tokio::time::timeout(Duration::from_secs(4), node.stop()).await.expect("it stops");
    running.abort();
}

/// Whatever clients hold, the node ends within its time; who comes meanwhile is told.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_make_no_progress_do_not_hold_the_node() {
    let (begun, has_begun) = mpsc::channel();
    let painter =
        OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_millis(500)) };
    let config = Config { allow_plaintext: true, ..Config::default() };
    let node = TestNode::with_config(painter, config).await;
    let url = node.url.clone();
    let address = url.strip_prefix("http://").unwrap();
    let running = tokio::spawn(Exchange::of(&url, json!({"prompt": "x"})).await.send());
    has_begun.recv().unwrap();

    let mut unread = Http2::connect(&url, 0).await;
    for number in 0..20 {
        unread.request(2 * number + 1, "/openapi.json").await;
    }
    let mut silent = Vec::new();
    let beginnings: [&[u8]; 4] = [
        b"",
        b"PRI * HT",
        b"GET /health",
        b"POST /v1/nodes/lock HTTP/1.1\r\nHost: localhost\r\n\
          Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ];
    for beginning in beginnings {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(beginning).await.unwrap();
        silent.push(socket);
    }
    let stopping = tokio::spawn(node.stop());
    let told = async {
        loop {
            // A connection that had said nothing when the node was asked to stop is closed.
            let answer = http().get(format!("{url}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status() == 503) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("readiness ends at once");
    assert_eq!(running.await.unwrap().images().data.len(), 1, "what ran is finished");
    // Half of what it may take at the most.
    let bound = Duration::from_secs(Config::default().drain_secs / 2);
    tokio::time::timeout(bound, stopping).await.expect("it stops").unwrap();
    drop((unread, silent));
}
