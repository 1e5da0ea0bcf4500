//! What happens when one part of a good report is another's, or is touched.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{
    failing,
    simulated::{NOW, demo, judge, nonce, report},
};
use crate::{
    Policy, Report,
    binding::Nonce,
    event_log::EventLog,
    nonces::NoncePath,
    policy::SIMULATED,
    simulator::Simulator,
    verify::{Challenge, Verdict, verify},
};

/// Byte regions of a simulated quote (Intel TDX DCAP quoting library API, appendix 3).
pub(super) const HEADER: usize = 0;
pub(super) const TD_REPORT: usize = 48;
pub(super) const RTMR3: usize = TD_REPORT + 472;
pub(super) const REPORT_DATA: usize = TD_REPORT + 520;
pub(super) const SIGNED_BYTES: usize = TD_REPORT + 584;
pub(super) const SIGNATURE: usize = SIGNED_BYTES + 4;
pub(super) const ATTESTATION_KEY: usize = SIGNATURE + 64;
pub(super) const QE_REPORT: usize = ATTESTATION_KEY + 64 + 6;
pub(super) const QE_SIGNATURE: usize = QE_REPORT + 384;
pub(super) const QE_AUTH_DATA: usize = QE_SIGNATURE + 64 + 2;
pub(super) const CHAIN: usize = QE_AUTH_DATA + 32 + 6;

fn good() -> Report {
    static GOOD: LazyLock<Report> = LazyLock::new(|| report(Simulator::new()));
    GOOD.clone()
}

#[test]
fn each_region_of_the_quote_is_signed() {
    for (region, at) in [
        ("header", HEADER + 30),
        ("TEE type", HEADER + 4),
        ("MRTD", TD_REPORT + 136),
        ("attributes", TD_REPORT + 120),
        ("RTMR3", RTMR3),
        ("report data", REPORT_DATA + 63),
        ("length of what follows", SIGNED_BYTES),
        ("signature", SIGNATURE),
        ("attestation key", ATTESTATION_KEY),
        ("QE report", QE_REPORT + 100),
        ("QE signature", QE_SIGNATURE),
        ("QE data", QE_AUTH_DATA),
        ("certificates", CHAIN + 400),
    ] {
        let mut report = good();
        report.quote[at] ^= 1;
        assert!(failing(&judge(&report, &demo()).checks).contains(&"simulated.quote"), "{region}");
    }
}

#[test]
fn each_section_is_bound() {
    type Change = fn(&mut Report);
    let changes: [(&str, Change, &[&str]); 11] = [
        (
            "keyset",
            |r| swap(&mut r.keyset, "11111111", "22222222"),
            &["keyset.possession", "binding.report_data"],
        ),
        ("keyset, not JSON", |r| r.keyset.push(b'!'), &["keyset.format", "binding.report_data"]),
        ("possession", |r| r.possession[5] ^= 1, &["keyset.possession"]),
        ("manifest", |r| r.model_manifest.push(b'\n'), &["tdx.rtmr3", "binding.report_data"]),
        (
            "device evidence",
            |r| r.device_evidence = b"{\"gpus\":[]}".to_vec(),
            &["binding.report_data", "gpu.evidence"],
        ),
        ("event log, empty", |r| r.event_log = b"[]".to_vec(), &["tdx.rtmr3"]),
        ("event log, none", |r| r.event_log.clear(), &["tdx.rtmr3"]),
        ("event log, longer", |r| r.event_log = longer_log(r), &["tdx.rtmr3"]),
        ("collateral", |r| swap(&mut r.collateral, "UpToDate", "Outdated"), &["simulated.quote"]),
        ("collateral, none", |r| r.collateral.clear(), &["simulated.quote"]),
        (
            "quote of another report",
            |r| r.quote = Simulator::new().quote(&[0; 64], NOW).quote,
            &["tdx.rtmr3", "binding.report_data"],
        ),
    ];
    for (section, change, expected) in changes {
        let mut report = good();
        change(&mut report);
        let appraisal = judge(&report, &demo());
        assert_eq!(failing(&appraisal.checks), expected, "{section}: {appraisal}");
        assert_eq!(appraisal.verdict, Verdict::Rejected);
    }
}

#[test]
fn the_verifiers_nonce_counts_and_not_the_reports() {
    let mut report = good();
    let other = Nonce::new([8; 32]).unwrap();
    // A replay that echoes the nonce it was asked for, in the field that names it.
    report.nonce = other;
    let replayed = verify(&report, &demo(), &Challenge { nonce: other, now_secs: NOW });
    assert_eq!(failing(&replayed.checks), ["binding.report_data"]);
    // The field itself is not evidence.
    assert_eq!(judge(&report, &demo()).verdict, Verdict::Accepted);
    let unasked = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    let failing = failing(&verify(&report, &demo(), &unasked).checks);
    assert_eq!(failing, ["nonce.fresh", "binding.report_data"]);
}

/// The path is not signed: it is what makes the verifier's nonce one of those that the quote binds.
#[test]
fn a_touched_path_is_refused() {
    let touched = |change: fn(&mut NoncePath)| {
        let mut report = good();
        change(&mut report.nonce_path);
        let appraisal = judge(&report, &demo());
        failing(&appraisal.checks)
    };
    assert_eq!(touched(|path| path.blind[31] ^= 1), ["binding.report_data"]);
    assert_eq!(touched(|path| path.siblings.push([0; 32])), ["binding.report_data"]);
    assert_eq!(touched(|path| path.index = 1), ["nonce.path", "binding.report_data"]);
}

#[test]
fn time_counts() {
    for (now_secs, expected) in [
        (NOW - 11, &["keyset.valid_now"][..]),
        (NOW + 3601, &["keyset.valid_now"]),
        (NOW + 31 * 86_400, &["keyset.valid_now", "simulated.quote"]),
        (0, &["keyset.valid_now", "simulated.quote"]),
        (u64::MAX, &["keyset.valid_now", "simulated.quote"]),
    ] {
        let appraisal = verify(&good(), &demo(), &Challenge { nonce: nonce(), now_secs });
        assert_eq!(failing(&appraisal.checks), expected, "{now_secs}");
    }
}

/// Each rule of the policy, taken away or made stricter: what stands there, what instead, which check fails.
pub(super) const RULES: &[(&str, &str, &str)] = &[
    ("platforms = [\"simulated\"]", "", "platform.allowed"),
    ("platforms = [\"simulated\"]", "platforms = [\"tdx\"]", "platform.allowed"),
    ("fresh_nonce = \"required\"", "", "nonce.fresh"),
    ("max_lifetime_secs = 90_000", "", "keyset.lifetime"),
    ("max_lifetime_secs = 90_000", "max_lifetime_secs = 3600", "keyset.lifetime"),
    ("builds = \"any\"", "", "keyset.build"),
    ("builds = \"any\"", "builds = [\"obscura/other\"]", "keyset.build"),
    ("digests = \"any\"", "", "configuration.digest"),
    ("digests = \"any\"", "digests = []", "configuration.digest"),
    ("manifests = \"any\"", "", "model.manifest"),
    ("manifests = \"any\"", "manifests = []", "model.manifest"),
    ("tcb_statuses = [\"UpToDate\"]", "", "tdx.tcb_status"),
    ("tcb_statuses = [\"UpToDate\"]", "tcb_statuses = [\"OutOfDate\"]", "tdx.tcb_status"),
    ("advisories = []", "", "tdx.advisories"),
    ("min_tcb_evaluation_data_number = 1", "", "tdx.tcb_evaluation"),
    (
        "min_tcb_evaluation_data_number = 1",
        "min_tcb_evaluation_data_number = 2",
        "tdx.tcb_evaluation",
    ),
    ("dynamic_platform = \"refuse\"", "", "tdx.dynamic_platform"),
    ("cached_keys = \"refuse\"", "", "tdx.cached_keys"),
    ("smt = \"refuse\"", "", "tdx.smt"),
    ("rtmr3_model_event = \"required\"", "", "tdx.rtmr3"),
    ("hardware = \"any\"", "", "tdx.hardware"),
    ("hardware = \"any\"", "hardware = [\"11111111111111111111111111111111\"]", "tdx.hardware"),
    ("mrtd = \"", "mrtd = \"00\" #", "tdx.release"),
    ("mrconfigid = [", "# [", "tdx.mrconfigid"),
    ("mrowner = [", "# [", "tdx.mrowner"),
    ("mrownerconfig = [", "# [", "tdx.mrownerconfig"),
    ("xfam = [", "# [", "tdx.xfam"),
    ("xfam = [", "xfam = [] # [", "tdx.xfam"),
    ("td_attributes = [", "# [", "tdx.td_attributes"),
    ("mrseam = [", "# [", "tdx.mrseam"),
    ("mrsignerseam = [", "# [", "tdx.mrsignerseam"),
    ("seam_attributes = [", "# [", "tdx.seam_attributes"),
    ("evidence = \"optional\"", "", "gpu.evidence"),
    ("evidence = \"optional\"", "evidence = \"required\"", "gpu.evidence"),
];

/// The rules for simulated nodes with one of them changed.
pub(super) fn rules_with(from: &str, to: &str) -> String {
    assert!(SIMULATED.contains(from), "{from}");
    let to = to.replace("\"00\"", &format!("\"{}\"", "00".repeat(48)));
    SIMULATED.replacen(from, &to, 1)
}

#[test]
fn each_rule_of_the_policy_counts() {
    for (from, to, check) in RULES {
        let policy = Policy::simulated_by(&rules_with(from, to));
        let appraisal = judge(&good(), &policy);
        assert_eq!(failing(&appraisal.checks), [*check], "{from} -> {to}: {appraisal}");
    }
    // A rule that is waived is named as skipped.
    let waived = Policy::simulated_by(&SIMULATED.replace("\"required\"", "\"optional\""));
    let unasked = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    let appraisal = verify(&good(), &waived, &unasked);
    assert!(appraisal.to_string().contains("not checked: nonce.fresh, "), "{appraisal}");
}

/// No signature covers the types and lengths between what is signed, but they decide what is.
#[test]
fn each_bit_between_what_is_signed_counts() {
    let between = [
        SIGNED_BYTES..SIGNATURE,
        QE_REPORT - 6..QE_REPORT,
        QE_AUTH_DATA - 2..QE_AUTH_DATA,
        CHAIN - 6..CHAIN,
    ];
    for at in between.into_iter().flatten() {
        for bit in 0..8 {
            let mut report = good();
            report.quote[at] ^= 1_u8 << bit;
            let verdict = judge(&report, &demo()).verdict;
            assert_eq!(verdict, Verdict::Rejected, "byte {at}, bit {bit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_flipped_bit_of_what_is_signed_is_refused(at in 0_usize..CHAIN - 6, bit in 0_u8..8) {
        let mut report = good();
        report.quote[at] ^= 1_u8 << bit;
        prop_assert_eq!(judge(&report, &demo()).verdict, Verdict::Rejected);
    }

    #[test]
    fn one_flipped_bit_of_what_is_bound_is_refused(
        section in 0..4, at in any::<prop::sample::Index>(), bit in 0_u8..8
    ) {
        let mut report = good();
        let bytes: &mut [u8] = match section {
            0 => &mut report.keyset,
            1 => &mut report.model_manifest,
            2 => &mut report.event_log,
            _ => &mut report.possession,
        };
        *at.get_mut(bytes) ^= 1_u8 << bit;
        prop_assert_eq!(judge(&report, &demo()).verdict, Verdict::Rejected);
    }

    #[test]
    fn no_bytes_make_the_verifier_panic(quote in prop::collection::vec(any::<u8>(), 0..2000)) {
        for platform in [crate::Platform::Tdx, crate::Platform::Snp, crate::Platform::Simulated] {
            let report = Report {
                platform,
                device_evidence: quote.clone(),
                event_log: quote.clone(),
                keyset: quote.clone(),
                quote: quote.clone(),
                ..good()
            };
            prop_assert_eq!(judge(&report, &demo()).verdict, Verdict::Rejected);
        }
    }
}

fn swap(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

fn longer_log(report: &Report) -> Vec<u8> {
    let mut log = EventLog::parse(&report.event_log).unwrap();
    log.push("another", b"");
    log.to_json()
}
