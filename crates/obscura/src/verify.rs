//! `obscura verify`: whether to trust a node.

use std::{fs, path::Path, process::ExitCode, time::SystemTime};

use anyhow::Context;
use attest::{
    Policy,
    binding::Nonce,
    verify::{Appraisal, Challenge, appraise},
};
use client::{ApiKey, Client, Evidence};
use serde_json::json;

use crate::{
    args::{TrustArgs, VerifyArgs},
    serve,
};

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let policy = policy(&args.trust)?;
    let Evidence { report, challenge } = match (&args.url, &args.report) {
        (Some(url), _) => serve::runtime()?.block_on(ask(url, args.nonce))?,
        (None, Some(file)) => read(file, args.nonce)?,
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    if let Some(file) = &args.save {
        fs::write(file, &report).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let appraisal = appraise(&report, &policy, &challenge);
    if args.json {
        println!("{}", as_json(&appraisal, &challenge)?);
    } else {
        if challenge.nonce != Nonce::ABSENT {
            println!("nonce {}\n", challenge.nonce);
        }
        println!("{appraisal}");
    }
    Ok(ExitCode::from(appraisal.verdict.exit_code()))
}

/// The production policy, or the operator's; and what was asked for by its dangerous name.
pub(crate) fn policy(args: &TrustArgs) -> anyhow::Result<Policy> {
    let policy = match &args.policy {
        Some(file) => {
            let shown = file.display();
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            Policy::from_toml(&text).with_context(|| format!("in {shown}"))?
        }
        None => Policy::production(),
    };
    if !args.accept_simulated {
        return Ok(policy);
    }
    eprintln!("warning: simulated nodes are accepted; whoever runs one can read every prompt");
    Ok(policy.dangerous().accept_simulated())
}

async fn ask(url: &str, nonce: Option<Nonce>) -> anyhow::Result<Evidence> {
    let client = Client::new(url, ApiKey::none())?;
    let nonce = match nonce {
        Some(nonce) => nonce,
        None => client::fresh_nonce()?,
    };
    client.evidence(nonce).await.context("asking the node for evidence")
}

fn read(file: &Path, nonce: Option<Nonce>) -> anyhow::Result<Evidence> {
    let report = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?;
    let challenge = Challenge { nonce: nonce.unwrap_or(Nonce::ABSENT), now_secs: now.as_secs() };
    Ok(Evidence { report, challenge })
}

fn as_json(appraisal: &Appraisal, challenge: &Challenge) -> anyhow::Result<String> {
    let mut verdict = serde_json::to_value(appraisal)?;
    if let Some(verdict) = verdict.as_object_mut() {
        let nonce = (challenge.nonce != Nonce::ABSENT).then(|| challenge.nonce.to_string());
        verdict.insert("nonce".to_owned(), json!(nonce));
        verdict.insert("appraised_at".to_owned(), json!(challenge.now_secs));
        verdict.insert("exit_code".to_owned(), json!(appraisal.verdict.exit_code()));
    }
    Ok(serde_json::to_string_pretty(&verdict)?)
}
