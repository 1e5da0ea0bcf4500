//! Recorded envelopes, answers sent back, and floods that would make a node forget either.

use protocol::ConfidentialComputeResponse;
use reqwest::Client;
use serde_json::json;
use tests::Exchange;
use tokio::time::{Duration, sleep};

use crate::target::{Target, in_time, small};

/// Requests after which a key of this node is worn out.
pub(crate) const CAPACITY: usize = 16;
const SEALED: &str = "/v1/confidential/images/generations";

async fn status(exchange: &Exchange) -> u16 {
    in_time(exchange.request().send()).await.unwrap().status().as_u16()
}

/// Requests that are refused cost nothing, so they must not use up a key.
pub(crate) async fn refused_requests_wear_out_no_key(node: &Target) {
    let before = node.public_key("").await;
    for client in &node.clients {
        for _ in 0..2 * CAPACITY {
            let refused = json!({"prompt": "x", "n": 0});
            assert_eq!(status(&node.sealed_to(&before, client, refused)).await, 400);
        }
    }
    // The node looks now and then whether a key is worn out.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.public_key("").await, before);
}

/// However many rotations are paid for, whoever sealed before them is answered, once.
pub(crate) async fn forced_rotations_lock_nobody_out(node: &Target) {
    let clients = &node.clients;
    let mut sent = Vec::new();
    let mut victims = Vec::new();
    for client in clients.iter().cycle().take(3) {
        victims.push(node.sealed(client, small()).await);
        sent.push(rotate(node, client).await);
    }
    for victim in &victims {
        assert_eq!(status(victim).await, 200);
    }
    // None is drawn twice, whatever came in between.
    for used in sent.iter().chain(&victims) {
        assert_eq!(status(used).await, 409);
    }
}

/// Wears out the current key; one of the requests that did.
async fn rotate(node: &Target, client: &Client) -> Exchange {
    let before = node.public_key("").await;
    let first = node.sealed_to(&before, client, small());
    assert_eq!(status(&first).await, 200);
    for _ in 1..CAPACITY * 3 / 4 {
        assert_eq!(status(&node.sealed_to(&before, client, small())).await, 200);
    }
    in_time(async {
        while node.public_key("").await == before {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    first
}

/// Under one key go a request and its answer, so the answer would open as a request does: an image, a refusal,
/// and each event of a stream.
pub(crate) async fn an_answer_sent_back_is_a_replay(node: &Target) {
    let mut stream = small();
    stream["stream"] = true.into();
    stream["progress"] = true.into();
    for client in &node.clients {
        for (fields, expected, parts) in
            [(small(), 200, 1), (json!({"prompt": "x", "n": 0}), 400, 1), (stream.clone(), 200, 2)]
        {
            let request = node.sealed(client, fields).await;
            let mut reflected = request.envelope.clone();
            let answer = request.send().await;
            assert_eq!(answer.status, expected);
            let events = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
            let mut sealed: Vec<&str> = events.collect();
            if sealed.is_empty() {
                sealed.push(&answer.text);
            }
            assert!(sealed.len() >= parts, "{}", answer.text);
            for sealed in sealed {
                let sealed: ConfidentialComputeResponse = serde_json::from_str(sealed).unwrap();
                reflected.ciphertext = sealed.ciphertext;
                reflected.nonce = sealed.nonce;
                reflected.plaintext_body_hash = sealed.response_hash.unwrap();
                let answer = node.post(client, SEALED).json(&reflected).send();
                assert_eq!(in_time(answer).await.unwrap().status(), 409);
            }
        }
    }
}
