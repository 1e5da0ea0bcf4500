//! Cases of real hardware: samples that others publish, and reports of SEV-SNP under a test PKI.
//! The published ones bind nothing of ours, so that `binding.report_data` fails beside what a case shows.

use serde_json::{Value, json};

use super::{
    super::{fixture, snp, tdx},
    Case,
    parts::{NOW, Parts, case, slug},
    table,
};
use crate::{
    gpu_evidence::GpuEvidence, platform::Platform, simulator::Simulator, verify::SnpCollateral,
};

/// What every platform's rules need beside its own.
const COMMON: &str = r#"
platforms = ["tdx", "snp"]
fresh_nonce = "required"
keyset = { max_lifetime_secs = 90_000, builds = "any" }
model = { manifests = "any" }
gpu = { evidence = "optional", reference_measurements = "not appraised", revocation = "not appraised" }
"#;

pub(super) fn cases() -> Vec<Case> {
    [quotes(), releases(), reports(), certificates(), gpus()].into_iter().flatten().collect()
}

fn tdx_case(name: &str, about: &str, (sample, now_secs): (&str, u64), rules: &str) -> Case {
    let file = |end: &str| fixture(&format!("tdx/{sample}.{end}"));
    let report = Parts::at(now_secs).report(Platform::Tdx, file("quote"), file("collateral.json"));
    let policy = Some(table(&format!("{COMMON}\n{rules}")));
    Case { now_secs, policy, simulated: None, ..case(format!("tdx-{name}"), about, &report) }
}

fn quotes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (sample, times) in [
        ("v4", [1_750_329_146, 1_750_329_147, 1_752_919_234, 1_752_919_235]),
        ("v5-td15ex", [1_791_419_305, 1_791_419_306, 1_794_008_710, 1_794_008_711]),
    ] {
        for (when, now) in ["early", "first", "last", "late"].iter().zip(times) {
            let about = "A published quote at its times, and at the seconds around them";
            cases.push(tdx_case(&format!("{sample}-{when}"), about, (sample, now), tdx::OPEN));
        }
    }
    let old = "Below every level that Intel lists";
    cases.push(tdx_case("outdated", old, ("outdated", 1_690_000_000), tdx::OPEN));
    cases.push(tdx_case("enclave", "An enclave is no guest", ("sgx", 1_751_000_000), tdx::OPEN));
    for (flag, check) in
        [("dynamic_platform", "dynamic-platform"), ("cached_keys", "cached-keys"), ("smt", "smt")]
    {
        let rules =
            tdx::OPEN.replace(&format!("{flag} = \"allow\""), &format!("{flag} = \"refuse\""));
        cases.push(tdx_case(check, "A property that the policy refuses", AT, &rules));
    }
    let rules = tdx::OPEN.replace("number = 1", "number = 18");
    cases.push(tdx_case("evaluation", "Judged by data that is too old", AT, &rules));
    let rules = tdx::OPEN
        .replace("hardware = \"any\"", "hardware = [\"00000000000000000000000000000000\"]");
    cases.push(tdx_case("hardware", "Another machine than those that are trusted", AT, &rules));
    cases.push(tdx_case("no-rules", "A policy that says nothing of TDX", AT, ""));
    cases
}

const AT: (&str, u64) = ("v4", 1_751_000_000);

/// A release names how its guest is set up, setting by setting.
fn releases() -> Vec<Case> {
    let with = |name: &str, about: &str, entries: Vec<toml::Table>| {
        let mut case = tdx_case(name, about, AT, tdx::OPEN);
        let policy = case.policy.as_mut().unwrap();
        policy["tdx"]["releases"] = serde_json::to_value(entries).unwrap();
        case
    };
    let changed = |field: &str, value: Option<toml::Value>| {
        let mut entry = tdx::entry();
        entry.remove(field);
        entry.extend(value.map(|value| (field.to_owned(), value)));
        entry
    };
    let mut cases = vec![
        with("release", "The release that the quote is of", vec![tdx::entry()]),
        with("release-none", "No release is trusted", Vec::new()),
        with(
            "release-second",
            "Another entry of the same measurements fits",
            vec![changed("xfam", Some(toml::Value::Array(Vec::new()))), tdx::entry()],
        ),
    ];
    for register in ["mrtd", "rtmr0", "rtmr1", "rtmr2"] {
        let entry = changed(register, Some("5a".repeat(48).into()));
        cases.push(with(&format!("release-{register}"), "Another register", vec![entry]));
    }
    for setting in tdx::SETTINGS {
        let missing = changed(setting, None);
        cases.push(with(
            &format!("{}-missing", slug(setting)),
            "The release does not say",
            vec![missing],
        ));
        let any = changed(setting, Some("any".into()));
        cases.push(with(&format!("{}-any", slug(setting)), "The release takes any", vec![any]));
        let other = changed(setting, Some(toml::Value::Array(Vec::new())));
        cases.push(with(
            &format!("{}-other", slug(setting)),
            "The release has others",
            vec![other],
        ));
    }
    cases
}

fn snp_rules() -> Value {
    table(&format!("{COMMON}\n{}", snp::RULES))
}

fn snp_case(name: &str, about: &str, report: Vec<u8>, collateral: &SnpCollateral) -> Case {
    let report = Parts::at(NOW).report(Platform::Snp, report, collateral.to_json());
    let case = case(format!("snp-{name}"), about, &report);
    Case { policy: Some(snp_rules()), simulated: None, test_roots: true, ..case }
}

/// A report over our parts, with some bytes otherwise, signed by the test chip.
fn signed(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut report = snp::report();
    report[snp::REPORT_DATA..][..64].copy_from_slice(&Parts::at(NOW).bound());
    for (at, value) in changes {
        report[*at] = *value;
    }
    snp::sign(report)
}

fn chip(vcek: &str, crl: Option<&str>) -> SnpCollateral {
    let file = |name: &str| fixture(&format!("snp/{name}"));
    SnpCollateral { vcek: file(vcek), crl: crl.map(file) }
}

fn good_chip() -> SnpCollateral {
    chip("test/vcek.der", Some("test/good.crl"))
}

fn reports() -> Vec<Case> {
    let admits = [
        ("debug", 0x0A, 0x0B),
        ("migration", 0x0A, 0x07),
        ("vmpl-1", 0x30, 1),
        ("masked-key", 0x48, 2),
        ("vlek", 0x48, 4),
        ("unsigned", 0x48, 28),
        ("unknown-key", 0x48, 8),
        ("host-data", 0xC5, 0x34),
        ("family-id", 0x10, 0x45),
        ("image-id", 0x20, 0x56),
        ("id-key", 0xE0, 0x67),
        ("author-key", 0x110, 0x78),
        ("measurement", 0x90, 0x23),
        ("report-data", 0x50, 0),
        ("chip", 0x1A0, 9),
        ("reported-firmware", 0x186, 23),
        ("committed-firmware", 0x1E7, 218),
        ("launch-firmware", 0x1F7, 218),
        ("version-2", 0x00, 2),
        ("version-1", 0x00, 1),
        ("genoa", 0x189, 0x11),
        ("unknown-model", 0x189, 0x77),
        ("reserved", 0x4C, 1),
        ("smt", 0x40, 1),
    ];
    let mut cases =
        vec![snp_case("whole", "Accepted under the test PKI", signed(&[]), &good_chip())];
    for (name, at, value) in admits {
        let about = format!("The signed report has {value:#x} at {at:#x}");
        cases.push(snp_case(name, &about, signed(&[(at, value)]), &good_chip()));
    }
    for at in [0x20_usize, 0x2A0, 0x2A0 + 47, 0x2A0 + 48, 0x2A0 + 72, 0x49F] {
        let mut report = signed(&[]);
        report[at] ^= 1;
        cases.push(snp_case(&format!("flipped-{at:x}"), "A bit was flipped", report, &good_chip()));
    }
    for (name, about, report) in [
        ("longer", "A byte too many", [&signed(&[])[..], &[1]].concat()),
        ("padded", "Zeros after it, as drivers have them", [&signed(&[])[..], &[0; 9]].concat()),
        ("shorter", "A byte too few", signed(&[])[..1183].to_vec()),
    ] {
        cases.push(snp_case(name, about, report, &good_chip()));
    }
    let settings = ["host_data", "family_id", "image_id", "id_key_digest", "author_key_digest"];
    for setting in settings {
        let mut missing = snp_case(
            &format!("{}-missing", slug(setting)),
            "The release does not say",
            signed(&[]),
            &good_chip(),
        );
        let release = &mut missing.policy.as_mut().unwrap()["snp"]["releases"][0];
        release.as_object_mut().unwrap().remove(setting);
        cases.push(missing);
    }
    for (rule, value) in [("smt", json!("refuse")), ("hardware", json!([])), ("min_tcb", json!({}))]
    {
        let name = format!("rule-{}", slug(rule));
        let mut case = snp_case(&name, "A stricter rule", signed(&[(0x40, 1)]), &good_chip());
        case.policy.as_mut().unwrap()["snp"][rule] = value;
        cases.push(case);
    }
    cases
}

fn certificates() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, vcek, crl) in [
        ("forged-certificate", "test/vcek-forged.der", Some("test/good.crl")),
        ("turin-certificate", "turin.vcek.der", Some("test/good.crl")),
        ("no-list", "test/vcek.der", None),
        ("revoked", "test/vcek.der", Some("test/revoked.crl")),
        ("old-list", "test/vcek.der", Some("test/old.crl")),
        ("forged-list", "test/vcek.der", Some("test/forged.crl")),
    ] {
        let about = "A certificate or a list of another";
        cases.push(snp_case(name, about, signed(&[]), &chip(vcek, crl)));
    }
    for (name, now_secs) in [("before", 1_700_000_000), ("after", 2_000_000_000)] {
        let case = snp_case(&format!("dates-{name}"), "At another time", signed(&[]), &good_chip());
        cases.push(Case { now_secs, ..case });
    }
    let published = chip("milan.vcek.der", None);
    let milan = snp_case(
        "published",
        "AMD's Milan: genuine, of version 2",
        fixture("snp/milan-v2.report"),
        &published,
    );
    cases.push(Case { test_roots: false, ..milan });
    cases
}

fn gpus() -> Vec<Case> {
    let hopper = || GpuEvidence {
        report: fixture("gpu/hopper.report"),
        certificates: fixture("gpu/hopper.chain.pem"),
    };
    let with = |name: &str, about: &str, gpus: Vec<GpuEvidence>| {
        let parts = Parts { gpus, ..Parts::at(NOW) };
        case(format!("gpu-{name}"), about, &parts.simulated(Simulator::new(), NOW))
    };
    let flipped = |at: usize| {
        let mut gpu = hopper();
        gpu.report[at] ^= 1;
        gpu
    };
    let followed =
        |surplus: &[u8]| GpuEvidence { report: [&hopper().report, surplus].concat(), ..hopper() };
    let chain = |change: &dyn Fn(String) -> String| GpuEvidence {
        certificates: change(String::from_utf8(hopper().certificates).unwrap()).into_bytes(),
        ..hopper()
    };
    let first = |text: String| {
        let end = "-----END CERTIFICATE-----\n";
        text[..text.find(end).unwrap() + end.len()].to_owned()
    };
    let bytes = hopper().report.len();
    vec![
        with("nonce", "NVIDIA's sample answers a nonce of NVIDIA's", vec![hopper()]),
        with("twice", "One GPU that is sent twice", vec![hopper(), hopper()]),
        with("flipped-nonce", "A bit of its nonce", vec![flipped(10)]),
        with("flipped-block", "A bit of a measurement", vec![flipped(200)]),
        with("flipped-signature", "A bit of its signature", vec![flipped(bytes - 5)]),
        with("head", "Another request", vec![flipped(1)]),
        with("report-zeros", "Zeros after it, as drivers have them", vec![followed(&[0, 0])]),
        with("report-surplus", "Another byte after them", vec![followed(&[0, 1])]),
        with("no-chain", "No certificate", vec![chain(&|_| String::new())]),
        with("leaf-alone", "The leaf, and none of those above it", vec![chain(&first)]),
        with(
            "chain-garbage",
            "Words between the certificates",
            vec![chain(&|text| format!("x{text}"))],
        ),
        with(
            "chain-zeros",
            "Zeros after them, as drivers have them",
            vec![chain(&|text| text + "\0\0")],
        ),
        with(
            "chain-touched",
            "A letter of a certificate",
            vec![chain(&|text| text.replacen("MII", "MIJ", 1))],
        ),
    ]
}
