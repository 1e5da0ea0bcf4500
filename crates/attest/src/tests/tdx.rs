//! TDX quotes that `dcap-qvl` publishes, and one of a live node: see `PROVENANCE.md`.

use super::{empty_report, failing, fixture, outcome, rules};
use crate::{
    binding::Nonce,
    platform::Platform,
    verify::{Challenge, Check, Outcome, tests_only},
};

/// The rules that a sample of others' can follow: its measurements are nobody's release.
const OPEN: &str = r#"
[tdx]
tcb_statuses = ["UpToDate"]
advisories = []
min_tcb_evaluation_data_number = 1
dynamic_platform = "allow"
cached_keys = "allow"
smt = "allow"
rtmr3_model_event = "required"
hardware = "any"
releases = "any"
"#;

fn appraise(name: &str, now_secs: u64, toml: &str) -> (Option<[u8; 64]>, Vec<Check>) {
    let mut report = empty_report(Platform::Tdx);
    report.quote = fixture(&format!("tdx/{name}.quote"));
    report.collateral = fixture(&format!("tdx/{name}.collateral.json"));
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs };
    tests_only::tdx(&report, &challenge, &rules(toml))
}

#[test]
fn published_quotes_verify_at_their_times_and_at_no_other() {
    for (name, from, to) in
        [("v4", 1_750_329_147, 1_752_919_234), ("v5-td15ex", 1_791_418_186, 1_794_008_711)]
    {
        for now in [from, from + (to - from) / 2, to] {
            let (report_data, checks) = appraise(name, now, OPEN);
            assert!(report_data.is_some(), "{name} at {now}: {checks:?}");
            assert_eq!(outcome(&checks, "tdx.quote"), Some(Outcome::Pass));
            assert_eq!(outcome(&checks, "tdx.attributes"), Some(Outcome::Pass));
            // Measurements and RTMR3 are of somebody else's guest.
            assert_eq!(outcome(&checks, "tdx.release"), Some(Outcome::Skip));
            assert_eq!(outcome(&checks, "tdx.rtmr3"), Some(Outcome::Fail));
        }
        for now in [0, from - 1, to + 1, u64::MAX / 2] {
            let (report_data, checks) = appraise(name, now, OPEN);
            assert_eq!(report_data, None, "{name} at {now}");
            assert_eq!(failing(&checks), ["tdx.quote"]);
        }
    }
}

/// Its firmware is below every level that Intel still lists; the simulator has one that is listed as
/// out of date.
#[test]
fn the_outdated_platform_is_refused_at_any_time() {
    for day in (0..2500).step_by(100) {
        let (report_data, checks) = appraise("outdated", 1_650_000_000 + day * 86_400, OPEN);
        assert_eq!(report_data, None);
        assert_eq!(failing(&checks), ["tdx.quote"]);
    }
}

#[test]
fn an_enclave_is_not_a_guest() {
    for day in (0..1200).step_by(100) {
        let (report_data, checks) = appraise("sgx", 1_700_000_000 + day * 86_400, OPEN);
        assert_eq!(report_data, None);
        assert_eq!(failing(&checks), ["tdx.quote"]);
    }
}

#[test]
fn every_missing_rule_refuses() {
    let now = 1_751_000_000;
    let (_, checks) = appraise("v4", now, "");
    assert_eq!(
        failing(&checks),
        [
            "tdx.tcb_status",
            "tdx.advisories",
            "tdx.tcb_evaluation",
            "tdx.dynamic_platform",
            "tdx.cached_keys",
            "tdx.smt",
            "tdx.release",
            "tdx.rtmr3",
            "tdx.hardware",
        ]
    );
}
