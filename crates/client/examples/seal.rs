//! Seals a request by hand, and opens its answer: `cargo run -p obscura-client --example seal -- URL`.
//!
//! `client::Client` does all of this, and verifies the node first. Here the node's key is taken on its
//! word, as Atoma's SDKs do: whoever can stand in for the node reads the prompt.

use std::{env, fs};

use protocol::{ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageResponse};
use seal::{Zeroizing, seal_request};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::args().nth(1).ok_or("seal URL")?;
    let model = "obscura/demo";
    client::install_crypto_provider();
    let http = reqwest::Client::new();

    // 1. Which key?
    let lock = http.post(format!("{url}/v1/nodes/lock")).json(&json!({ "model": model }));
    let lock: Value = lock.send().await?.error_for_status()?.json().await?;
    let node_key = decode(&lock["public_key"])?.try_into().map_err(|_| "a key has 32 bytes")?;

    // 2. Seal a body to it: a fresh X25519 key, HKDF-SHA256, AES-256-GCM. Random text in the body keeps its
    // hash, which travels in clear text, from confirming a guessed prompt.
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)?;
    let padding: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let prompt = "a red circle above a blue square on a yellow background";
    let body = json!({ "model": model, "prompt": prompt, "seed": 1, "padding": padding });
    let body = Zeroizing::new(serde_json::to_vec(&body)?);
    let (sealed, opener) = seal_request(&node_key, body)?;

    // 3. Send the envelope. `model_name` is in clear text, for whoever routes it.
    let envelope = ConfidentialComputeRequest { model_name: model.to_owned(), ..sealed };
    let answer = http.post(format!("{url}/v1/confidential/images/generations")).json(&envelope);
    let answer = answer.send().await?.error_for_status()?;
    let answer: ConfidentialComputeResponse = answer.json().await?;

    // 4. Open the answer; its hash and signature are checked on the way.
    let opened = opener.open_unattested(&answer)?;
    let response = CreateImageResponse::from_json(opened.body.as_bytes())?;
    let image = client::image_file(response.data.first().ok_or("no image")?)?;
    fs::write("sealed.png", image.as_slice())?;
    println!("sealed.png");
    Ok(())
}

fn decode(text: &Value) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    Ok(BASE64_STANDARD.decode(text.as_str().ok_or("base64 is a text")?)?)
}
