//! `tests/vectors/wire`: exchanges that Python computed, and what every client makes of each answer.
//!
//! That events come in order, and that the last one comes, is for the client to see (`client::EventStream`): here each
//! event is opened.

use serde_json::Value;
use x25519_dalek::StaticSecret;

use super::*;
use crate::{
    ResponseError,
    client::{Attested, ClientSecrets, Opener, seal_exact},
    error::SealError,
    padding,
};

fn file(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn cases(file: &Value) -> &[Value] {
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    cases
}

fn text<'a>(json: &'a Value, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_else(|| panic!("no {name} in {json}"))
}

fn seal(given: &Value) -> Result<(ConfidentialComputeRequest, Opener), SealError> {
    let secrets = ClientSecrets {
        exchange: StaticSecret::from(unhex::<32>(text(given, "client_secret"))),
        salt: unhex(text(given, "salt")),
        nonce: unhex(text(given, "nonce")),
    };
    seal_exact(&unhex(text(given, "node_public")), body(text(given, "body").as_bytes()), secrets)
}

#[test]
fn lengths_are_padded_as_they_say() {
    for case in cases(&file("padding")) {
        let bytes = usize::try_from(case["bytes"].as_u64().unwrap()).unwrap();
        // A hundred megabytes are counted, not made.
        let padded = padding::padded_capacity(bytes) - 16;
        assert_eq!(u64::try_from(padded).unwrap(), case["padded"].as_u64().unwrap(), "{bytes}");
    }
}

#[test]
fn requests_are_sealed_as_they_say() {
    for case in cases(&file("seal")) {
        let sealed = seal(case);
        if text(case, "expect") == "refuse" {
            assert!(matches!(sealed, Err(SealError::NodeKeyUnusable)), "{}", case["name"]);
            continue;
        }
        let (request, _) = sealed.unwrap();
        for (field, found) in [
            ("ciphertext", request.ciphertext),
            ("nonce", request.nonce),
            ("salt", request.salt),
            ("client_dh_public_key", request.client_dh_public_key),
            ("node_dh_public_key", request.node_dh_public_key),
            ("plaintext_body_hash", request.plaintext_body_hash),
        ] {
            assert_eq!(found, text(&case["envelope"], field), "{}: {field}", case["name"]);
        }
    }
}

#[test]
fn answers_are_opened_or_refused_as_they_say() {
    let file = file("open");
    for case in cases(&file) {
        let found = open(&file, &case["answer"]);
        assert_eq!(found.err().unwrap_or("accept"), text(case, "expect"), "{}", case["name"]);
    }
}

#[test]
fn events_are_opened_or_refused_as_they_say() {
    let file = file("stream");
    for case in cases(&file) {
        let answers = case["answers"].as_array().unwrap();
        let fault = answers.iter().find_map(|answer| open(&file, answer).err());
        let expected = match text(case, "expect") {
            // Each event holds; which one came when is not looked at here.
            "accept" | "order" | "cut" => None,
            fault => Some(fault),
        };
        assert_eq!(fault, expected, "{}", case["name"]);
    }
}

/// What a client makes of an answer: nothing that is wrong, or what.
fn open(file: &Value, answer: &Value) -> Result<(), &'static str> {
    let (_, opener) = seal(&file["exchange"]).unwrap();
    let attested = Attested {
        signing_key: unhex(text(&file["attested"], "signing_key")),
        keyset_digest: unhex(text(&file["attested"], "keyset_digest")),
        model_manifest: unhex(text(&file["attested"], "model_manifest")),
    };
    let mut answer = answer.clone();
    // Told in the clear, and nothing to whoever opens.
    answer.as_object_mut().unwrap().remove("usage");
    let response: ConfidentialComputeResponse = serde_json::from_value(answer).unwrap();
    opener.open_attested(&response, &attested).map(|_| ()).map_err(|error| match error {
        ResponseError::Unsigned => "unsigned",
        ResponseError::Malformed { .. } => "malformed",
        ResponseError::ReflectedNonce => "reflected",
        ResponseError::Decryption => "decryption",
        ResponseError::HashMismatch => "hash",
        ResponseError::Signature(_) => "signature",
        ResponseError::UnexpectedSigner { .. } => "signer",
        ResponseError::ReceiptMissing => "receipt_missing",
        ResponseError::ReceiptInvalid => "receipt",
    })
}
