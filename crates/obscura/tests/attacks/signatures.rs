//! What a proxy signed once, used for more than it paid for.

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::json;
use sha2::{Digest, Sha256};
use tests::{Exchange, error_of};

use crate::target::{METRICS, Target, in_time, small};

/// The bearer key of a client that asks for more than its share.
pub(crate) const GREEDY: &str = "greedy";
/// That of another.
pub(crate) const MODEST: &str = "modest";
/// Sealings of one body that one signature pays for.
const SEALINGS: usize = 16;

static PROXY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[3; 32]));

/// Of a node with two keys, this proxy, and eight places, the one that is drawn for included.
pub(crate) fn settings() -> [String; 4] {
    let [greedy, modest, metrics] = [GREEDY, MODEST, METRICS].map(|key| hex(&Sha256::digest(key)));
    let proxy = [&[0], PROXY.verifying_key().as_bytes().as_slice()].concat();
    [
        format!("api_keys_sha256={greedy},{modest}"),
        format!("metrics_keys_sha256={metrics}"),
        format!("trusted_proxies={}", BASE64_STANDARD.encode(proxy)),
        "queue_capacity=7".to_owned(),
    ]
}

/// Two clients who ask for the same have one signature, so it pays for several sealings; not for any number.
pub(crate) async fn one_pays_for_few_sealings(node: &Target) {
    let key = node.public_key(GREEDY).await;
    let clients = &node.clients;
    let send = async |prompt: &str, number: usize| {
        let mut fields = small();
        fields["prompt"] = prompt.into();
        let exchange = node.sealed_to(&key, &clients[number % 2], fields);
        let request = exchange.request().header("x-signature", signature(&exchange));
        let answer = in_time(request.send()).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    // What cannot be opened, or was opened before, takes nothing of it.
    let mut broken = node.sealed_to(&key, &clients[0], small());
    broken.envelope.salt = BASE64_STANDARD.encode([7; 16]);
    let refused = broken.request().header("x-signature", signature(&broken)).send();
    assert_eq!(in_time(refused).await.unwrap().status(), 400);
    for number in 0..SEALINGS {
        assert_eq!(send("a boat", number).await.0, 200);
    }
    for number in 0..4 {
        let (status, text) = send("a boat", number).await;
        assert_eq!(status, 429);
        assert_eq!(error_of(&text).code.as_deref(), Some("signature_spent"));
    }
    assert_eq!(send("another boat", 0).await.0, 200);
    // Nor does it pay for another body.
    let [signed, other] = ["a boat", "a ship"].map(|prompt| {
        node.sealed_to(&key, &clients[0], json!({"prompt": prompt, "size": "16x16"}))
    });
    let stolen = other.request().header("x-signature", signature(&signed));
    assert_eq!(in_time(stolen.send()).await.unwrap().status(), 401);
}

/// What the proxy signs: the hash of the body alone.
fn signature(exchange: &Exchange) -> String {
    let hash = BASE64_STANDARD.decode(&exchange.envelope.plaintext_body_hash).unwrap();
    let signature = PROXY.sign(&hash).to_bytes();
    BASE64_STANDARD.encode([&[0], signature.as_slice(), PROXY.verifying_key().as_bytes()].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
