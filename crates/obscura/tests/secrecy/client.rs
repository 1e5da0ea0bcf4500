//! A client that keeps what clients forget: every secret of its exchanges.

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Nonce},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use blake2::{Blake2b, Digest, digest::consts::U32};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::Sha256;
use tests::http;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::program::Program;

pub(crate) const MODEL: &str = "obscura/demo";

/// One sealed request, and all that follows from knowing the client's secret key.
pub(crate) struct Exchange {
    pub(crate) envelope: Value,
    /// X25519's output.
    pub(crate) shared: [u8; 32],
    /// HKDF's, between extracting and expanding.
    pub(crate) extracted: Vec<u8>,
    /// AES-256-GCM's.
    pub(crate) key: [u8; 32],
    pub(crate) plaintext: Vec<u8>,
}

impl Exchange {
    /// Seals these fields and the model's name to the node's current key.
    pub(crate) async fn of(node: &Program, fields: Value) -> Self {
        let mut body = fields;
        if body.get("model").is_none() {
            body["model"] = MODEL.into();
        }
        Self::seal(&node_public(node).await, &body)
    }

    pub(crate) fn seal(node_public: &[u8; 32], body: &Value) -> Self {
        let plaintext = format!("{:4096}", body.to_string()).into_bytes();
        let [secret, salt, nonce] = std::array::from_fn(|_| fresh());
        let (salt, nonce) = (&salt[..16], &nonce[..12]);
        let secret = StaticSecret::from(secret);
        let shared = *secret.diffie_hellman(&PublicKey::from(*node_public)).as_bytes();
        let (extracted, expander) = Hkdf::<Sha256>::extract(Some(salt), &shared);
        let mut key = [0; 32];
        expander.expand(&[], &mut key).unwrap();
        let cipher = Aes256Gcm::new(&key.into());
        let ciphertext = cipher.encrypt(&nonce_of(nonce), plaintext.as_slice()).unwrap();
        let hash: [u8; 32] = Blake2b::<U32>::digest(&plaintext).into();
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let envelope = json!({
            "ciphertext": base64(&ciphertext),
            "client_dh_public_key": base64(PublicKey::from(&secret).as_bytes()),
            "model_name": MODEL,
            "node_dh_public_key": base64(node_public),
            "nonce": base64(nonce),
            "num_compute_units": null,
            "plaintext_body_hash": base64(&hash),
            "salt": base64(salt),
            "stack_small_id": 0,
            "stream": body["stream"].as_bool().unwrap_or(false),
        });
        Self { envelope, shared, extracted: extracted.to_vec(), key, plaintext }
    }

    /// Sends it; the status, and the answer as it travels.
    pub(crate) async fn send(&self, node: &Program) -> (u16, String) {
        self.send_to(node, "generations").await
    }

    /// The same to the route of an operation.
    pub(crate) async fn send_to(&self, node: &Program, operation: &str) -> (u16, String) {
        let url = format!("{}/v1/confidential/images/{operation}", node.url);
        let answer = http().post(url).json(&self.envelope).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What is sealed in an answer, or in each event of a stream.
    pub(crate) fn open(&self, answer: &str) -> Vec<Value> {
        let events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
        let envelopes: Vec<&str> = match answer.starts_with('{') {
            true => vec![answer],
            false => events.collect(),
        };
        envelopes.iter().map(|envelope| self.open_one(envelope)).collect()
    }

    fn open_one(&self, envelope: &str) -> Value {
        let envelope: Value = serde_json::from_str(envelope).unwrap();
        let field = |name: &str| BASE64_STANDARD.decode(envelope[name].as_str().unwrap()).unwrap();
        let cipher = Aes256Gcm::new(&self.key.into());
        let opened = cipher.decrypt(&nonce_of(&field("nonce")), field("ciphertext").as_slice());
        serde_json::from_slice(&opened.unwrap()).unwrap()
    }
}

/// The node's current X25519 key.
pub(crate) async fn node_public(node: &Program) -> [u8; 32] {
    let url = format!("{}/v1/nodes/lock", node.url);
    let answer = http().post(url).json(&json!({"model": MODEL})).send().await.unwrap();
    let lock: Value = answer.json().await.unwrap();
    BASE64_STANDARD.decode(lock["public_key"].as_str().unwrap()).unwrap().try_into().unwrap()
}

/// The files of the images in what was opened.
pub(crate) fn files(opened: &[Value]) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for value in opened {
        texts.extend(value["b64_json"].as_str());
        for entry in value["data"].as_array().into_iter().flatten() {
            let url = entry["url"].as_str().and_then(|url| url.split_once("base64,"));
            texts.extend(url.map(|(_, text)| text).or(entry["b64_json"].as_str()));
        }
    }
    texts.into_iter().map(|text| BASE64_STANDARD.decode(text).unwrap()).collect()
}

fn nonce_of(nonce: &[u8]) -> Nonce<Aes256Gcm> {
    Nonce::<Aes256Gcm>::try_from(nonce).unwrap()
}

fn fresh() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
