//! TDX quotes that `dcap-qvl` publishes, and one of a live node: see `PROVENANCE.md`.

use super::{empty_report, failing, fixture, outcome, rules};
use crate::{
    binding::Nonce,
    encoding::hex,
    platform::Platform,
    verify::{Challenge, Check, Outcome, tests_only},
};

/// The rules that a sample of others' can follow: its measurements are nobody's release.
pub(super) const OPEN: &str = r#"
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
        [("v4", 1_750_329_147, 1_752_919_234), ("v5-td15ex", 1_791_419_306, 1_794_008_710)]
    {
        for now in [from, from + (to - from) / 2, to] {
            let (report_data, checks) = appraise(name, now, OPEN);
            assert!(report_data.is_some(), "{name} at {now}: {checks:?}");
            assert_eq!(outcome(&checks, "tdx.quote"), Some(Outcome::Pass));
            assert_eq!(outcome(&checks, "tdx.attributes"), Some(Outcome::Pass));
            assert_eq!(outcome(&checks, "tdx.collateral"), Some(Outcome::Pass));
            // Measurements and RTMR3 are of somebody else's guest.
            assert_eq!(outcome(&checks, "tdx.release"), Some(Outcome::Skip));
            assert_eq!(outcome(&checks, "tdx.rtmr3"), Some(Outcome::Fail));
        }
        for now in [0, from - 1, to + 1, u64::MAX / 2] {
            let (_, checks) = appraise(name, now, OPEN);
            let failing = failing(&checks);
            // The library takes a list before it has begun, and TCB info in the second it ends.
            assert!(failing == ["tdx.quote"] || failing.contains(&"tdx.collateral"), "{checks:?}");
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

const AT: u64 = 1_751_000_000;

/// The published quote, touched.
fn touched(change: impl FnOnce(&mut Vec<u8>)) -> Vec<&'static str> {
    let mut report = empty_report(Platform::Tdx);
    report.quote = fixture("tdx/v4.quote");
    report.collateral = fixture("tdx/v4.collateral.json");
    change(&mut report.quote);
    let challenge = Challenge { nonce: Nonce::ABSENT, now_secs: AT };
    failing(&tests_only::tdx(&report, &challenge, &rules(OPEN)).1)
}

/// Drivers hand out buffers that end in zeros. Nothing else may follow, and no length that encloses
/// others may leave room.
#[test]
fn nothing_but_zeros_follows_a_quote() {
    let whole = touched(|_| {});
    assert_eq!(whole, ["tdx.rtmr3"], "of somebody else's guest");
    assert_eq!(touched(|quote| quote.extend([0; 1000])), whole);
    assert_eq!(touched(|quote| quote.push(1)), ["tdx.quote"]);
    assert_eq!(touched(|quote| quote.extend([0, 0, 0, 1, 0])), ["tdx.quote"]);
    let length_at = 48 + 584;
    // Of the signature data, with as much more behind it.
    let longer = |quote: &mut Vec<u8>| {
        let end = length_at
            + 4
            + u32::from_le_bytes(quote[length_at..][..4].try_into().unwrap()) as usize;
        quote.truncate(end);
        quote[length_at] += 1;
        quote.push(0);
    };
    assert_eq!(touched(longer), ["tdx.quote"]);
    for length in [0, 47, length_at, length_at + 3, length_at + 100] {
        assert_eq!(touched(|quote| quote.truncate(length)), ["tdx.quote"]);
    }
}

pub(super) const SETTINGS: [&str; 8] = [
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    "xfam",
    "td_attributes",
    "mrseam",
    "mrsignerseam",
    "seam_attributes",
];

/// The entry of a release that the published quote is of.
pub(super) fn entry() -> toml::Table {
    let quote = dcap_qvl::quote::Quote::parse(&fixture("tdx/v4.quote")).unwrap();
    let td = quote.report.as_td10().unwrap();
    let one = |bytes: &[u8]| toml::Value::String(hex(bytes));
    let list = |bytes: &[u8]| toml::Value::Array(vec![one(bytes)]);
    [
        ("name", toml::Value::String("published".to_owned())),
        ("mrtd", one(&td.mr_td)),
        ("rtmr0", one(&td.rt_mr0)),
        ("rtmr1", one(&td.rt_mr1)),
        ("rtmr2", one(&td.rt_mr2)),
        ("mrconfigid", list(&td.mr_config_id)),
        ("mrowner", list(&td.mr_owner)),
        ("mrownerconfig", list(&td.mr_owner_config)),
        ("xfam", list(&td.xfam)),
        ("td_attributes", list(&td.td_attributes)),
        ("mrseam", list(&td.mr_seam)),
        ("mrsignerseam", list(&td.mr_signer_seam)),
        ("seam_attributes", list(&td.seam_attributes)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

fn judged_by(releases: Vec<toml::Table>) -> Vec<Check> {
    let mut rules: toml::Table = OPEN.parse().unwrap();
    let releases = releases.into_iter().map(toml::Value::Table).collect();
    rules["tdx"]
        .as_table_mut()
        .unwrap()
        .insert("releases".to_owned(), toml::Value::Array(releases));
    appraise("v4", AT, &rules.to_string()).1
}

#[test]
fn a_release_says_how_its_guest_is_set_up() {
    let checks = judged_by(vec![entry()]);
    assert_eq!(failing(&checks), ["tdx.rtmr3"], "{checks:?}");
    for setting in SETTINGS {
        let check = format!("tdx.{setting}");
        assert_eq!(outcome(&checks, &check), Some(Outcome::Pass));
        let with = |value: Option<toml::Value>| {
            let mut entry = entry();
            entry.remove(setting);
            entry.extend(value.map(|value| (setting.to_owned(), value)));
            entry
        };
        let other = {
            let digits = entry()[setting][0].as_str().unwrap().len();
            toml::Value::Array(vec![toml::Value::String("5a".repeat(digits / 2))])
        };
        // Missing refuses, another refuses, anything is named as skipped.
        assert_eq!(failing(&judged_by(vec![with(None)])), [check.as_str(), "tdx.rtmr3"]);
        let refused = with(Some(other.clone()));
        assert_eq!(failing(&judged_by(vec![refused.clone()])), [check.as_str(), "tdx.rtmr3"]);
        let any = judged_by(vec![with(Some("any".into()))]);
        assert_eq!(outcome(&any, &check), Some(Outcome::Skip));
        // Another entry of the same measurements may fit; halves of two do not make one.
        assert_eq!(failing(&judged_by(vec![refused.clone(), entry()])), ["tdx.rtmr3"]);
        let mut half = entry();
        half["mrtd"] = "5a".repeat(48).into();
        assert_eq!(failing(&judged_by(vec![refused, half])), [check.as_str(), "tdx.rtmr3"]);
    }
    let mut other = entry();
    other["rtmr1"] = "5a".repeat(48).into();
    let checks = judged_by(vec![other]);
    assert_eq!(failing(&checks), ["tdx.release", "tdx.rtmr3"]);
    assert_eq!(outcome(&checks, "tdx.mrconfigid"), Some(Outcome::Skip));
}

/// The entry, as a platform and an image.
fn parts() -> [toml::Table; 2] {
    let of_image = ["rtmr1", "rtmr2", "mrconfigid", "mrowner", "mrownerconfig"];
    let (mut image, mut platform): (toml::Table, toml::Table) =
        entry().into_iter().partition(|(key, _)| of_image.contains(&key.as_str()));
    image.insert("name".to_owned(), "an image".into());
    platform.insert("name".to_owned(), "a platform".into());
    [platform, image]
}

fn judged_in_parts(platforms: Option<toml::Value>, images: Option<toml::Value>) -> Vec<Check> {
    let mut rules: toml::Table = OPEN.parse().unwrap();
    let tdx = rules["tdx"].as_table_mut().unwrap();
    // As in the production policy, beside which a verifier adds parts of its own.
    tdx.insert("releases".to_owned(), toml::Value::Array(Vec::new()));
    tdx.extend(platforms.map(|list| ("platforms".to_owned(), list)));
    tdx.extend(images.map(|list| ("images".to_owned(), list)));
    appraise("v4", AT, &rules.to_string()).1
}

fn list(entry: &toml::Table) -> Option<toml::Value> {
    Some(toml::Value::Array(vec![toml::Value::Table(entry.clone())]))
}

#[test]
fn platform_and_image_are_both_required_and_each_is_named() {
    let [platform, image] = parts();
    let checks = judged_in_parts(list(&platform), list(&image));
    assert_eq!(failing(&checks), ["tdx.rtmr3"], "{checks:?}");
    assert_eq!(outcome(&checks, "tdx.platform"), Some(Outcome::Pass));
    assert_eq!(outcome(&checks, "tdx.image"), Some(Outcome::Pass));
    assert_eq!(outcome(&checks, "tdx.release"), None);

    for register in ["mrtd", "rtmr0"] {
        let mut other = platform.clone();
        other[register] = "5a".repeat(48).into();
        let checks = judged_in_parts(list(&other), list(&image));
        assert_eq!(failing(&checks), ["tdx.platform", "tdx.rtmr3"], "{register}");
        assert_eq!(outcome(&checks, "tdx.image"), Some(Outcome::Pass));
        assert_eq!(outcome(&checks, "tdx.mrseam"), Some(Outcome::Skip));
    }
    for register in ["rtmr1", "rtmr2"] {
        let mut other = image.clone();
        other[register] = "5a".repeat(48).into();
        let checks = judged_in_parts(list(&platform), list(&other));
        assert_eq!(failing(&checks), ["tdx.image", "tdx.rtmr3"], "{register}");
        assert_eq!(outcome(&checks, "tdx.mrconfigid"), Some(Outcome::Skip));
    }
    // One without the other is a rule that is missing.
    assert_eq!(failing(&judged_in_parts(list(&platform), None)), ["tdx.image", "tdx.rtmr3"]);
    assert_eq!(failing(&judged_in_parts(None, list(&image))), ["tdx.platform", "tdx.rtmr3"]);
    assert_eq!(failing(&judged_in_parts(None, None)), ["tdx.release", "tdx.rtmr3"]);
    // Beside "any" release, parts that are named count all the same.
    let mut rules: toml::Table = OPEN.parse().unwrap();
    let mut other = image.clone();
    other["rtmr1"] = "5a".repeat(48).into();
    rules["tdx"].as_table_mut().unwrap().extend([
        ("platforms".to_owned(), list(&platform).unwrap()),
        ("images".to_owned(), list(&other).unwrap()),
    ]);
    let checks = appraise("v4", AT, &rules.to_string()).1;
    assert_eq!(failing(&checks), ["tdx.image", "tdx.rtmr3"]);
    let any = judged_in_parts(Some("any".into()), Some("any".into()));
    assert_eq!(outcome(&any, "tdx.image"), Some(Outcome::Skip));
    // How the guest is set up is asked of the part that decides it.
    for (setting, part) in [("xfam", 0), ("mrseam", 0), ("mrowner", 1), ("mrconfigid", 1)] {
        let mut parts = parts();
        parts[part].remove(setting);
        let checks = judged_in_parts(list(&parts[0]), list(&parts[1]));
        assert_eq!(failing(&checks), [format!("tdx.{setting}").as_str(), "tdx.rtmr3"]);
    }
}

#[test]
fn a_refused_release_says_which_part_it_lacks() {
    let detail = |change: &[&str]| {
        let mut other = entry();
        for register in change {
            other[*register] = "5a".repeat(48).into();
        }
        let checks = judged_by(vec![other]);
        checks.into_iter().find(|check| check.id == "tdx.release").unwrap().detail
    };
    assert!(detail(&["rtmr0"]).contains("the platform (MRTD, RTMR0) is not"));
    assert!(detail(&["rtmr2"]).contains("the image (RTMR1, RTMR2) is not"));
    assert!(detail(&["mrtd", "rtmr1"]).contains("neither platform nor image"));
}
