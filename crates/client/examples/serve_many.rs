//! Requests of many callers to one node, each with a key and a trace of its own, through the node's
//! changes of keys: `cargo run -p obscura-client --example serve_many -- URL [--simulated]`.
//!
//! What a service does that asks a node on behalf of others: it verifies once, keeps what was verified as
//! long as that counts, and asks again when the node says that it has other keys.

use std::env;

use attest::Policy;
use client::{Answer, ApiKey, AttestedNode, Client, ClientError, TraceParent};
use protocol::CreateImageRequest;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = env::args().skip(1);
    let url = words.next().ok_or("serve_many URL [--simulated]")?;
    let policy = match words.next().as_deref() {
        Some("--simulated") => Policy::production().dangerous().accept_simulated(),
        _ => Policy::production(),
    };
    let client = Client::new(&url, ApiKey::none())?;
    let mut node = client.attest(&policy).await?;
    println!(
        "verified until {}, {} bytes of report",
        node.not_after_secs(),
        node.evidence().report.len()
    );

    for (caller, prompt) in [("anna", "a red circle"), ("ben", "a blue square")] {
        let answer = match ask(&client, caller, prompt, &node).await {
            // Other keys, or these are at their end: evidence for new ones first. Nothing was opened.
            Err(error) if error.is_stale() => {
                node = client.attest(&policy).await?;
                ask(&client, caller, prompt, &node).await
            }
            other => other,
        };
        match answer {
            Ok(answer) => println!("{caller}: {} image", answer.response.data.len()),
            // For a program: what to do about it, and when.
            Err(ClientError::Refused(refusal)) => println!(
                "{caller}: {} {:?}, again in {:?}, opened: {}",
                refusal.status,
                refusal.code,
                refusal.retry_after,
                !refusal.is_unopened()
            ),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn ask(
    client: &Client,
    caller: &str,
    prompt: &str,
    node: &AttestedNode,
) -> Result<Answer, ClientError> {
    let request = CreateImageRequest {
        model: Some("obscura/demo".to_owned()),
        prompt: Some(prompt.to_owned().into()),
        ..CreateImageRequest::default()
    };
    let mut call = client.call().with_key(ApiKey::new(format!("key-of-{caller}")))?;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    if let Some(trace) = TraceParent::parse(trace) {
        call = call.with_trace(trace);
    }
    call.generate(request, node).await
}
