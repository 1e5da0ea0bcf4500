//! A node that is asked to stop finishes what runs and refuses the rest.

use std::{sync::mpsc, time::Duration};

use node::Config;
use serde_json::json;
use tests::{Exchange, OneColour, TestNode};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_and_what_waits_is_refused() {
    let (begun, has_begun) = mpsc::channel();
    let generator =
        OneColour { begun: Some(begun), ..OneColour::with_step(Duration::from_millis(150)) };
    let node = TestNode::with_config(generator, Config::default()).await;
    let running = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    has_begun.recv().unwrap();
    let waiting = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    tokio::time::sleep(Duration::from_millis(100)).await;

    node.stop().await;
    assert_eq!(running.await.unwrap().pictures().data.len(), 1);
    let waiting = waiting.await.unwrap();
    assert_eq!(waiting.status, 503);
    assert!(waiting.retry_after_secs.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_takes_too_long_does_not_hold_the_node() {
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
