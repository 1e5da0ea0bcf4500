//! Whether to trust a node: pure functions over its report, a policy, a challenge.
//!
//! Nothing here reads a clock, a file or the network. Every check has a stable id and an outcome;
//! those that the policy waives, or that could not be made, are named in the verdict. One check that
//! fails rejects the report, whatever the others say.

mod channel;
mod check;
mod common;
mod entries;
mod gpu;
mod p384_chain;
mod snp;
mod snp_certificates;
mod spdm;
mod tdx;
mod tdx_release;
mod tdx_tcb;

use std::fmt;

use serde::{Serialize, Serializer};

pub use channel::Channel;
pub use check::{ALL_CHECKS, Check, CheckId, Outcome};
pub(crate) use snp_certificates::SnpCollateral;
pub(crate) use tdx::why_not_tdx;

use check::{Checks, REPORT_FORMAT};

use crate::{
    binding::{Digest32, Nonce, sha256},
    platform::Platform,
    policy::Policy,
    report::{Report, ReportError},
    roots::AmdRoot,
};

/// What only the verifier knows.
#[derive(Debug, Clone, Copy)]
pub struct Challenge {
    /// The nonce that was sent to this node; [`Nonce::ABSENT`] where none was.
    pub nonce: Nonce,
    /// Seconds since 1970.
    pub now_secs: u64,
}

/// Reads a report and judges it, wherever it came from.
pub fn appraise(json: &[u8], policy: &Policy, challenge: &Challenge) -> Appraisal {
    appraise_over(json, policy, challenge, &Channel::Plain)
}

/// Reads a report that came over this connection, and judges both.
pub fn appraise_over(
    json: &[u8],
    policy: &Policy,
    challenge: &Challenge,
    channel: &Channel,
) -> Appraisal {
    match Report::parse(json) {
        Ok(report) => verify_over(&report, policy, challenge, channel),
        Err(error) => Appraisal::unread(&error),
    }
}

/// Judges a report, wherever it came from.
pub fn verify(report: &Report, policy: &Policy, challenge: &Challenge) -> Appraisal {
    verify_over(report, policy, challenge, &Channel::Plain)
}

/// Judges a report that came over this connection, and the connection by it.
pub(crate) fn verify_over(
    report: &Report,
    policy: &Policy,
    challenge: &Challenge,
    channel: &Channel,
) -> Appraisal {
    judge((report, snp::ROOTS), policy, challenge, channel)
}

/// The same, of a report whose chip's key leads to one of these roots.
fn judge(
    (report, amd): (&Report, &[AmdRoot]),
    policy: &Policy,
    challenge: &Challenge,
    channel: &Channel,
) -> Appraisal {
    let rules = policy.rules_for(report.platform);
    let mut checks = Checks::default();
    checks.pass(REPORT_FORMAT, "");
    common::platform(report, rules, &mut checks);
    common::nonce(challenge, rules, &mut checks);
    common::nonce_path(report, challenge, &mut checks);
    let keys = common::keyset(report, challenge, rules, &mut checks);
    common::model(report, rules, &mut checks);
    let report_data = match report.platform {
        Platform::Tdx | Platform::Simulated => tdx::quote(report, challenge, rules, &mut checks),
        Platform::Snp => {
            snp::Evidence { report: &report.quote, collateral: &report.collateral, roots: amd }
                .appraise(challenge, &rules.snp, &mut checks)
        }
    };
    common::binding(report, challenge, report_data.as_ref(), &mut checks);
    if let Some(keys) = &keys {
        channel::tls_key(channel, keys.tls, policy.attested_tls(), &mut checks);
    }
    gpu::devices(report, challenge, rules, &mut checks);

    let rejected = checks.0.iter().any(|check| check.outcome == Outcome::Fail);
    // A quote that was not read has failed a check above; that it is asked for here once more keeps
    // that from depending on every path through a platform's checks.
    let attested = match (keys, report_data) {
        (Some(keys), Some(_)) if !rejected => Some(Attested {
            platform: report.platform,
            exchange_key: keys.exchange,
            signing_key: keys.signing,
            tls_spki_sha256: keys.tls,
            c2pa_spki_sha256: keys.c2pa,
            not_after_secs: keys.not_after_secs,
            keyset_digest: sha256(&report.keyset),
            model_manifest: sha256(&report.model_manifest),
        }),
        _ => None,
    };
    let verdict = if attested.is_some() { Verdict::Accepted } else { Verdict::Rejected };
    Appraisal { platform: Some(report.platform), verdict, checks: checks.0, attested }
}

/// What only tests of bindings may do.
#[cfg(feature = "test-roots")]
pub mod dangerous {
    use super::{AmdRoot, Appraisal, Challenge, Policy, appraise_under};

    /// Judges a report by roots of a test's own instead of AMD's: each a generation, its root and its signing key, PEM.
    /// Whoever holds their keys is believed. The roots are never freed.
    pub fn appraise_under_roots(
        roots: &[(String, String, String)],
        json: &[u8],
        policy: &Policy,
        challenge: &Challenge,
    ) -> Appraisal {
        let root = |(generation, ark, ask): &(String, String, String)| AmdRoot {
            generation: generation.clone().leak(),
            ark: ark.clone().leak().as_bytes(),
            ask: ask.clone().leak().as_bytes(),
        };
        let roots: Vec<_> = roots.iter().map(root).collect();
        appraise_under(&roots, json, policy, challenge)
    }
}

/// A whole report, under these roots instead of AMD's.
#[cfg(any(all(test, feature = "simulator"), feature = "test-roots"))]
pub(crate) fn appraise_under(
    roots: &[AmdRoot],
    json: &[u8],
    policy: &Policy,
    challenge: &Challenge,
) -> Appraisal {
    match Report::parse(json) {
        Ok(report) => judge((&report, roots), policy, challenge, &Channel::Plain),
        Err(error) => Appraisal::unread(&error),
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Appraisal {
    /// The report's platform, where it could be read.
    #[serde(serialize_with = "platform_name")]
    pub platform: Option<Platform>,
    /// The answer.
    pub verdict: Verdict,
    /// How it was reached.
    pub checks: Vec<Check>,
    #[serde(skip)]
    attested: Option<Attested>,
}

impl Appraisal {
    /// What the evidence vouches for, where it was accepted.
    #[must_use]
    pub fn attested(&self) -> Option<&Attested> {
        self.attested.as_ref()
    }

    /// Ids of the checks that came out so.
    pub fn ids(&self, outcome: Outcome) -> impl Iterator<Item = &'static str> {
        self.checks.iter().filter(move |check| check.outcome == outcome).map(|check| check.id)
    }

    fn unread(error: &ReportError) -> Self {
        let verdict = match error {
            ReportError::UnknownFormat | ReportError::UnknownPlatform => Verdict::Unsupported,
            _ => Verdict::Malformed,
        };
        let mut checks = Checks::default();
        checks.fail(REPORT_FORMAT, error.to_string());
        Self { platform: None, verdict, checks: checks.0, attested: None }
    }
}

impl fmt::Display for Appraisal {
    /// A line a check, then the verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        write!(f, "\n{}", self.verdict)?;
        if let Some(platform) = self.platform {
            write!(f, ": {platform}")?;
        }
        for (outcome, word) in [(Outcome::Fail, "failed"), (Outcome::Skip, "not checked")] {
            let ids: Vec<_> = self.ids(outcome).collect();
            if !ids.is_empty() {
                write!(f, "\n  {word}: {}", ids.join(", "))?;
            }
        }
        Ok(())
    }
}

/// The answer, and a program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every check that was made holds.
    Accepted,
    /// One does not.
    Rejected,
    /// The report may be good, but is of a kind that this verifier does not know.
    Unsupported,
    /// This is no report.
    Malformed,
}

impl Verdict {
    /// 0, 10, 20, 30.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Rejected => 10,
            Self::Unsupported => 20,
            Self::Malformed => 30,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "ACCEPTED",
            Self::Rejected => "REJECTED",
            Self::Unsupported => "UNSUPPORTED",
            Self::Malformed => "MALFORMED",
        })
    }
}

/// What accepted evidence vouches for. There is no other way to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attested {
    /// By which hardware; [`Platform::Simulated`] stands for none.
    pub platform: Platform,
    /// X25519: what to seal requests to.
    pub exchange_key: [u8; 32],
    /// Ed25519: who signs responses.
    pub signing_key: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo that TLS ends at; `None` where it does not end in the node.
    pub tls_spki_sha256: Option<Digest32>,
    /// SHA-256 of the SubjectPublicKeyInfo that manifests of its images are signed by; `None` where it signs none.
    pub c2pa_spki_sha256: Option<Digest32>,
    /// Seconds since 1970 until which the keys may be relied on.
    pub not_after_secs: u64,
    /// SHA-256 of the keyset.
    pub keyset_digest: Digest32,
    /// SHA-256 of the model manifest.
    pub model_manifest: Digest32,
}

fn platform_name<S: Serializer>(platform: &Option<Platform>, s: S) -> Result<S::Ok, S::Error> {
    platform.map(Platform::name).serialize(s)
}

/// The parts of an appraisal, for samples of other projects, which are no reports of ours.
#[cfg(test)]
pub(crate) mod tests_only {
    use super::{Challenge, Check, Checks, gpu, snp, tdx};
    use crate::{
        policy::{Rules, SnpRules},
        report::Report,
        roots::AmdRoot,
    };

    pub(crate) fn tdx(
        report: &Report,
        challenge: &Challenge,
        rules: &Rules,
    ) -> (Option<[u8; 64]>, Vec<Check>) {
        let mut checks = Checks::default();
        (tdx::quote(report, challenge, rules, &mut checks), checks.0)
    }

    /// A report and its collateral, under these roots.
    pub(crate) fn snp(
        (report, collateral): (&[u8], &[u8]),
        roots: &[AmdRoot],
        challenge: &Challenge,
        rules: &SnpRules,
    ) -> (Option<[u8; 64]>, Vec<Check>) {
        let mut checks = Checks::default();
        let evidence = snp::Evidence { report, collateral, roots };
        (evidence.appraise(challenge, rules, &mut checks), checks.0)
    }

    pub(crate) fn gpu(report: &Report, challenge: &Challenge, rules: &Rules) -> Vec<Check> {
        let mut checks = Checks::default();
        gpu::devices(report, challenge, rules, &mut checks);
        checks.0
    }
}
