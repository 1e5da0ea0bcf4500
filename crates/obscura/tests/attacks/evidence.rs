//! Verifiers, while somebody else asks for more quotes than the hardware gives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{ApiKey, Client, fresh_nonce};
use tests::{demo_policy, http_builder};
use tokio::{task::JoinSet, time::sleep};

use crate::target::{Target, in_time};

/// Of this node, a minute: the next one is never far, and those of a slow machine do not come anew meanwhile.
pub(crate) const QUOTES: usize = 12;
/// Questions that are refused before it is clear that no quote is left, and no room to wait for one.
const REFUSED: usize = 200;

/// Questions with fresh nonces, from another address and without an end: first as many as there are quotes,
/// then more at once than may wait.
pub(crate) async fn a_flood_of_nonces_refuses_no_verifier(node: &Target) {
    let from_elsewhere = || http_builder().local_address("127.0.0.2".parse().ok());
    let clients = [from_elsewhere(), from_elsewhere().http2_prior_knowledge()];
    let clients = clients.map(|client| client.build().unwrap());
    let url = format!("{}/v1/attestation?nonce=", node.url);
    let ask = move |number: usize| {
        let asked = clients[number % 2].get(format!("{url}{}", fresh_nonce().unwrap())).send();
        async move { in_time(asked).await.unwrap().status().as_u16() }
    };
    for number in 0..QUOTES {
        assert_eq!(ask(number).await, 200);
    }
    let refused = Arc::new(AtomicUsize::new(0));
    let mut flood = JoinSet::new();
    for number in 0..48 {
        let (ask, refused) = (ask.clone(), refused.clone());
        flood.spawn(async move {
            loop {
                if ask(number).await == 429 {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    in_time(async {
        while refused.load(Ordering::Relaxed) < REFUSED {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut verifiers = JoinSet::new();
    for _ in 0..6 {
        let client = Client::new(&node.url, ApiKey::none()).unwrap();
        verifiers.spawn(async move { client.attest(&demo_policy()).await.map(|_| ()) });
    }
    for verified in in_time(verifiers.join_all()).await {
        verified.unwrap();
    }
}
