//! Asks a node for evidence, and judges it: `cargo run -p obscura-client --example verify -- URL [--simulated]`.
//!
//! Exits with 0 where the node is to be trusted. `--simulated` accepts nodes behind which there is no
//! hardware, such as the demo's: it shows the way, and proves nothing.

use std::{env, process::ExitCode};

use attest::{Policy, verify::appraise};
use client::{ApiKey, Client, fresh_nonce};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "this is what it is for")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut words = env::args().skip(1);
    let url = words.next().ok_or("verify URL [--simulated]")?;
    let policy = match words.next().as_deref() {
        Some("--simulated") => Policy::production().dangerous().accept_simulated(),
        _ => Policy::production(),
    };

    // A nonce of our own: evidence that was recorded, or made for somebody else, does not have it.
    let evidence = Client::new(&url, ApiKey::none())?.evidence(fresh_nonce()?).await?;
    let appraisal = appraise(&evidence.report, &policy, &evidence.challenge);
    println!("{appraisal}");
    Ok(ExitCode::from(appraisal.verdict.exit_code()))
}
