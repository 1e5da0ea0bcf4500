//! `tests/vectors/attestation`: cases that every verifier of this protocol passes, in whatever language.
//!
//! Each is a directory with a report, a challenge, a policy, and what must come out. They are made
//! here, deterministically: run this test with `OBSCURA_BLESS` set to write them anew. Without it, the
//! committed ones must be those that are made, and the verifier must judge them as they say.

mod collateral;
mod hardware;
mod parts;
mod simulated;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::snp;
use crate::{
    binding::Nonce,
    policy::{PRODUCTION, Policy, SIMULATED},
    verify::{Appraisal, Challenge, Outcome, appraise, appraise_under},
};

/// A case: what a verifier is given. What must come out, the verifier itself says when it is made, and
/// a reader of the committed case judges.
struct Case {
    name: String,
    about: String,
    report: Vec<u8>,
    nonce: Nonce,
    now_secs: u64,
    /// For hardware; the production policy where there is none.
    policy: Option<Value>,
    /// For simulated nodes; `None` where they are not asked for.
    simulated: Option<Value>,
    /// Whether AMD's root is the test PKI's.
    test_roots: bool,
}

impl Case {
    fn appraise(&self) -> Appraisal {
        let rules = |json: &Value| serde_json::from_value(json.clone()).unwrap();
        let production = table(PRODUCTION);
        let policy = self.policy.as_ref().unwrap_or(&production);
        let policy = Policy::of(rules(policy), self.simulated.as_ref().map(rules));
        let challenge = Challenge { nonce: self.nonce, now_secs: self.now_secs };
        match self.test_roots {
            true => appraise_under(&[snp::TEST], &self.report, &policy, &challenge),
            false => appraise(&self.report, &policy, &challenge),
        }
    }

    fn to_json(&self) -> Value {
        let appraisal = self.appraise();
        let ids = |outcome| appraisal.ids(outcome).collect::<Vec<_>>();
        let named = |rules: &Option<Value>, name: &str, text: &str| match rules {
            Some(rules) if *rules == table(text) => json!(name),
            Some(rules) => rules.clone(),
            None => Value::Null,
        };
        json!({
            "about": self.about,
            "nonce": (self.nonce != Nonce::ABSENT).then(|| self.nonce.to_string()),
            "now": self.now_secs,
            "policy": match &self.policy {
                None => json!("production"),
                Some(rules) => rules.clone(),
            },
            "simulated": named(&self.simulated, "simulated", SIMULATED),
            "roots": if self.test_roots { "snp-test" } else { "built in" },
            "expect": {
                "verdict": appraisal.verdict,
                "exit_code": appraisal.verdict.exit_code(),
                "failing": ids(Outcome::Fail),
                "not_checked": ids(Outcome::Skip),
            },
        })
    }
}

/// A policy as other languages read it.
fn table(toml: &str) -> Value {
    toml::from_str(toml).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

#[test]
fn the_committed_cases_are_judged_as_they_say() {
    let cases = [simulated::cases(), collateral::cases(), hardware::cases()].concat_all();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name stands twice");
    let roots = json!({ "amd": [{
        "generation": snp::TEST.generation,
        "ark": String::from_utf8_lossy(snp::TEST.ark),
        "ask": String::from_utf8_lossy(snp::TEST.ask),
    }] });
    let mut files = vec![(PathBuf::from("roots/snp-test.json"), pretty(&roots))];
    // One report serves many cases: it lies where it is first used.
    let mut seen: Vec<(&[u8], &str)> = Vec::new();
    for case in &cases {
        let directory = Path::new("attestation").join(&case.name);
        let mut json = case.to_json();
        json["report"] = match seen.iter().find(|(report, _)| *report == case.report) {
            Some((_, first)) => json!(format!("../{first}/report")),
            None => {
                seen.push((&case.report, &case.name));
                files.push((directory.join("report"), case.report.clone()));
                json!("report")
            }
        };
        files.push((directory.join("case.json"), pretty(&json)));
    }
    if std::env::var_os("OBSCURA_BLESS").is_some() {
        let _ = fs::remove_dir_all(root().join("attestation"));
        for (path, bytes) in &files {
            let path = root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    for (path, bytes) in files {
        let found = fs::read(root().join(&path)).unwrap_or_default();
        assert!(found == bytes, "{} is not what is made: OBSCURA_BLESS writes it", path.display());
    }
    let committed = fs::read_dir(root().join("attestation")).unwrap().count();
    assert_eq!(committed, cases.len(), "a case that is not made here");
}

fn pretty(json: &Value) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}

/// Lists of cases, one after the other.
trait ConcatAll {
    fn concat_all(self) -> Vec<Case>;
}

impl<const N: usize> ConcatAll for [Vec<Case>; N] {
    fn concat_all(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}
