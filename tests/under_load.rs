//! More requests than there is room for, clients that hang up, clients that do not read, and clients
//! that hold what they can.

#[path = "under_load/budgets.rs"]
mod budgets;
#[path = "under_load/connections.rs"]
mod connections;
#[path = "under_load/http2.rs"]
mod http2;
mod unread;

use std::{
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering, mpsc},
    time::Duration,
};

use node::{ApiKeyDigest, Config};
use serde_json::json;
use tests::{Exchange, MODEL, OneColour, TestNode, error_of, http};

const STEP: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_against_a_queue_of_eight() {
    let config = Config { queue_capacity: 8, ..Config::default() };
    let node = TestNode::with_config(OneColour::with_step(STEP), config).await;
    let mut requests = Vec::new();
    for seed in 0..64 {
        requests.push(Exchange::of(&node.url, json!({"prompt": "x", "seed": seed})).await);
    }
    let sent: Vec<_> = requests.into_iter().map(|request| tokio::spawn(request.send())).collect();
    let (mut served, mut refused) = (0, 0);
    for (seed, sent) in (0..).zip(sent) {
        let sent = sent.await.unwrap();
        match sent.status {
            200 => {
                served += 1;
                assert_eq!(sent.images().seed, Some(seed), "everybody gets their own");
            }
            429 => {
                refused += 1;
                assert!(sent.retry_after_secs.is_some_and(|secs| secs >= 1));
            }
            other => panic!("neither served nor refused: {other} {}", sent.text),
        }
    }
    assert_eq!(served + refused, 64);
    // One that runs and eight that wait, at the least; more as places come free meanwhile.
    assert!(served >= 9, "{served}");
    assert!(refused > 0, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_not_used_up() {
    let config = Config { queue_capacity: 1, ..Config::default() };
    let (begun, has_begun) = mpsc::channel();
    let generator = OneColour { begun: Some(begun), ..OneColour::with_step(10 * STEP) };
    let node = TestNode::with_config(generator, config).await;
    let running = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    has_begun.recv().unwrap();
    let waiting = tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send());
    while node.queue_depth().await < 2 {
        tokio::time::sleep(STEP / 4).await;
    }
    let second = Exchange::of(&node.url, json!({"prompt": "x"})).await;
    assert_eq!(second.request().send().await.unwrap().status(), 429);
    assert_eq!(running.await.unwrap().status, 200);
    assert_eq!(waiting.await.unwrap().status, 200);
    assert_eq!(second.send().await.status, 200, "the same envelope, sent again");
}

/// Who leaves the queue may come back with the same envelope; who leaves while it is drawn may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_used_up_once_an_engine_begins() {
    let (begun, has_begun) = mpsc::channel();
    let generator = OneColour { begun: Some(begun), ..OneColour::with_step(10 * STEP) };
    let node = TestNode::with_config(generator, Config::default()).await;
    let depth = async |wanted| {
        while node.queue_depth().await != wanted {
            tokio::time::sleep(STEP / 4).await;
        }
    };
    let first = Exchange::of(&node.url, json!({"prompt": "x"})).await;
    let second = Exchange::of(&node.url, json!({"prompt": "x"})).await;
    let drawn = tokio::spawn(first.request().send());
    has_begun.recv().unwrap();
    let waits = tokio::spawn(second.request().send());
    depth(2).await;
    waits.abort();
    depth(1).await;
    drawn.abort();
    depth(0).await;
    assert_eq!(first.send().await.status, 409);
    assert_eq!(second.send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_free_their_places() {
    let config = Config { queue_capacity: 2, ..Config::default() };
    let (begun, has_begun) = mpsc::channel();
    let finished = Arc::new(AtomicUsize::new(0));
    let generator = OneColour { begun: Some(begun), finished: finished.clone(), step: 10 * STEP };
    let node = TestNode::with_config(generator, config).await;

    // One during generation, two while they wait.
    let mut gone = Vec::new();
    for _ in 0..3 {
        gone.push(tokio::spawn(Exchange::of(&node.url, json!({"prompt": "x"})).await.send()));
        if gone.len() == 1 {
            has_begun.recv().unwrap();
        }
    }
    tokio::time::sleep(5 * STEP).await;
    gone.iter().for_each(tokio::task::JoinHandle::abort);

    // Their places are free before their images would have been done, one after the other.
    let limit = Duration::from_secs(20);
    let next = async {
        loop {
            let sent =
                Exchange::of(&node.url, json!({"prompt": "x", "seed": 9})).await.send().await;
            if sent.status == 200 {
                break sent.images();
            }
            tokio::time::sleep(STEP).await;
        }
    };
    let next = tokio::time::timeout(limit, next).await.expect("a place came free");
    assert_eq!(next.seed, Some(9));
    assert_eq!(finished.load(Ordering::SeqCst), 1, "nothing was drawn for those who had gone");
}

/// Two engines take from one queue: both draw, and whoever draws, a seed has its image.
#[tokio::test(flavor = "multi_thread")]
async fn two_engines_share_one_queue() {
    let (begun, has_begun) = mpsc::channel();
    let generator = || OneColour { begun: Some(begun.clone()), ..OneColour::with_step(10 * STEP) };
    let node = TestNode::with_engines(vec![generator(), generator()], Config::default()).await;
    let mut sent = Vec::new();
    for seed in 0..6 {
        let exchange = Exchange::of(&node.url, json!({"prompt": "x", "seed": seed})).await;
        sent.push(tokio::spawn(exchange.send()));
    }
    // The second begins while the first is drawn: four steps of a fifth of a second.
    has_begun.recv().unwrap();
    has_begun.recv_timeout(20 * STEP).expect("the other engine takes what is next");
    for (seed, sent) in (0..).zip(sent) {
        let response = sent.await.unwrap().images();
        assert_eq!(response.seed, Some(seed));
        let file = client::image_file(&response.data[0]).unwrap();
        let image = image::load_from_memory(&file).unwrap().to_rgb8();
        assert_eq!(image.get_pixel(0, 0).0, OneColour::colour(seed, "x"));
    }
}

/// The holder of a key is one client, whatever addresses a gateway names.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_one_share_for_all_its_addresses() {
    let config = Config {
        queue_capacity: 7,
        api_keys_sha256: vec![ApiKeyDigest::of("greedy"), ApiKeyDigest::of("modest")],
        trusted_forwarders: vec!["127.0.0.0/8".parse().unwrap()],
        allow_plaintext: true,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::with_step(100 * STEP), config).await;
    // A stream is answered as soon as it is taken on.
    let ask = async |key: &str, address: &str| {
        let asked = json!({"model": MODEL, "prompt": "x", "stream": true});
        let request = http().post(format!("{}/v1/images/generations", node.url)).json(&asked);
        request.bearer_auth(key).header("x-forwarded-for", address).send().await.unwrap()
    };
    let mut held = Vec::new();
    for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        held.push(ask("greedy", address).await);
    }
    for address in ["192.0.2.1", "192.0.2.2", "192.0.2.9"] {
        let refused = ask("greedy", address).await.text().await.unwrap();
        assert_eq!(error_of(&refused).code.as_deref(), Some("queue_share_full"));
    }
    held.push(ask("modest", "192.0.2.3").await);
    assert!(held.iter().all(|answer| answer.status() == 200));
}
