//! SEV-SNP: what `sev` publishes, and reports signed under a test PKI (`make_snp.py`).

use p384::ecdsa::{Signature, SigningKey, signature::Signer};

use super::{failing, fixture, outcome, rules};
use crate::{
    binding::Nonce,
    policy::SnpRules,
    roots::{AmdRoot, MILAN, TURIN},
    verify::{Challenge, Check, Outcome, SnpCollateral, tests_only},
};

pub(super) const TEST: AmdRoot = AmdRoot {
    generation: "milan",
    ark: include_bytes!("../../../../tests/fixtures/attestation/snp/test/ark.pem"),
    ask: include_bytes!("../../../../tests/fixtures/attestation/snp/test/ask.pem"),
};
/// Within the test PKI's dates.
const NOW: u64 = 1_800_000_000;
const SIGNED_BYTES: usize = 0x2A0;
pub(super) const REPORT_DATA: usize = 0x50;

pub(super) const RULES: &str = r#"
[snp]
min_report_version = 3
crl = "required"
smt = "allow"
hardware = "any"
[[snp.releases]]
name = "test"
measurement = "222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222222"
host_data = ["3333333333333333333333333333333333333333333333333333333333333333"]
family_id = ["44444444444444444444444444444444"]
image_id = ["55555555555555555555555555555555"]
id_key_digest = ["666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666"]
author_key_digest = ["777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777777"]
[snp.min_tcb]
milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }
"#;

fn test_rules() -> SnpRules {
    rules(RULES).snp
}

/// A report of version 3, before it is signed.
pub(super) fn report() -> Vec<u8> {
    let mut report = vec![0; 1184];
    // Bootloader, tee, four reserved bytes, snp, microcode.
    let tcb = [4, 0, 0, 0, 0, 0, 24, 219];
    let chip: Vec<u8> = (1..=64).collect();
    for (at, bytes) in [
        (0x00, &3_u32.to_le_bytes()[..]),
        // ABI, SMT allowed, the bit that is always one.
        (0x08, &0x3_001F_u64.to_le_bytes()),
        (0x10, &[0x44; 16]),
        (0x20, &[0x55; 16]),
        (0x34, &1_u32.to_le_bytes()),
        (0x38, &tcb),
        (REPORT_DATA, &[0x11; 64]),
        (0x90, &[0x22; 48]),
        (0xC0, &[0x33; 32]),
        (0xE0, &[0x66; 48]),
        (0x110, &[0x77; 48]),
        (0x180, &tcb),
        // Family 19h, model 1: Milan.
        (0x188, &[0x19, 1, 1]),
        (0x1A0, &chip),
        (0x1E0, &tcb),
        (0x1F0, &tcb),
    ] {
        report[at..at + bytes.len()].copy_from_slice(bytes);
    }
    report
}

/// r and s, little-endian, in 72 bytes each.
pub(super) fn sign(mut report: Vec<u8>) -> Vec<u8> {
    let key = SigningKey::from_slice(&[7; 48]).unwrap();
    let signature: Signature = key.sign(&report[..SIGNED_BYTES]);
    let (r, s) = signature.split_bytes();
    for (at, scalar) in [(SIGNED_BYTES, r), (SIGNED_BYTES + 72, s)] {
        let little: Vec<u8> = scalar.iter().rev().copied().collect();
        report[at..at + 48].copy_from_slice(&little);
    }
    report
}

fn collateral(vcek: &str, crl: Option<&str>) -> Vec<u8> {
    let file = |name: &str| fixture(&format!("snp/{name}"));
    SnpCollateral { vcek: file(vcek), crl: crl.map(file) }.to_json()
}

fn good_collateral() -> Vec<u8> {
    collateral("test/vcek.der", Some("test/good.crl"))
}

fn judge(report: &[u8], collateral: &[u8]) -> (Option<[u8; 64]>, Vec<Check>) {
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    tests_only::snp((report, collateral), &[MILAN, TEST], &challenge, &test_rules())
}

#[test]
fn a_report_of_the_test_pki_passes_every_check() {
    let (report_data, checks) = judge(&sign(report()), &good_collateral());
    assert_eq!(report_data, Some([0x11; 64]), "{checks:?}");
    assert_eq!(failing(&checks), [""; 0]);
    for id in [
        "report",
        "signing_key",
        "chain",
        "crl",
        "chip",
        "signature",
        "guest_policy",
        "smt",
        "tcb",
        "release",
        "host_data",
        "family_id",
        "image_id",
        "id_key_digest",
        "author_key_digest",
    ] {
        assert_eq!(outcome(&checks, &format!("snp.{id}")), Some(Outcome::Pass), "{id}");
    }
}

#[test]
fn what_a_report_admits_is_refused_by_its_own_check() {
    for (at, value, check) in [
        (0x0A, 0x0B, "snp.guest_policy"), // debugging
        (0x0A, 0x07, "snp.guest_policy"), // migration agent
        (0x30, 1, "snp.guest_policy"),    // VMPL
        (0x48, 2, "snp.guest_policy"),    // masked chip key
        (0x48, 4, "snp.signing_key"),     // VLEK
        (0x48, 28, "snp.signing_key"),    // none
        (0x48, 8, "snp.signing_key"),     // of a kind that is not known
        (0xC5, 0x34, "snp.host_data"),
        (0x10, 0x45, "snp.family_id"),
        (0x20, 0x56, "snp.image_id"),
        (0xE0, 0x67, "snp.id_key_digest"),
        (0x110, 0x78, "snp.author_key_digest"),
        (0x90, 0x23, "snp.release"), // measurement
        (0x1A0, 9, "snp.chip"),      // another chip
        (0x186, 23, "snp.chip"),     // reported firmware
        (0x1E7, 218, "snp.tcb"),     // committed firmware
        (0x1F7, 218, "snp.tcb"),     // firmware at launch
        (0x00, 2, "snp.report"),     // version
    ] {
        let mut report = report();
        report[at] = value;
        let (_, checks) = judge(&sign(report), &good_collateral());
        assert!(failing(&checks).contains(&check), "{at:#x} = {value}: {checks:?}");
    }
    let mut genoa = report();
    genoa[0x189] = 0x11;
    assert_eq!(failing(&judge(&sign(genoa), &good_collateral()).1), ["snp.chain"]);
}

/// A VLEK is told by its name, before anybody looks for its chain.
#[test]
fn a_vlek_is_refused_by_its_name() {
    let mut report = report();
    report[0x48] = 4;
    for collateral in [&good_collateral()[..], b"{}"] {
        let (_, checks) = judge(&sign(report.clone()), collateral);
        assert_eq!(failing(&checks), ["snp.signing_key"]);
        assert!(checks.last().unwrap().detail.contains("VLEK"));
    }
}

#[test]
fn a_release_says_how_its_guest_is_set_up() {
    let report = sign(report());
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    let judged_by = |toml: &str| {
        let evidence = (&report[..], &good_collateral()[..]);
        tests_only::snp(evidence, &[TEST], &challenge, &rules(toml).snp).1
    };
    for setting in ["host_data", "family_id", "image_id", "id_key_digest", "author_key_digest"] {
        let check = format!("snp.{setting}");
        let line = RULES.lines().find(|line| line.starts_with(setting)).unwrap();
        assert_eq!(failing(&judged_by(&RULES.replace(line, ""))), [&check]);
        let any = judged_by(&RULES.replace(line, &format!("{setting} = \"any\"")));
        assert_eq!(outcome(&any, &check), Some(Outcome::Skip));
        assert_eq!(failing(&any), [""; 0]);
    }
}

/// From the second in which a list begins, until the second in which the next is due.
#[test]
fn a_list_that_ends_now_has_ended() {
    use x509_cert::{certificate::Raw, crl::CertificateList, der::Decode};
    let der = fixture("snp/test/good.crl");
    let list = CertificateList::<Raw>::from_der(&der).unwrap().tbs_cert_list;
    let from = list.this_update.to_unix_duration().as_secs();
    let until = list.next_update.unwrap().to_unix_duration().as_secs();
    for (now_secs, holds) in
        [(from - 1, false), (from, true), (until - 1, true), (until, false), (until + 1, false)]
    {
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs };
        let (report, collateral) = (sign(report()), good_collateral());
        let (_, checks) =
            tests_only::snp((&report, &collateral), &[TEST], &challenge, &test_rules());
        match outcome(&checks, "snp.crl") {
            Some(found) => assert_eq!(found == Outcome::Pass, holds, "{now_secs}"),
            // The certificates themselves are not of that time.
            None => assert!(!holds && failing(&checks) == ["snp.chain"], "{now_secs}"),
        }
    }
}

#[test]
fn certificates_and_revocation_lists_of_others_are_refused() {
    let report = sign(report());
    for (vcek, crl, check) in [
        ("test/vcek-forged.der", Some("test/good.crl"), "snp.chain"),
        ("turin.vcek.der", Some("test/good.crl"), "snp.chain"),
        ("milan.vcek.der", Some("test/good.crl"), "snp.signature"),
        ("test/vcek.der", None, "snp.crl"),
        ("test/vcek.der", Some("test/revoked.crl"), "snp.crl"),
        ("test/vcek.der", Some("test/old.crl"), "snp.crl"),
        ("test/vcek.der", Some("test/forged.crl"), "snp.crl"),
    ] {
        let (_, checks) = judge(&report, &collateral(vcek, crl));
        assert!(failing(&checks).contains(&check), "{vcek} {crl:?}: {checks:?}");
    }
    for collateral in [&b"{}"[..], b"[", br#"{"vcek":"AAAA"}"#] {
        assert_eq!(failing(&judge(&report, collateral).1), ["snp.chain"]);
    }
}

#[test]
fn dates_are_checked() {
    let report = sign(report());
    let collateral = good_collateral();
    for now_secs in [0, 1_700_000_000, 2_000_000_000] {
        let challenge = Challenge { nonce: Nonce::ABSENT, now_secs };
        let (_, checks) =
            tests_only::snp((&report, &collateral), &[TEST], &challenge, &test_rules());
        assert_eq!(failing(&checks), ["snp.chain"]);
    }
}

#[test]
fn one_flipped_bit_of_what_is_signed_is_refused() {
    let whole = sign(report());
    let collateral = good_collateral();
    for byte in (0..SIGNED_BYTES + 2 * 72).step_by(23) {
        let mut report = whole.clone();
        report[byte] ^= 1 << (byte % 8);
        let (_, checks) = judge(&report, &collateral);
        assert!(!failing(&checks).is_empty(), "byte {byte:#x}");
    }
    let (longer, shorter) = ([&whole[..], &[1]].concat(), &whole[..1183]);
    assert_eq!(failing(&judge(&longer, &collateral).1), ["snp.report"]);
    assert_eq!(failing(&judge(shorter, &collateral).1), ["snp.report"]);
}

/// Milan's sample is of version 2: its signature and chain hold, and the version is refused.
#[test]
fn the_published_report_is_genuine_and_too_old_in_form() {
    let report = fixture("snp/milan-v2.report");
    let (report_data, checks) = judge(&report, &collateral("milan.vcek.der", None));
    assert!(report_data.is_some());
    for id in ["chain", "chip", "signature", "guest_policy"] {
        assert_eq!(outcome(&checks, &format!("snp.{id}")), Some(Outcome::Pass), "{checks:?}");
    }
    assert_eq!(failing(&checks), ["snp.report", "snp.crl", "snp.tcb", "snp.release"]);
}

#[test]
fn turins_published_certificate_leads_to_amds_root() {
    // The report is of another chip: the chain is what this sample can show.
    let collateral = collateral("turin.vcek.der", None);
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: NOW };
    let mut turin = report();
    turin[0x188] = 0x1A;
    // Levels have another order here: none is set.
    for at in [0x38, 0x180, 0x1E0, 0x1F0] {
        turin[at..at + 8].fill(0);
    }
    let (_, checks) =
        tests_only::snp((&sign(turin), &collateral), &[MILAN, TURIN], &challenge, &test_rules());
    assert_eq!(outcome(&checks, "snp.chain"), Some(Outcome::Pass), "{checks:?}");
    assert_eq!(outcome(&checks, "snp.chip"), Some(Outcome::Fail));
    assert_eq!(outcome(&checks, "snp.signature"), Some(Outcome::Fail));
}
