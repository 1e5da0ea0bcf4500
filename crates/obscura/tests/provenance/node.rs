//! What a node says without being asked, and what it says sealed.

use std::process::Stdio;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use provenance::{Drawing, Salt, SignedReceipt};
use serde_json::{Value, json};
use tests::{Exchange, Sent, http};

use crate::{
    program::Program,
    shown::{PROMPT, Shown, holds_manifest},
};

const MODEL: &str = "obscura/demo";

/// Two kinds of nodes, and what each says without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_in_clear_text_signs_by_setting_and_sealed_on_request() {
    let shown = Shown::start().await;
    let off = Program::serve(&["--allow-plaintext"], Stdio::null());
    off.ready().await;
    let asked = |more: Value| {
        let mut body = json!({ "model": MODEL, "prompt": PROMPT, "size": "64x64", "steps": 1,
            "seed": 3, "response_format": "b64_json" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let clear = async |url: &str, more: Value| -> Value {
        let url = format!("{url}/v1/images/generations");
        http().post(url).json(&asked(more)).send().await.unwrap().json().await.unwrap()
    };
    let is_signed = |answer: &Value| {
        let data = &answer["data"][0];
        let file = data["b64_json"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let signed = holds_manifest(&BASE64_STANDARD.decode(file).unwrap());
        (signed, data["provenance"]["receipt"].is_string())
    };
    let on = &shown.node.url;
    assert_eq!(is_signed(&clear(on, json!({})).await), (true, true));
    assert_eq!(is_signed(&clear(on, json!({ "provenance": "none" })).await), (false, false));
    assert_eq!(is_signed(&clear(on, json!({ "provenance": "receipt" })).await), (false, true));
    assert_eq!(is_signed(&clear(&off.url, json!({})).await), (false, false));
    assert_eq!(
        is_signed(&clear(&off.url, json!({ "provenance": "receipt" })).await),
        (false, true)
    );
    let salt = "ab".repeat(32);
    let own = clear(on, json!({ "provenance_salt": salt })).await;
    assert_eq!(own["data"][0]["provenance"]["salt"], salt, "the operator's word commits");
    for (more, param) in [
        (json!({ "provenance": "c2pa" }), "provenance"),
        (json!({ "provenance": "c2pa+mark" }), "provenance"),
        (json!({ "provenance": "mark" }), "provenance"),
        (json!({ "provenance": true }), "provenance"),
        (json!({ "provenance": "receipt", "provenance_salt": "no" }), "provenance_salt"),
        (json!({ "provenance_salt": salt }), "provenance_salt"),
        (json!({ "provenance": "none", "provenance_salt": salt }), "provenance_salt"),
    ] {
        assert_eq!(clear(&off.url, more).await["error"]["param"], param);
    }

    // Sealed: nobody outside sees by the length what was asked for.
    let mut lengths = Vec::new();
    for (more, signed) in
        [(json!({}), false), (json!({ "provenance": "c2pa", "provenance_salt": salt }), true)]
    {
        let sent = sealed(on, &asked(more)).await;
        let envelope: Value = serde_json::from_str(&sent.text).unwrap();
        lengths.push(envelope["ciphertext"].as_str().unwrap_or_else(|| panic!("{envelope}")).len());
        let answer: Value = serde_json::from_str(&sent.open()).unwrap();
        assert_eq!(is_signed(&answer), (signed, signed));
        if signed {
            let told = &answer["data"][0]["provenance"];
            assert_eq!(told["salt"], salt);
            check_commitment(told);
        }
    }
    assert_eq!(lengths[0], lengths[1]);
    // Even where the operator has clear answers signed: sealed, only the client says what is said.
    let sent = sealed(on, &asked(json!({ "provenance_salt": salt }))).await;
    assert_eq!(sent.status, 400);
    let refused: Value = serde_json::from_str(&sent.open()).unwrap();
    assert_eq!(refused["error"]["param"], "provenance_salt");
    let sent = sealed(&off.url, &asked(json!({ "provenance": "c2pa" }))).await;
    assert_eq!(sent.status, 400);
    assert!(!sent.text.contains("manifests"), "sealed: {}", sent.text);
}

async fn sealed(url: &str, body: &Value) -> Sent {
    let lock = http().post(format!("{url}/v1/nodes/lock")).json(&json!({ "model": MODEL }));
    let lock: Value = lock.send().await.unwrap().json().await.unwrap();
    let key = BASE64_STANDARD.decode(lock["public_key"].as_str().unwrap()).unwrap();
    let body = body.to_string();
    let mut exchange = Exchange::seal_to(url, &key.try_into().unwrap(), body.as_bytes(), http());
    exchange.envelope.model_name = MODEL.to_owned();
    exchange.send().await
}

/// The receipt commits to what was asked for, under the client's own salt.
fn check_commitment(told: &Value) {
    let receipt = BASE64_STANDARD.decode(told["receipt"].as_str().unwrap()).unwrap();
    let statement = SignedReceipt::read(&receipt).unwrap().receipt.statement;
    let drawing = Drawing {
        prompt: PROMPT,
        seed: 3,
        width_px: 64,
        height_px: 64,
        steps: 1,
        guidance: None,
        inputs: &[],
        mask: None,
    };
    let salt = Salt::from_hex(told["salt"].as_str().unwrap()).unwrap();
    assert_eq!(drawing.commitment(&salt), statement.commitment);
    assert_eq!((statement.platform.as_str(), statement.measurements.len()), ("simulated", 4));
}
