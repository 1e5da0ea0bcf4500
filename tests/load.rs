//! Two thousand requests from sixty-four clients, some of whom hang up: every request is answered or
//! refused in order, none lost or mixed up, and who asks for the node's health is answered at once.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicBool, atomic::AtomicUsize, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use node::Config;
use protocol::CreateImageResponse;
use serde_json::json;
use tests::{Exchange, MODEL, OneColour, TestNode, http};

const CLIENTS: u64 = 64;
const REQUESTS_EACH: u64 = 2000 / CLIENTS + 1;
/// Of them, those after which memory must be flat.
const WARM_UP: u64 = REQUESTS_EACH / 3;
/// Allocators keep a little back; twelve kilobytes a request would be more.
const MAX_GROWTH: u64 = 16 << 20;
/// Of the slowest answer but one in a hundred.
const HEALTH_P99: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Tally {
    served: AtomicUsize,
    refused: AtomicUsize,
    hung_up: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_requests_with_hang_ups() {
    let config = Config { allow_plaintext: true, queue_capacity: 24, ..Config::default() };
    let node =
        TestNode::with_config(OneColour::with_step(Duration::from_micros(200)), config).await;
    let tally = Arc::new(Tally::default());
    let over = Arc::new(AtomicBool::new(false));
    // On a thread of its own, as a probe is a process of its own: what it waits for is the node.
    let health = thread::spawn({
        let watching = watch_health(node.url.clone(), over.clone());
        || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(watching)
        }
    });
    wave(&node, 0..WARM_UP, &tally).await;
    let warm = resident_bytes();
    wave(&node, WARM_UP..REQUESTS_EACH, &tally).await;
    let grown = resident_bytes().saturating_sub(warm);
    assert!(grown < MAX_GROWTH, "{grown} bytes more than after a third of the requests");
    over.store(true, Ordering::Release);
    let mut health = health.join().unwrap();
    health.sort();
    assert!(health.len() > 20, "{}", health.len());
    let p99 = health[health.len() * 99 / 100];
    assert!(p99 <= HEALTH_P99, "{p99:?}");

    let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
    let (served, refused) = (count(&tally.served), count(&tally.refused));
    let hung_up = count(&tally.hung_up);
    assert_eq!((served + refused + hung_up) as u64, CLIENTS * REQUESTS_EACH);
    assert!(served > 300 && hung_up > 100, "served {served} refused {refused} gone {hung_up}");

    // Those who are gone hold no place.
    let empty = async {
        while node.queue_depth().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), empty).await.expect("the queue empties");
    for seed in 0..30 {
        let sent = Exchange::of(&node.url, json!({"prompt": "x", "seed": seed})).await.send().await;
        assert_eq!(sent.images().seed, Some(seed));
    }
}

async fn wave(node: &TestNode, rounds: Range<u64>, tally: &Arc<Tally>) {
    // Threads of their own: what clients do with their images is not the node's work.
    let machine = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| one_client(node.url.clone(), client, rounds.clone(), tally.clone()))
        .map(|client| machine.spawn(client))
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    machine.shutdown_background();
}

/// Of this process: node and clients.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

async fn one_client(url: String, client: u64, rounds: Range<u64>, tally: Arc<Tally>) {
    let http = http();
    for round in rounds {
        let seed = client * REQUESTS_EACH + round;
        // Neither random nor regular: every client hangs up at other times than the others.
        let dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
        let prompt = "x".repeat(1 + (dice % 7) as usize);
        let body = json!({"model": MODEL, "prompt": prompt, "seed": seed, "size": "32x32"});
        let asked = http.post(format!("{url}/v1/images/generations")).json(&body).send();
        let timeout = match dice {
            0..=40 => Duration::from_micros(200 * dice),
            _ => Duration::from_secs(60),
        };
        let Ok(answer) = tokio::time::timeout(timeout, asked).await else {
            tally.hung_up.fetch_add(1, Ordering::SeqCst);
            continue;
        };
        let answer = answer.expect("an answer");
        match answer.status().as_u16() {
            200 => {
                let body = answer.bytes().await.expect("the whole answer");
                let response = CreateImageResponse::from_json(&body).unwrap();
                assert_eq!(response.seed, Some(seed));
                let file = client::image_file(&response.data[0]).unwrap();
                let image = image::load_from_memory(&file).unwrap().to_rgb8();
                assert_eq!(image.get_pixel(31, 31).0, OneColour::colour(seed, &prompt));
                tally.served.fetch_add(1, Ordering::SeqCst);
            }
            429 => {
                let retry_after = answer.headers()["retry-after"].to_str().unwrap();
                assert!(retry_after.parse::<u64>().unwrap() >= 1);
                tally.refused.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(dice)).await;
            }
            other => panic!("neither served nor refused: {other}"),
        }
    }
}

/// How long each look at the node's health took.
async fn watch_health(url: String, over: Arc<AtomicBool>) -> Vec<Duration> {
    let http = http();
    let mut took = Vec::new();
    while !over.load(Ordering::Acquire) {
        let started = Instant::now();
        let answer = http.get(format!("{url}/healthz")).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        took.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    took
}
