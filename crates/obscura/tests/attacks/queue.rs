//! Clients that make the queue seem long, or fill it.

use serde_json::json;
use tests::error_of;

use crate::{
    signatures::{GREEDY, MODEST},
    target::{Target, endless, in_time, small},
};

/// Small images take far longer than their pixels say. Were that believed, a large one would seem to take for
/// ever, and whoever came next would be refused.
pub(crate) async fn small_images_refuse_nobody_a_large_one(node: &Target) {
    let [one, two] = &node.clients;
    for number in 0..20 {
        let client = if number % 2 == 0 { one } else { two };
        let fields = json!({"prompt": "a red star", "size": "16x16"});
        assert_eq!(node.ask(client, fields).await.status(), 200);
    }
    let large = node.ask(one, endless()).await;
    assert_eq!(large.status(), 200);
    let mut next = small();
    next["stream"] = true.into();
    for client in [one, two] {
        let answer = node.ask(client, next.clone()).await;
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    drop(large);
    node.idle().await;
}

/// Of eight places, half: whoever has more to ask leaves the others to the next.
pub(crate) async fn one_client_cannot_fill_the_queue(node: &Target) {
    let key = node.public_key(GREEDY).await;
    for client in &node.clients {
        let ask = async |bearer: &str| {
            let asked = node.sealed_to(&key, client, endless()).request().bearer_auth(bearer);
            in_time(asked.send()).await.unwrap()
        };
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(ask(GREEDY).await);
        }
        for _ in 0..16 {
            let refused = ask(GREEDY).await;
            assert_eq!(refused.status(), 429);
            let error = error_of(&refused.text().await.unwrap());
            assert_eq!(error.code.as_deref(), Some("queue_share_full"));
        }
        held.push(ask(MODEST).await);
        assert!(held.iter().all(|answer| answer.status() == 200));
        drop(held);
        node.idle().await;
    }
}
