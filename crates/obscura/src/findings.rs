//! What was found of an image or a receipt: a line a check, and a verdict.

use std::process::ExitCode;

use attest::verify::{Outcome, Verdict};
use provenance::ProvenanceError;
use serde_json::{Value, json};

struct Finding {
    id: &'static str,
    outcome: Outcome,
    detail: String,
}

/// The findings so far, and the worst that they say.
pub(crate) struct Findings {
    findings: Vec<Finding>,
    verdict: Verdict,
}

impl Findings {
    pub(crate) fn new() -> Self {
        Self { findings: Vec::new(), verdict: Verdict::Accepted }
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

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.verdict.exit_code())
    }

    /// Prints them for people, behind what they are about.
    pub(crate) fn print(&self, about: &str) {
        for Finding { id, outcome, detail } in &self.findings {
            println!("{outcome}  {id:<24} {}", printable::terminal(detail));
        }
        println!("\n{}: {about}", self.verdict);
    }

    pub(crate) fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|Finding { id, outcome, detail }| {
            json!({ "id": id, "outcome": outcome, "detail": detail })
        });
        json!({
            "verdict": self.verdict,
            "checks": findings.collect::<Vec<_>>(),
            "exit_code": self.verdict.exit_code(),
        })
    }

    fn add(&mut self, id: &'static str, outcome: Outcome, detail: String) {
        self.findings.push(Finding { id, outcome, detail });
    }
}
