//! Exchanges computed by the published clients, both ways and byte for byte.

use ed25519_dalek::SigningKey;
use serde_json::Value;
use x25519_dalek::{PublicKey, StaticSecret};

use super::*;
use crate::{
    cipher::SessionKey,
    client::{ClientSecrets, seal_exact},
    encoding::{decode_array, encode},
    exchange,
};

const WIRE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/wire/atoma-wire-v1.json"
));

struct Case(Value);

fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(WIRE).unwrap();
    let cases: Vec<_> = file["cases"].as_array().unwrap().iter().cloned().map(Case).collect();
    assert_eq!(cases.len(), 2);
    cases
}

impl Case {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}"))
    }

    fn keyring(&self) -> Keyring {
        let exchange = unhex(self.text("/node_secret_hex"));
        let signing = unhex(self.text("/ed25519_seed_hex"));
        Keyring::new(Epoch::new(dangerous::node_keys(exchange, signing), KEYSET_DIGEST, 1), LIMITS)
    }

    fn client(&self) -> ClientSecrets {
        ClientSecrets {
            exchange: StaticSecret::from(unhex::<32>(self.text("/client_secret_hex"))),
            salt: decode_array(self.text("/request/salt")).unwrap(),
            nonce: decode_array(self.text("/request/nonce")).unwrap(),
        }
    }

    fn request(&self) -> ConfidentialComputeRequest {
        ConfidentialComputeRequest {
            ciphertext: self.text("/request/ciphertext").to_owned(),
            nonce: self.text("/request/nonce").to_owned(),
            salt: self.text("/request/salt").to_owned(),
            client_dh_public_key: self.text("/request/client_dh_public_key").to_owned(),
            node_dh_public_key: self.text("/request/node_dh_public_key").to_owned(),
            plaintext_body_hash: self.text("/request/plaintext_body_hash").to_owned(),
            model_name: String::new(),
            num_compute_units: None,
            stack_small_id: 0,
            stream: None,
        }
    }

    fn response(&self) -> ConfidentialComputeResponse {
        ConfidentialComputeResponse {
            ciphertext: self.text("/response/ciphertext").to_owned(),
            nonce: self.text("/response/nonce").to_owned(),
            response_hash: Some(self.text("/response/response_hash").to_owned()),
            signature: Some(self.text("/response/signature").to_owned()),
            usage: None,
            receipt: None,
        }
    }
}

#[test]
fn keys_agree() {
    for case in cases() {
        let keys = dangerous::node_keys(unhex(case.text("/node_secret_hex")), [0; 32]);
        let client = case.client();
        let client_public = PublicKey::from(&client.exchange);
        assert_eq!(encode(keys.exchange_public()), case.text("/node_public_b64"));
        assert_eq!(encode(client_public), case.text("/client_public_b64"));

        let shared = keys.exchange.diffie_hellman(&client_public);
        assert_eq!(shared.to_bytes(), unhex(case.text("/shared_secret_hex")));
        let key: [u8; 32] = unhex(case.text("/key_hex"));
        for agreed in [
            exchange::agree(&keys.exchange, client_public.as_bytes(), &client.salt),
            exchange::agree(&client.exchange, &keys.exchange_public(), &client.salt),
        ] {
            assert_eq!(agreed.as_ref().map(SessionKey::as_bytes), Some(&key));
        }
    }
}

#[test]
fn the_node_opens_their_requests() {
    for case in cases() {
        let (plaintext, _) = case.keyring().open(&case.request(), now()).unwrap();
        assert_eq!(plaintext.as_bytes(), case.text("/request_plaintext").as_bytes());
    }
}

#[test]
fn our_client_seals_as_theirs_does() {
    for case in cases() {
        let plaintext = body(case.text("/request_plaintext").as_bytes());
        let node_public = decode_array(case.text("/node_public_b64")).unwrap();
        let (sealed, _) = seal_exact(&node_public, plaintext, case.client()).unwrap();
        let (ours, theirs) = (sealed, case.request());
        assert_eq!(ours.ciphertext, theirs.ciphertext);
        assert_eq!(ours.nonce, theirs.nonce);
        assert_eq!(ours.salt, theirs.salt);
        assert_eq!(ours.client_dh_public_key, theirs.client_dh_public_key);
        assert_eq!(ours.node_dh_public_key, theirs.node_dh_public_key);
        assert_eq!(ours.plaintext_body_hash, theirs.plaintext_body_hash);
    }
}

#[test]
fn the_node_seals_responses_as_theirs_does() {
    for case in cases() {
        let (_, pending) = case.keyring().open(&case.request(), now()).unwrap();
        let responder = pending.accept().unwrap();
        let plaintext = body(case.text("/response_plaintext").as_bytes());
        let nonce = decode_array(case.text("/response/nonce")).unwrap();
        let sealed = responder.seal_exact(plaintext, nonce, &MODEL_MANIFEST).unwrap();
        let (ours, theirs) = (sealed, case.response());
        assert_eq!(ours.ciphertext, theirs.ciphertext);
        assert_eq!(ours.nonce, theirs.nonce);
        assert_eq!(ours.response_hash, theirs.response_hash);
        assert_eq!(ours.signature, theirs.signature);
    }
}

#[test]
fn our_client_opens_their_responses() {
    for case in cases() {
        let plaintext = body(case.text("/request_plaintext").as_bytes());
        let node_public = decode_array(case.text("/node_public_b64")).unwrap();
        let (_, opener) = seal_exact(&node_public, plaintext, case.client()).unwrap();
        let opened = opener.open_unattested(&case.response()).unwrap();
        assert_eq!(opened.body.as_bytes(), case.text("/response_plaintext").as_bytes());
        let signing = SigningKey::from_bytes(&unhex(case.text("/ed25519_seed_hex")));
        assert_eq!(opened.verified.signing_key, signing.verifying_key().to_bytes());
        assert_eq!(opened.verified.attested, None);
    }
}
