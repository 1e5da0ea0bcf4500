//! `obscura verify`: whether to trust a node.

mod image;

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use anyhow::Context;
use attest::{
    MAX_REPORT_BYTES, Policy,
    binding::Nonce,
    verify::{Appraisal, Challenge, Channel, Verdict},
};
use client::{ApiKey, Client, Evidence};
use serde_json::json;
use tlog::{Included, Kind, TlogError};

use crate::{
    args::{TrustArgs, VerifyArgs},
    output::{self, Existing},
    runtime,
    time::At,
    transparency::{self, LoggedArgs},
};

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let logged = logged(args)?;
    if let Some(Err(problem)) = &logged {
        // Nobody is asked anything under a policy that others may not have been shown.
        let problem = printable::terminal(&problem.to_string());
        match args.json {
            true => output::say(json!({
                "verdict": "rejected",
                "policy_log": problem.to_string(),
                "exit_code": Verdict::Rejected.exit_code(),
            })),
            false => output::say(format_args!("FAIL  the policy is not in the log — {problem}")),
        }?;
        return Ok(ExitCode::from(Verdict::Rejected.exit_code()));
    }
    let policy = policy(&args.trust)?;
    let existing = if args.force { Existing::Replace } else { Existing::Refuse };
    if let Some(file) = &args.save {
        output::check_target(file, existing)?;
    }
    let evidence = match (&args.url, &args.report) {
        (Some(url), _) => Some(runtime::runtime()?.block_on(ask(url, args.nonce))?),
        (None, Some(file)) => Some(read(file, args.nonce, args.at)?),
        (None, None) => None,
    };
    // From here on there is no peer, only who reads what is printed.
    sigpipe::reset();
    let clock = if args.at.is_some() { Clock::Told } else { Clock::System };
    if let (Some(file), Some(evidence)) = (&args.save, &evidence) {
        output::write(file, &evidence.report, existing)?;
    }
    if let Some(image) = &args.image {
        return image::run(args, image, &policy, evidence.as_ref());
    }
    let evidence = evidence.context("name a node's URL, a --report or an --image")?;
    let appraisal = evidence.appraise(&policy);
    let challenge = evidence.challenge;
    if args.json {
        output::say(as_json(&appraisal, &challenge, clock, logged.as_ref())?)?;
    } else {
        if let Some(Ok(included)) = &logged {
            output::say(format_args!("the policy is {included}"))?;
        }
        if challenge.nonce != Nonce::ABSENT {
            output::say(format_args!("nonce {}\n", challenge.nonce))?;
        }
        output::say(&appraisal)?;
        let at = At(challenge.now_secs);
        output::say(format_args!("  judged at {at}, {}", clock.description()))?;
    }
    Ok(ExitCode::from(appraisal.verdict.exit_code()))
}

/// Whether the policy is in the log, where that was asked for.
fn logged(args: &VerifyArgs) -> anyhow::Result<Option<Result<Included, TlogError>>> {
    let (Some(proof), Some(trust), Some(policy)) =
        (&args.log_proof, &args.log_trust, &args.trust.policy)
    else {
        return Ok(None);
    };
    let logged = LoggedArgs { log_trust: trust.clone(), log_proof: proof.clone() };
    transparency::check(&logged, Kind::Policy, policy).map(Some)
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
    let policy = if args.require_attested_tls { policy.require_attested_tls() } else { policy };
    if !args.accept_simulated {
        return Ok(policy);
    }
    output::note("warning: simulated nodes are accepted; whoever runs one can read every prompt");
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

/// Whose word it is what time it is.
#[derive(Clone, Copy)]
enum Clock {
    /// This machine's.
    System,
    /// Of whoever asked, by `--at`.
    Told,
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Told => "told",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::System => "by this machine's clock",
            Self::Told => "as --at says; by no clock",
        }
    }
}

/// A report that was saved, and how it is to be judged.
pub(crate) fn read(file: &Path, nonce: Option<Nonce>, at: Option<At>) -> anyhow::Result<Evidence> {
    let shown = file.display();
    // One byte more than any report has: longer is malformed, and not read to its end.
    let limit = MAX_REPORT_BYTES as u64 + 1;
    let mut report = Vec::new();
    File::open(file)
        .and_then(|file| file.take(limit).read_to_end(&mut report))
        .with_context(|| format!("cannot read {shown}"))?;
    let now_secs = match at {
        Some(At(secs)) => secs,
        None => {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock")?.as_secs()
        }
    };
    let nonce = nonce.unwrap_or(Nonce::ABSENT);
    let challenge = Challenge { nonce, now_secs };
    Ok(Evidence { report, challenge, channel: Channel::Plain })
}

fn as_json(
    appraisal: &Appraisal,
    challenge: &Challenge,
    clock: Clock,
    logged: Option<&Result<Included, TlogError>>,
) -> anyhow::Result<String> {
    let mut verdict = serde_json::to_value(appraisal)?;
    if let Some(verdict) = verdict.as_object_mut() {
        let nonce = (challenge.nonce != Nonce::ABSENT).then(|| challenge.nonce.to_string());
        verdict.insert("nonce".to_owned(), json!(nonce));
        verdict.insert("appraised_at".to_owned(), json!(challenge.now_secs));
        verdict.insert("clock".to_owned(), json!(clock.name()));
        if let Some(Ok(included)) = logged {
            verdict.insert("policy_log".to_owned(), json!(included.to_string()));
        }
        verdict.insert("exit_code".to_owned(), json!(appraisal.verdict.exit_code()));
    }
    Ok(serde_json::to_string_pretty(&verdict)?)
}
