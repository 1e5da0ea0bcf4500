//! GPU reports: NVIDIA's own sample, and those of a live node with eight GPUs.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::{empty_report, failing, fixture, outcome, rules};
use crate::{
    Report,
    binding::Nonce,
    gpu_evidence::{GpuEvidence, encode},
    platform::Platform,
    verify::{Challenge, Check, Outcome, tests_only},
};

const NOW: u64 = 1_800_000_000;
pub(super) const RULES: &str = r#"
[gpu]
evidence = "required"
reference_measurements = "not appraised"
revocation = "not appraised"
"#;

fn judge(gpus: &[GpuEvidence]) -> Vec<Check> {
    let report = Report { device_evidence: encode(gpus), ..empty_report(Platform::Tdx) };
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    tests_only::gpu(&report, &challenge, &rules(RULES))
}

fn hopper() -> GpuEvidence {
    GpuEvidence {
        report: fixture("gpu/hopper.report"),
        certificates: fixture("gpu/hopper.chain.pem"),
    }
}

/// The GPUs of the live node, and the nonce that each was challenged with.
fn live() -> (Vec<GpuEvidence>, String) {
    let report: Value = serde_json::from_slice(&fixture("live/near-report.json")).unwrap();
    let payload = report["model_attestations"][0]["nvidia_payload"].as_str().unwrap();
    let payload: Value = serde_json::from_str(payload).unwrap();
    let unbase64 = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    let gpus = payload["evidence_list"].as_array().unwrap().iter().map(|gpu| GpuEvidence {
        report: unbase64(&gpu["evidence"]),
        certificates: unbase64(&gpu["certificate"]),
    });
    (gpus.collect(), payload["nonce"].as_str().unwrap().to_owned())
}

#[test]
fn real_gpus_lead_to_nvidias_root_and_answer_another_nonce() {
    let (live, nonce) = live();
    assert_eq!(live.len(), 8);
    for gpus in [vec![hopper()], live] {
        let checks = judge(&gpus);
        for id in ["evidence", "chain", "distinct", "firmware", "signature"] {
            assert_eq!(outcome(&checks, &format!("gpu.{id}")), Some(Outcome::Pass), "{checks:?}");
        }
        // Their challenge was not of our making.
        assert_eq!(failing(&checks), ["gpu.nonce"]);
        for id in ["reference", "revocation"] {
            assert_eq!(outcome(&checks, &format!("gpu.{id}")), Some(Outcome::Skip));
        }
        for gpu in gpus.iter().skip(1) {
            let at_nonce = &gpu.report[4..36];
            assert_eq!(crate::encoding::hex(at_nonce), nonce);
        }
    }
}

#[test]
fn one_flipped_bit_of_what_is_signed_is_refused() {
    let whole = hopper();
    let bytes = whole.report.len();
    for byte in (0..bytes).step_by(7).chain(bytes - 96..bytes) {
        let mut gpu = whole.clone();
        gpu.report[byte] ^= 1 << (byte % 8);
        let failing = failing(&judge(&[gpu]));
        let expected = ["gpu.evidence", "gpu.signature", "gpu.firmware"];
        assert!(expected.iter().any(|id| failing.contains(id)), "byte {byte}: {failing:?}");
    }
}

#[test]
fn chains_are_whole_and_in_order() {
    let whole = String::from_utf8(hopper().certificates).unwrap();
    let end = "-----END CERTIFICATE-----";
    let certificates: Vec<_> = whole
        .split_inclusive(end)
        .filter(|part| part.contains(end))
        .map(|part| format!("{}\n", part.trim()))
        .collect();
    assert_eq!(certificates.len(), 5);
    let with = |order: &[usize]| {
        let certificates: String = order.iter().map(|at| certificates[*at].as_str()).collect();
        failing(&judge(&[GpuEvidence { certificates: certificates.into_bytes(), ..hopper() }]))
    };
    assert_eq!(with(&[0, 1, 2, 3, 4]), ["gpu.nonce"]);
    assert_eq!(with(&[0, 1, 2, 3]), ["gpu.nonce"], "the root need not travel");
    for order in [&[][..], &[4], &[0], &[0, 1, 2, 4], &[0, 2, 1, 3, 4], &[1, 2, 3, 4]] {
        let failing = with(order);
        let expected = ["gpu.chain", "gpu.signature"];
        assert!(expected.iter().any(|id| failing.contains(id)), "{order:?}: {failing:?}");
    }
    // The leaf of another GPU.
    let (live, _) = live();
    let other = GpuEvidence { certificates: live[0].certificates.clone(), ..hopper() };
    let failing = failing(&judge(&[other]));
    assert!(failing.contains(&"gpu.signature") && failing.contains(&"gpu.firmware"));
}

#[test]
fn dates_bounds_and_copies_are_checked() {
    let report = Report { device_evidence: encode(&[hopper()]), ..empty_report(Platform::Tdx) };
    let early = Challenge { nonce: Nonce::ABSENT, now_secs: 1_600_000_000 };
    assert!(failing(&tests_only::gpu(&report, &early, &rules(RULES))).contains(&"gpu.chain"));

    assert_eq!(failing(&judge(&[])), ["gpu.evidence"]);
    assert_eq!(failing(&judge(&[hopper(), hopper()])), ["gpu.nonce", "gpu.distinct"]);
    let short = GpuEvidence { report: vec![0x11; 36], ..hopper() };
    assert_eq!(failing(&judge(&[short])), ["gpu.evidence"]);
    let mut long = hopper();
    // The length of the measurements: 16 MiB.
    long.report[42..45].copy_from_slice(&[0xFF; 3]);
    assert_eq!(failing(&judge(&[long])), ["gpu.evidence"]);
    let many = vec![hopper(); 17];
    assert_eq!(failing(&judge(&many)), ["gpu.evidence"]);
    let none = Report { device_evidence: b"{}".to_vec(), ..empty_report(Platform::Tdx) };
    assert_eq!(failing(&tests_only::gpu(&none, &early, &rules(RULES))), ["gpu.evidence"]);
}

/// A key is one card's, whatever it signs and however its chain is written.
#[test]
fn one_gpu_asked_twice_is_one() {
    let (mut gpus, _) = live();
    assert_eq!(failing(&judge(&gpus)), ["gpu.nonce"]);
    // The fourth card in the place of the first, with another report, which its signature is not of.
    gpus[0].certificates = gpus[3].certificates.clone();
    let checks = judge(&gpus);
    assert_eq!(outcome(&checks, "gpu.distinct"), Some(Outcome::Fail));
    let detail = &checks.iter().find(|check| check.id == "gpu.distinct").unwrap().detail;
    assert_eq!(detail, "GPU 3 is one of those before it");
    // Without the root at its end, it is the same card's chain in other bytes.
    let text = String::from_utf8(hopper().certificates).unwrap();
    let last = text.trim_end_matches('\0').rfind("-----BEGIN").unwrap();
    let rootless = GpuEvidence { certificates: text[..last].into(), ..hopper() };
    let failing = failing(&judge(&[hopper(), rootless]));
    assert_eq!(failing, ["gpu.nonce", "gpu.distinct"]);
}

/// Zeros pad a driver's buffer; whatever else is there is refused.
#[test]
fn nothing_but_certificates_is_in_a_chain() {
    let whole = hopper().certificates;
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let with = |certificates: Vec<u8>| failing(&judge(&[GpuEvidence { certificates, ..hopper() }]));
    assert_eq!(with([&whole[..end], &[0; 100]].concat()), ["gpu.nonce"]);
    assert_eq!(with([b"\n", &whole[..end], b"\r\n\0"].concat()), ["gpu.nonce"]);
    for (before, after) in
        [("x", ""), ("", "x"), ("", "\0x"), ("text\n", ""), ("", "\nACCEPTED\n"), ("\0", "")]
    {
        let surrounded = [before.as_bytes(), &whole[..end], after.as_bytes()].concat();
        assert_eq!(with(surrounded), ["gpu.nonce", "gpu.chain"], "{before:?} {after:?}");
    }
    let between = String::from_utf8(whole[..end].to_vec()).unwrap();
    let between = between.replacen("-----END CERTIFICATE-----", "-----END CERTIFICATE-----\nx", 1);
    assert_eq!(with(between.into_bytes()), ["gpu.nonce", "gpu.chain"]);
}

/// The rest of a driver's buffer, which driver 580 hands out, is borne; anything else is not.
#[test]
fn zeros_may_follow_a_report() {
    let with = |surplus: &[u8]| {
        let report = [&hopper().report, surplus].concat();
        failing(&judge(&[GpuEvidence { report, ..hopper() }]))
    };
    assert_eq!(with(&[0]), ["gpu.nonce"]);
    assert_eq!(with(&[0; 1000]), ["gpu.nonce"]);
    for surplus in [&[1][..], &[0, 1], &[0; 8192]] {
        assert_eq!(with(surplus), ["gpu.evidence"]);
    }
}

#[test]
fn every_missing_rule_refuses() {
    let report = Report { device_evidence: encode(&[hopper()]), ..empty_report(Platform::Tdx) };
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    assert_eq!(failing(&tests_only::gpu(&report, &challenge, &rules(""))), ["gpu.evidence"]);
    let partly = rules("[gpu]\nevidence = \"required\"");
    let failing = failing(&tests_only::gpu(&report, &challenge, &partly));
    assert_eq!(failing, ["gpu.nonce", "gpu.reference", "gpu.revocation"]);
}
