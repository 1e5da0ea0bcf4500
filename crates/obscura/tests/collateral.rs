//! `obscura collateral` against a stand-in for Intel's and AMD's services, with published quotes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/attestation").join(path)
}

fn obscura(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_obscura")).args(["collateral"]).args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What is asked for, and the head and body of the answer.
type Service = fn(&str) -> Option<(String, Vec<u8>)>;

/// Gives its URL, and the paths that were asked for.
fn serving(service: Service) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let paths = asked.clone();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let path = first.split(' ').nth(1).unwrap().to_owned();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let (status, head, body) = match service(&path) {
                Some((head, body)) => ("200 OK", head, body),
                None => ("404 Not Found", String::new(), Vec::new()),
            };
            paths.lock().unwrap().push(path);
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n"
            );
            let _ = socket.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    (url, asked)
}

fn published() -> Value {
    serde_json::from_slice(&fs::read(fixture("tdx/v4.collateral.json")).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The published documents as a PCCS gives them.
fn pccs(path: &str) -> Option<(String, Vec<u8>)> {
    let published = published();
    let text = |key: &str| published[key].as_str().unwrap();
    let head = |name: &str, key: &str| {
        let encoded = text(key).replace('\n', "%0A").replace(' ', "%20").replace('+', "%2B");
        format!("{name}: {encoded}\r\n")
    };
    let envelope = |name: &str, object: &str, signature: &str| {
        format!("{{\"{name}\":{},\"signature\":\"{}\"}}", text(object), text(signature))
            .into_bytes()
    };
    Some(match path.split('?').next()? {
        "/sgx/certification/v4/pckcrl" => {
            (head("SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain"), unhex(text("pck_crl")))
        }
        "/sgx/certification/v4/rootcacrl" => (String::new(), text("root_ca_crl").into()),
        "/tdx/certification/v4/tcb" => (
            head("TCB-Info-Issuer-Chain", "tcb_info_issuer_chain"),
            envelope("tcbInfo", "tcb_info", "tcb_info_signature"),
        ),
        "/tdx/certification/v4/qe/identity" => (
            head("SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain"),
            envelope("enclaveIdentity", "qe_identity", "qe_identity_signature"),
        ),
        _ => return None,
    })
}

#[test]
fn tdx_collateral_is_what_was_published() {
    let (url, asked) = serving(pccs);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collateral.json");
    fs::write(&file, "older").unwrap();
    let quote = fixture("tdx/v4.quote");
    let words = ["fetch", "--tee", "tdx", "--pccs", &url, "--quote", quote.to_str().unwrap()];
    let output = obscura(&[&words[..], &["--output", file.to_str().unwrap()]].concat());
    // The documents are of 2025, and said to be overdue; that is no failure to fetch them.
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("OVERDUE"));
    let made: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (key, value) in published().as_object().unwrap() {
        if key != "pck_certificate_chain" {
            assert_eq!(&made[key], value, "{key}");
        }
    }
    let asked = asked.lock().unwrap().join("\n");
    assert!(asked.contains("pckcrl?ca=platform&encoding=der"), "{asked}");
    assert!(asked.contains("/tdx/certification/v4/tcb?fmspc="), "{asked}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let shown = obscura(&["show", file.to_str().unwrap(), "--json"]);
    assert_eq!(shown.status.code(), Some(10));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["parts"].as_array().unwrap().len(), 4);
    assert_eq!(shown["overdue"], true);
}

/// A service that is down, or answers a page, leaves the file that is there.
#[test]
fn what_is_no_collateral_replaces_nothing() {
    fn page(_: &str) -> Option<(String, Vec<u8>)> {
        let chain = "SGX-PCK-CRL-Issuer-Chain: x\r\nTCB-Info-Issuer-Chain: x\r\n";
        let chain = format!("{chain}SGX-Enclave-Identity-Issuer-Chain: x\r\n");
        Some((chain, b"<h1>ACCEPTED</h1>".to_vec()))
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collateral.json");
    fs::write(&file, "older").unwrap();
    let quote = fixture("tdx/v4.quote");
    for (service, part) in [(page as Service, "is not what it should be"), (|_| None, "status 404")]
    {
        let (url, _) = serving(service);
        let words = ["fetch", "--tee", "tdx", "--pccs", &url, "--quote", quote.to_str().unwrap()];
        let output = obscura(&[&words[..], &["--output", file.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(part), "{}", said(&output));
        assert_eq!(fs::read(&file).unwrap(), b"older");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// A VCEK of AMD's, for a chip of the generation that only the command line says: the report is of version 2.
#[test]
fn a_chips_certificate_is_asked_for_by_its_report() {
    fn kds(path: &str) -> Option<(String, Vec<u8>)> {
        match path.strip_prefix("/vcek/v1/Milan/")? {
            // No list of AMD's lies beside the certificate: Intel's has the same form.
            "crl" => Some((String::new(), unhex(published()["pck_crl"].as_str()?))),
            _ => Some((String::new(), fs::read(fixture("snp/milan.vcek.der")).ok()?)),
        }
    }
    let (url, asked) = serving(kds);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("collateral.json");
    let report = fixture("snp/milan-v2.report");
    let words = ["fetch", "--tee", "snp", "--kds", &url, "--quote", report.to_str().unwrap()];
    let words = [&words[..], &["--output", file.to_str().unwrap()]].concat();
    let unsaid = obscura(&words);
    assert_eq!(unsaid.status.code(), Some(1));
    assert!(said(&unsaid).contains("--generation milan, genoa or turin"), "{}", said(&unsaid));
    let output = obscura(&[&words[..], &["--generation", "milan"]].concat());
    assert!(file.is_file(), "{}", said(&output));
    let asked = asked.lock().unwrap();
    let (id, levels) = asked[0].split_once('?').unwrap();
    assert_eq!(id.len(), "/vcek/v1/Milan/".len() + 128);
    for level in ["blSPL=", "teeSPL=", "snpSPL=", "ucodeSPL="] {
        assert!(levels.contains(level), "{levels}");
    }
    let shown = String::from_utf8(obscura(&["show", file.to_str().unwrap()]).stdout).unwrap();
    assert!(shown.contains("VCEK") && shown.contains("CRL"), "{shown}");
}

#[test]
fn another_thing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.json");
    for (text, part) in [
        ("{\"tcbInfo\": {}, \"signature\": \"00\"}", "one answer of Intel's PCS"),
        ("{}", "not the JSON object it should be"),
        ("", "not the JSON object it should be"),
    ] {
        fs::write(&file, text).unwrap();
        let output = obscura(&["show", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(part), "{}", said(&output));
    }
    let output = obscura(&["fetch", "--quote", file.to_str().unwrap()]);
    assert!(said(&output).contains("--tee tdx or --tee snp"), "{}", said(&output));
}
