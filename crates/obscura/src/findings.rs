//! What was found of an image or a receipt: a line a check, and a verdict.

use std::process::ExitCode;

use attest::verify::{Outcome, Verdict};
use provenance::ProvenanceError;
use serde_json::{Value, json};

use crate::output::say;

struct Finding {
    id: &'static str,
    outcome: Outcome,
    detail: String,
}

/// The findings so far, and the worst that they say.
pub(crate) struct Findings {
    findings: Vec<Finding>,
    verdict: Verdict,
    /// What was looked at, where that is a part alone: what is accepted is called by it.
    part: Option<&'static str>,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self { findings: Vec::new(), verdict: Verdict::Accepted, part: None }
    }

    pub(crate) fn pass(&mut self, id: &'static str, detail: impl Into<String>) {
        self.add(id, Outcome::Pass, detail.into());
    }

    pub(crate) fn skip(&mut self, id: &'static str, detail: impl Into<String>) {
        self.add(id, Outcome::Skip, detail.into());
    }

    /// Something does not hold.
    pub(crate) fn fail(&mut self, id: &'static str, detail: impl Into<String>) {
        self.add(id, Outcome::Fail, detail.into());
        self.worse(Verdict::Rejected);
    }

    /// Whether it holds; `said` either way.
    pub(crate) fn expect(&mut self, id: &'static str, holds: bool, said: impl Into<String>) {
        match holds {
            true => self.pass(id, said),
            false => self.fail(id, said),
        }
    }

    /// What a part of it is, or what is wrong with that.
    pub(crate) fn take<T>(
        &mut self,
        id: &'static str,
        result: Result<T, ProvenanceError>,
    ) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.add(id, Outcome::Fail, error.to_string());
        self.worse(match error {
            ProvenanceError::Foreign { .. } => Verdict::Unsupported,
            ProvenanceError::NotAnImage
            | ProvenanceError::Malformed { .. }
            | ProvenanceError::TooLong { .. }
            | ProvenanceError::InvalidSalt => Verdict::Malformed,
            _ => Verdict::Rejected,
        });
        None
    }

    /// What another judge says. The worst of all is said in the end.
    pub(crate) fn worse(&mut self, verdict: Verdict) {
        if verdict.exit_code() > self.verdict.exit_code() {
            self.verdict = verdict;
        }
    }

    /// That this is all that was looked at. Whoever reads of it should not take it for the whole.
    pub(crate) fn of_part(&mut self, part: &'static str) {
        self.part = Some(part);
    }

    /// The verdict's name; of a part that is accepted, the part's.
    fn verdict_name(&self) -> String {
        match (self.verdict, self.part) {
            (Verdict::Accepted, Some(part)) => part.to_owned(),
            (verdict, _) => verdict.to_string(),
        }
    }

    fn not_checked(&self) -> Vec<&'static str> {
        let skipped = self.findings.iter().filter(|finding| finding.outcome == Outcome::Skip);
        skipped.map(|finding| finding.id).collect()
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.verdict.exit_code())
    }

    /// Prints them for people, behind what they are about.
    pub(crate) fn print(&self, about: &str) -> anyhow::Result<()> {
        for Finding { id, outcome, detail } in &self.findings {
            say(format_args!("{outcome}  {id:<24} {}", printable::terminal(detail)))?;
        }
        say(format_args!("\n{}: {about}", self.verdict_name()))?;
        match &self.not_checked()[..] {
            [] => Ok(()),
            ids => say(format_args!("  not checked: {}", ids.join(", "))),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|Finding { id, outcome, detail }| {
            json!({ "id": id, "outcome": outcome, "detail": detail })
        });
        json!({
            "verdict": self.verdict_name().to_lowercase(),
            "checks": findings.collect::<Vec<_>>(),
            "not_checked": self.not_checked(),
            "exit_code": self.verdict.exit_code(),
        })
    }

    fn add(&mut self, id: &'static str, outcome: Outcome, detail: String) {
        self.findings.push(Finding { id, outcome, detail });
    }
}
