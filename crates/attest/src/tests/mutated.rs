//! Good evidence, touched in a few places: nothing panics, and what is accepted is what was signed.

use proptest::prelude::*;

use super::{empty_report, failing, fixture, rules};
use crate::{
    binding::Nonce,
    event_log::EventLog,
    gpu_evidence::{GpuEvidence, encode},
    platform::Platform,
    roots::MILAN,
    verify::{Challenge, tests_only},
};

/// A change of bytes: what, where, with what.
#[derive(Debug, Clone)]
struct Edit(Kind, prop::sample::Index, u8);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Set,
    Insert,
    Remove,
    Truncate,
    /// The bytes from here on come twice.
    Repeat,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let kind = prop_oneof![
        4 => Just(Kind::Set),
        2 => Just(Kind::Insert),
        2 => Just(Kind::Remove),
        1 => Just(Kind::Truncate),
        1 => Just(Kind::Repeat),
    ];
    let byte = prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 0x7F, 0x80, 0xFF, b'"'])];
    let edit = (kind, any::<prop::sample::Index>(), byte);
    prop::collection::vec(edit.prop_map(|(kind, at, byte)| Edit(kind, at, byte)), 1..6)
}

fn touched(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for Edit(kind, at, byte) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind {
            Kind::Set => bytes[at] = *byte,
            Kind::Insert => bytes.insert(at, *byte),
            Kind::Remove => drop(bytes.remove(at)),
            Kind::Truncate => bytes.truncate(at),
            Kind::Repeat => bytes.extend_from_within(at..),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn tdx(edits in edits(), in_quote: bool) {
        let mut report = empty_report(Platform::Tdx);
        report.quote = fixture("tdx/v4.quote");
        report.collateral = fixture("tdx/v4.collateral.json");
        let whole = report.quote[568..632].to_vec();
        match in_quote {
            true => report.quote = touched(report.quote, &edits),
            false => report.collateral = touched(report.collateral, &edits),
        }
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: 1_751_000_000 };
        let (found, _) = tests_only::tdx(&report, &challenge, &rules(super::tdx::OPEN));
        prop_assert!(found.is_none_or(|found| found == *whole));
    }

    #[test]
    fn snp(edits in edits(), in_report: bool) {
        let collateral = |vcek| crate::verify::SnpCollateral { vcek, crl: None }.to_json();
        let mut report = fixture("snp/milan-v2.report");
        let mut vcek = fixture("snp/milan.vcek.der");
        let whole = report[0x50..0x90].to_vec();
        match in_report {
            true => report = touched(report, &edits),
            false => vcek = touched(vcek, &edits),
        }
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: 1_800_000_000 };
        let rules = rules("[snp]\nmin_report_version = 2");
        let evidence = (&report[..], &collateral(vcek)[..]);
        let (found, _) = tests_only::snp(evidence, &[MILAN], &challenge, &rules.snp);
        prop_assert!(found.is_none_or(|found| found == *whole));
    }

    #[test]
    fn snp_collateral(edits in edits()) {
        let good = crate::verify::SnpCollateral {
            vcek: fixture("snp/milan.vcek.der"),
            crl: Some(touched(fixture("snp/test/good.crl"), &edits)),
        };
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: 1_800_000_000 };
        let report = fixture("snp/milan-v2.report");
        let rules = rules("[snp]\nmin_report_version = 2\ncrl = \"required\"");
        for collateral in [good.to_json(), touched(good.to_json(), &edits)] {
            let evidence = (&report[..], &collateral[..]);
            let (_, checks) = tests_only::snp(evidence, &[MILAN], &challenge, &rules.snp);
            prop_assert!(!failing(&checks).is_empty(), "another root's list");
        }
    }

    #[test]
    fn gpu(edits in edits(), in_report: bool) {
        let (whole, chain) = (fixture("gpu/hopper.report"), fixture("gpu/hopper.chain.pem"));
        let gpu = match in_report {
            true => GpuEvidence { report: touched(whole.clone(), &edits), certificates: chain },
            false => GpuEvidence { report: whole.clone(), certificates: touched(chain, &edits) },
        };
        let is_whole = gpu.report == whole;
        let mut report = empty_report(Platform::Tdx);
        report.device_evidence = encode(&[gpu]);
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: 1_800_000_000 };
        let checks = tests_only::gpu(&report, &challenge, &rules(super::gpu::RULES));
        prop_assert!(is_whole || failing(&checks) != ["gpu.nonce"], "a touched report is signed");
    }

    #[test]
    fn event_log(edits in edits()) {
        let mut log = EventLog::default();
        log.push("boot", b"x");
        log.push_model([3; 32]);
        if let Ok(read) = EventLog::parse(&touched(log.to_json(), &edits)) {
            // Whatever is read replays to what its own events say.
            let again = EventLog::parse(&read.to_json()).unwrap();
            prop_assert_eq!(again.replay(), read.replay());
        }
    }
}
