//! Cases of simulated nodes: report, binding, policy, quote and collateral, each touched on its own.

use super::{
    super::matrix::{
        ATTESTATION_KEY, CHAIN, HEADER, QE_AUTH_DATA, QE_REPORT, QE_SIGNATURE, REPORT_DATA, RTMR3,
        RULES, SIGNATURE, SIGNED_BYTES, TD_REPORT, rules_with,
    },
    Case,
    parts::{NOW, Parts, case, good, nonce, slug},
    table,
};
use crate::{
    Report,
    binding::Nonce,
    encoding::hex,
    nonces::{NoncePath, tree},
    platform::Platform,
    simulator::{Flaw, Simulator, pki::LIFETIME_SECS},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = whole();
    cases.extend(quotes());
    cases.extend(sections());
    cases.extend(nonces());
    cases.extend(times());
    cases.extend(forms());
    cases.extend(keysets());
    for (index, (from, to, check)) in RULES.iter().enumerate() {
        let rules = table(&rules_with(from, to));
        let about = format!("The policy says `{to}` where `{from}` stood");
        let name = format!("policy-{index:02}-{}", slug(check));
        cases.push(Case { simulated: Some(rules), ..case(name, about, &good()) });
    }
    cases
}

fn whole() -> Vec<Case> {
    let flawed = |flaw| Parts::at(NOW).simulated(Simulator::with(flaw), NOW);
    let liar = Report { platform: Platform::Tdx, ..good() };
    let snp = Report { platform: Platform::Snp, ..good() };
    vec![
        case("simulated", "A whole report, accepted by those who ask for it", &good()),
        case("simulated-says-tdx", "A simulated quote does not lead to Intel's root", &liar),
        case("simulated-says-snp", "A quote is no report of SEV-SNP", &snp),
        case("guest-debug", "A debugger may be attached", &flawed(Flaw::Debug)),
        case("guest-other-image", "Another image was launched", &flawed(Flaw::OtherImage)),
        case("platform-out-of-date", "Its firmware is out of date", &flawed(Flaw::OutOfDate)),
        case("platform-revoked", "The chip's certificate is revoked", &flawed(Flaw::Revoked)),
    ]
}

fn quotes() -> Vec<Case> {
    let regions = [
        ("version", HEADER),
        ("key type", HEADER + 2),
        ("TEE type", HEADER + 4),
        ("vendor", HEADER + 12),
        ("user data", HEADER + 30),
        ("attributes", TD_REPORT + 120),
        ("MRTD", TD_REPORT + 136),
        ("RTMR3", RTMR3),
        ("report data", REPORT_DATA + 63),
        ("length of what follows", SIGNED_BYTES),
        ("signature", SIGNATURE),
        ("attestation key", ATTESTATION_KEY),
        ("certification type", QE_REPORT - 6),
        ("certification length", QE_REPORT - 4),
        ("QE report", QE_REPORT + 100),
        ("QE signature", QE_SIGNATURE),
        ("QE data length", QE_AUTH_DATA - 2),
        ("QE data", QE_AUTH_DATA),
        ("chain type", CHAIN - 6),
        ("chain length", CHAIN - 4),
        ("certificates", CHAIN + 400),
    ];
    let touched = regions.into_iter().map(|(region, at)| {
        let mut report = good();
        report.quote[at] ^= 1;
        case(format!("quote-{}", slug(region)), format!("A bit of the quote's {region}"), &report)
    });
    let whole = good().quote.len();
    let lengths = [0, 1, 47, 48, SIGNED_BYTES, SIGNED_BYTES + 3, QE_REPORT, whole - 1];
    let cut = lengths.into_iter().map(|length| {
        let mut report = good();
        report.quote.truncate(length);
        case(format!("quote-cut-{length}"), "A quote that ends early", &report)
    });
    let ends: [(&str, &str, &[u8]); 3] = [
        ("zeros", "Drivers pad their buffers with zeros: accepted", &[0; 64]),
        ("byte", "One byte follows the quote", &[1]),
        ("byte-in-zeros", "A byte lies among the zeros that follow", &[0, 0, 1, 0]),
    ];
    let longer = ends.into_iter().map(|(name, about, more)| {
        let mut report = good();
        report.quote.extend(more);
        case(format!("quote-then-{name}"), about, &report)
    });
    touched.chain(cut).chain(longer).collect()
}

fn sections() -> Vec<Case> {
    type Change = fn(&mut Report);
    let changes: [(&str, Change); 12] = [
        ("possession", |r| r.possession[5] ^= 1),
        ("manifest", |r| r.model_manifest.push(b'\n')),
        ("manifest-empty", |r| r.model_manifest.clear()),
        ("device-evidence", |r| r.device_evidence = b"{\"gpus\":[]}".to_vec()),
        ("event-log-empty", |r| r.event_log = b"[]".to_vec()),
        ("event-log-none", |r| r.event_log.clear()),
        ("event-log-renamed", |r| r.event_log = edited(&r.event_log, "model-", "modal-")),
        ("event-log-upper-case", |r| {
            r.event_log = String::from_utf8_lossy(&r.event_log).to_uppercase().into_bytes();
        }),
        ("collateral-none", |r| r.collateral.clear()),
        ("collateral-not-an-object", |r| r.collateral = b"[]".to_vec()),
        ("collateral-touched", |r| r.collateral = edited(&r.collateral, "UpToDate", "Outdated")),
        ("quote-of-another", |r| r.quote = Simulator::new().quote(&[0; 64], NOW).quote),
    ];
    let touched = changes.into_iter().map(|(name, change)| {
        let mut report = good();
        change(&mut report);
        case(format!("section-{name}"), "A section that the quote does not bind", &report)
    });
    touched.collect()
}

fn nonces() -> Vec<Case> {
    let other = Nonce::new([8; 32]).unwrap();
    let echo = Report { nonce: other, ..good() };
    let touched = |change: fn(&mut NoncePath)| {
        let mut report = good();
        change(&mut report.nonce_path);
        report
    };
    let mut drawn = 0_u8;
    let waiting = [other, nonce(), Nonce::new([6; 32]).unwrap()];
    let (_, paths) = tree(&waiting, || {
        drawn += 1;
        Ok::<_, std::convert::Infallible>([drawn; 32])
    })
    .unwrap();
    let of_three =
        Parts { path: paths[1].clone(), ..Parts::at(NOW) }.simulated(Simulator::new(), NOW);
    let neighbours = Report { nonce_path: paths[0].clone(), ..of_three.clone() };
    vec![
        Case { nonce: other, ..case("nonce-replayed", "Evidence for another challenge", &good()) },
        Case { nonce: other, ..case("nonce-echoed", "The same, that names this one", &echo) },
        case("nonce-field", "The report's own word of its nonce is no evidence", &echo),
        Case { nonce: Nonce::ABSENT, ..case("nonce-not-sent", "No challenge was sent", &good()) },
        case("nonce-blind", "Another blind", &touched(|path| path.blind[31] ^= 1)),
        case("nonce-sibling", "One step too many", &touched(|path| path.siblings.push([0; 32]))),
        case("nonce-index", "A place outside the tree", &touched(|path| path.index = 1)),
        case("nonce-of-three", "One quote for three verifiers: accepted", &of_three),
        case("nonce-of-neighbour", "Another verifier's path", &neighbours),
    ]
}

/// Every boundary: the second before, the second itself, the second after.
fn times() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut at = |name: &str, about: &str, now_secs: u64, report: &Report| {
        let name = format!("time-{name}");
        let lax = table(&rules_with("max_lifetime_secs = 90_000", "max_lifetime_secs = 9_000_000"));
        cases.push(Case { now_secs, simulated: Some(lax), ..case(name, about, report) });
    };
    at("before-keys", "A second before the keys begin", NOW - 11, &good());
    at("keys-begin", "The second in which the keys begin: accepted", NOW - 10, &good());
    at("keys-end", "The second in which the keys end: accepted", NOW + 3600, &good());
    at("after-keys", "A second after the keys ended", NOW + 3601, &good());
    at("zero", "1970", 0, &good());
    at("far", "2106", 4_294_967_295, &good());
    let mut parts = Parts::at(NOW);
    (parts.keyset.not_before, parts.keyset.not_after) = (NOW - 86_400, NOW + 40 * 86_400);
    let long = parts.simulated(Simulator::new(), NOW);
    let (from, until) = (NOW - 3600, NOW - 3600 + LIFETIME_SECS);
    at("before-collateral", "A second before the collateral begins", from - 1, &long);
    at("collateral-begins", "The second in which it begins: accepted", from, &long);
    at(
        "before-collateral-ends",
        "A second before it is due for renewal: accepted",
        until - 1,
        &long,
    );
    at("collateral-ends", "The second in which it is due", until, &long);
    at("after-collateral", "A second after it was due", until + 1, &long);
    cases
}

/// What is no report, or one of another kind.
fn forms() -> Vec<Case> {
    let json = String::from_utf8(good().to_json()).unwrap();
    let deep = Report {
        nonce_path: NoncePath { siblings: vec![[0; 32]; 17], ..good().nonce_path },
        ..good()
    };
    let quote = crate::encoding::base64(&good().quote);
    let texts = [
        ("version", "A later format is unsupported", json.replace("tion/v2", "tion/v3")),
        ("binding", "Another binding is unsupported", json.replace("data/v2", "data/v3")),
        ("platform", "Another platform is unsupported", json.replace("simulated", "cca")),
        ("unknown-field", "A field that nobody knows", json.replacen('{', r#"{"more":"","#, 1)),
        ("twice", "A field that stands twice", json.replacen('{', r#"{"quote":"","#, 1)),
        ("missing", "A field is missing", json.replace("\"quote\"", "\"quota\"")),
        ("null", "A section that is null", json.replace(&format!("\"{quote}\""), "null")),
        ("number", "A section that is a number", json.replace(&format!("\"{quote}\""), "7")),
        (
            "nonce-upper-case",
            "A nonce in capitals",
            json.replace(&"07".repeat(32), &"AB".repeat(32)),
        ),
        ("nonce-zero", "A nonce of zeros", json.replace(&"07".repeat(32), &"00".repeat(32))),
        (
            "index-float",
            "A place that is no whole number",
            json.replace("\"index\":0", "\"index\":0.0"),
        ),
        ("index-negative", "A negative place", json.replace("\"index\":0", "\"index\":-1")),
        (
            "base64-short",
            "Base64 without padding",
            json.replace(&quote, quote.trim_end_matches('=')),
        ),
        ("base64-line", "Base64 with a line's end", json.replace(&quote, &format!("{quote}\\n"))),
        ("base64-url", "Base64 of the other alphabet", json.replacen('+', "-", 1)),
        ("trailing", "Something follows the object", format!("{json}x")),
        ("byte-order-mark", "A byte order mark before it", format!("\u{feff}{json}")),
        ("path-deep", "A path of 17 steps", String::from_utf8(deep.to_json()).unwrap()),
        ("empty", "Nothing", String::new()),
        ("empty-object", "An empty object", "{}".to_owned()),
        ("array", "An array", "[]".to_owned()),
        ("deep", "Brackets without end", "[".repeat(10_000)),
        ("white-space", "White space around it is allowed", format!("\n {json}\t\r\n")),
    ];
    let texts = texts.map(|(name, about, text)| Case {
        report: text.into_bytes(),
        ..case(format!("form-{name}"), about, &good())
    });
    let quote = Report { quote: vec![0; 32 * 1024 + 1], ..good() };
    let full = Report { quote: vec![0; 32 * 1024], ..good() };
    let not_text = Case {
        report: json.bytes().map(|byte| byte | 0x80).collect(),
        ..case("form-not-utf-8", "Bytes that are no UTF-8", &good())
    };
    let mut cases: Vec<_> = texts.into();
    cases.push(not_text);
    cases.push(case("form-quote-too-long", "A quote of 32 KiB and a byte", &quote));
    cases.push(case("form-quote-full", "A quote of 32 KiB, of zeros", &full));
    cases
}

fn keysets() -> Vec<Case> {
    let with = |name: &str, about: &str, change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::at(NOW);
        change(&mut parts);
        case(format!("keyset-{name}"), about, &parts.simulated(Simulator::new(), NOW))
    };
    let text = |name: &str, about: &str, from: &str, to: &str| {
        let report = good();
        let keyset = edited(&report.keyset, from, to);
        case(format!("keyset-{name}"), about, &Report { keyset, ..report })
    };
    let tls = |digest: String| {
        move |parts: &mut Parts| {
            parts.keyset.tls_spki_sha256 = Some(digest.clone());
        }
    };
    // The identity: it "signs" every message with R = identity and S = 0, by the lax equation.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut small = with("small-order", "An Ed25519 key of small order", &|parts| {
        parts.keyset.ed25519 = hex(&identity);
    });
    let mut report = Report::parse(&small.report).unwrap();
    report.possession = [0; 64];
    report.possession[0] = 1;
    small.report = report.to_json();
    vec![
        small,
        with("tls", "A TLS key is named: accepted", &tls("ab".repeat(32))),
        with("tls-short", "A TLS key that is no digest", &tls("ab".to_owned())),
        with("tls-upper-case", "A TLS key in capitals", &tls("AB".repeat(32))),
        with("tls-empty", "A TLS key that is empty", &tls(String::new())),
        with("lifetime", "Keys that live a second too long", &|parts| {
            parts.keyset.not_after = parts.keyset.not_before + 90_001;
        }),
        with("lifetime-most", "Keys that live as long as they may: accepted", &|parts| {
            parts.keyset.not_after = parts.keyset.not_before + 90_000;
        }),
        with("inside-out", "Keys that end before they begin", &|parts| {
            parts.keyset.not_after = parts.keyset.not_before - 1;
        }),
        with("for-ever", "Keys that end in 2^64 - 1", &|parts| parts.keyset.not_after = u64::MAX),
        with("x25519-short", "An exchange key of 31 bytes", &|parts| {
            parts.keyset.x25519 = "11".repeat(31);
        }),
        text("other-key", "Another exchange key", "11111111", "22222222"),
        text("not-json", "No JSON", "{", "["),
        text("unknown-field", "A field that nobody knows", "{", r#"{"more":1,"#),
        text("twice", "A field that stands twice", "{", r#"{"epoch":1,"#),
        text("float", "An epoch that is no whole number", "\"epoch\":0", "\"epoch\":0.0"),
        text("exponent", "An epoch in powers of ten", "\"epoch\":0", "\"epoch\":1e3"),
        text("negative", "A negative epoch", "\"epoch\":0", "\"epoch\":-1"),
        text("too-large", "An epoch of 2^64", "\"epoch\":0", "\"epoch\":18446744073709551616"),
        text("space", "White space that was not signed", "{", "{ "),
    ]
}

fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}
