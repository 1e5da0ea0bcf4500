//! The simulator's quotes pass the very checks that hardware's do, under another root.

use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use ed25519_dalek::{Signer, SigningKey};

use super::{failing, fixture, fixture_path};
use crate::{
    Policy, Report,
    binding::{Bound, Keyset, KeysetBody, Nonce, sha256},
    event_log::EventLog,
    nonces::NoncePath,
    platform::Platform,
    simulator::{Flaw, Simulator, root},
    verify::{Appraisal, Challenge, Channel, Verdict, appraise, appraise_over, verify},
};

pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn nonce() -> Nonce {
    Nonce::new([7; 32]).unwrap()
}

pub(super) fn report(guest: Simulator) -> Report {
    report_naming(guest, None)
}

/// A report of a node whose keyset names this TLS key.
pub(super) fn report_naming(guest: Simulator, tls_spki_sha256: Option<String>) -> Report {
    report_of(guest, [tls_spki_sha256, None, None])
}

/// Or also this configuration, and this key that signs manifests.
fn report_of(mut guest: Simulator, named: [Option<String>; 3]) -> Report {
    let [tls_spki_sha256, configuration_sha256, c2pa_spki_sha256] = named;
    let signer = SigningKey::from_bytes(&[5; 32]);
    let keyset = Keyset::new(&KeysetBody {
        x25519: "11".repeat(32),
        ed25519: crate::encoding::hex(signer.verifying_key().as_bytes()),
        key_id: "0123456789abcdef".to_owned(),
        epoch: 0,
        not_before: NOW - 10,
        not_after: NOW + 3600,
        build_id: "obscura/test".to_owned(),
        tls_spki_sha256,
        configuration_sha256,
        c2pa_spki_sha256,
    });
    let model_manifest = b"00  7  weights\n".to_vec();
    let mut log = EventLog::default();
    guest.extend(&log.push_model(sha256(&model_manifest)));
    let nonce_path = NoncePath::alone([9; 32]);
    let bound = Bound {
        nonce_root: nonce_path.root(nonce()).unwrap(),
        keyset: keyset.digest(),
        model_manifest: sha256(&model_manifest),
        device_evidence: b"",
    };
    let quote = guest.quote(&bound.report_data(), NOW);
    Report {
        platform: Platform::Simulated,
        nonce: nonce(),
        nonce_path,
        keyset: keyset.as_bytes().to_vec(),
        possession: keyset.prove_possession(|message| signer.sign(message).to_bytes()).possession,
        model_manifest,
        device_evidence: Vec::new(),
        event_log: log.to_json(),
        quote: quote.quote,
        collateral: quote.collateral,
    }
}

pub(super) fn demo() -> Policy {
    Policy::production().dangerous().accept_simulated()
}

pub(super) fn judge(report: &Report, policy: &Policy) -> Appraisal {
    verify(report, policy, &Challenge { nonce: nonce(), now_secs: NOW })
}

#[test]
fn the_demo_accepts_what_production_refuses() {
    let report = report(Simulator::new());
    let accepted = judge(&report, &demo());
    assert_eq!(accepted.verdict, Verdict::Accepted, "{accepted}");
    assert_eq!(accepted.attested().unwrap().platform, Platform::Simulated);
    assert!(accepted.to_string().contains("SIMULATED - NOT A TEE"));

    let refused = judge(&report, &Policy::production());
    assert_eq!((refused.verdict, refused.verdict.exit_code()), (Verdict::Rejected, 10));
    assert!(refused.attested().is_none());
    assert!(failing(&refused.checks).contains(&"platform.allowed"));
    // Even where the simulator claims to be hardware.
    let liar = Report { platform: Platform::Tdx, ..report };
    for policy in [demo(), Policy::production()] {
        let refused = judge(&liar, &policy);
        assert!(failing(&refused.checks).contains(&"tdx.quote"), "{refused}");
    }
}

#[test]
fn intels_root_does_not_lead_to_simulated_quotes() {
    let quote = Simulator::new().quote(&[1; 64], NOW);
    let collateral: QuoteCollateralV3 = serde_json::from_slice(&quote.collateral).unwrap();
    assert!(QuoteVerifier::new_prod().verify(&quote.quote, &collateral, NOW).is_err());
    let verified = QuoteVerifier::new(root()).verify(&quote.quote, &collateral, NOW).unwrap();
    assert_eq!(verified.status, "UpToDate");
    assert_eq!(verified.report.as_td10().unwrap().report_data, [1; 64]);
}

#[test]
fn each_flaw_is_refused_by_its_own_check() {
    for (flaw, expected) in [
        // Which no rule permits, and which the release does not have either.
        (Flaw::Debug, &["tdx.attributes", "tdx.td_attributes"][..]),
        (Flaw::OutOfDate, &["tdx.tcb_status"]),
        (Flaw::Revoked, &["simulated.quote"]),
        (Flaw::OtherImage, &["tdx.release"]),
    ] {
        let refused = judge(&report(Simulator::with(flaw)), &demo());
        assert_eq!(failing(&refused.checks), expected, "{flaw:?}: {refused}");
    }
}

/// A digest, as it must be written, or no keyset.
#[test]
fn the_tls_key_of_a_keyset_is_attested() {
    let judged = |named: Option<String>| judge(&report_naming(Simulator::new(), named), &demo());
    let named = |appraisal: &Appraisal| appraisal.attested().map(|it| it.tls_spki_sha256);
    assert_eq!(named(&judged(None)), Some(None));
    assert_eq!(named(&judged(Some("ab".repeat(32)))), Some(Some([0xab; 32])));
    for no_digest in ["", "ab", &"AB".repeat(32), &"ab".repeat(33)] {
        let refused = judged(Some(no_digest.to_owned()));
        assert_eq!(failing(&refused.checks), ["keyset.format"], "{no_digest}");
    }
}

#[test]
fn the_key_that_signs_images_is_attested() {
    let judged =
        |named: Option<String>| judge(&report_of(Simulator::new(), [None, None, named]), &demo());
    let named = |appraisal: &Appraisal| appraisal.attested().map(|it| it.c2pa_spki_sha256);
    assert_eq!(named(&judged(None)), Some(None));
    assert_eq!(named(&judged(Some("ab".repeat(32)))), Some(Some([0xab; 32])));
    for no_digest in ["", "ab", &"AB".repeat(32), &"ab".repeat(33)] {
        let refused = judged(Some(no_digest.to_owned()));
        assert_eq!(failing(&refused.checks), ["keyset.format"], "{no_digest}");
    }
    // Where there is none, a keyset has the bytes that it had before there was such a field.
    let report = report_of(Simulator::new(), [None, None, None]);
    assert!(!String::from_utf8(report.keyset).unwrap().contains("c2pa"));
}

/// What a keyset does not tell is as little trusted as what the policy does not name.
#[test]
fn a_policy_names_configurations() {
    let rules = |list: &str| {
        let trusted = format!("digests = [{list}]");
        Policy::simulated_by(&crate::policy::SIMULATED.replacen("digests = \"any\"", &trusted, 1))
    };
    let judged = |named: Option<&str>, policy: &Policy| {
        let report = report_of(Simulator::new(), [None, named.map(str::to_owned), None]);
        judge(&report, policy)
    };
    let (one, other) = ("ab".repeat(32), "cd".repeat(32));
    let policy = rules(&format!("\"{other}\", \"{one}\""));
    assert_eq!(judged(Some(&one), &policy).verdict, Verdict::Accepted);
    let only_other = rules(&format!("\"{other}\""));
    let refused = judged(Some(&one), &only_other);
    assert_eq!(failing(&refused.checks), ["configuration.digest"]);
    assert!(refused.to_string().contains(&one), "{refused}");
    assert_eq!(failing(&judged(None, &policy).checks), ["configuration.digest"]);
    // With "any", what was found is told, and named as not checked.
    let any = judged(Some(&one), &demo());
    assert!(any.to_string().contains(&one) && any.verdict == Verdict::Accepted, "{any}");
    let malformed = judged(Some("AB"), &demo());
    assert_eq!(failing(&malformed.checks), ["keyset.format"]);
}

/// Over TLS to somebody else, evidence that is good on its own is refused, and names both keys.
#[test]
fn the_connection_is_judged_by_the_keyset() {
    let json = report_naming(Simulator::new(), Some("ab".repeat(32))).to_json();
    let challenge = Challenge { nonce: nonce(), now_secs: NOW };
    let over = |spki_sha256, policy: Policy| {
        let channel = Channel::Tls { spki_sha256, is_publicly_valid: false };
        appraise_over(&json, &policy, &challenge, &channel)
    };
    assert_eq!(over([0xab; 32], demo().require_attested_tls()).verdict, Verdict::Accepted);
    let refused = over([0xcd; 32], demo());
    assert_eq!(failing(&refused.checks), ["tls.key"], "{refused}");
    let text = refused.to_string();
    assert!(text.contains(&"ab".repeat(32)) && text.contains(&"cd".repeat(32)), "{text}");
    // Judged by itself, a report is as good as it was.
    assert_eq!(appraise(&json, &demo(), &challenge).verdict, Verdict::Accepted);
}

#[test]
fn a_report_travels_as_json() {
    let challenge = Challenge { nonce: nonce(), now_secs: NOW };
    let json = report(Simulator::new()).to_json();
    assert_eq!(appraise(&json, &demo(), &challenge).verdict, Verdict::Accepted);
    let other = String::from_utf8(json).unwrap().replace("/v2", "/v9");
    assert_eq!(appraise(other.as_bytes(), &demo(), &challenge).verdict.exit_code(), 20);
    assert_eq!(appraise(b"{}", &demo(), &challenge).verdict.exit_code(), 30);
}

/// What other verifiers are given (`tests/clients`). Everything in it is deterministic; to write it
/// anew, run this test with `OBSCURA_BLESS` set.
#[test]
fn the_committed_report_is_the_simulators() {
    let report = report(Simulator::new()).to_json();
    for (name, bytes) in [("simulated/report.json", report), ("simulated/root.der", root())] {
        if std::env::var_os("OBSCURA_BLESS").is_some() {
            std::fs::write(fixture_path(name), &bytes).unwrap();
        }
        assert_eq!(fixture(name), bytes, "{name}");
    }
}
