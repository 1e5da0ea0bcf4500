//! What the program writes, byte by byte, whatever a peer or a file says; and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use attest::{
    Platform, Report,
    binding::{Bound, Keyset, KeysetBody, Nonce},
    event_log::EventLog,
    nonces::NoncePath,
    simulator::Simulator,
};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Clears a terminal, goes to its first line and writes a verdict; then the same without ANSI, in words
/// whose order a terminal turns round, hidden by characters of no width, and with C1's own escape.
const HOSTILE: &str = "\u{1b}[2J\u{1b}[H\u{1b}]0;title\u{7}\r\nACCEPTED: Intel TDX\n\nACCEPTED\u{8}\u{7f}\
                       \u{202e}DETPECCA\u{202c}\u{200b}\u{feff}\u{2066}\u{9b}2J\u{85}\u{2028}ACCEPTED";

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_obscura"));
    let output = command.args(["models", "list"]).stdout(writer).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_refusal_cannot_write_a_verdict() {
    let body = json!({ "error": { "message": HOSTILE, "type": "server_error" } }).to_string();
    let url = serving(move |_| answer("400 Bad Request", "application/json", body.as_bytes()));
    let prompt = ["generate", "x", "--node", &url];
    for words in [&["verify", &url][..], &["verify", &url, "--json"], &prompt] {
        let output = obscura(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let said = clean(&output.stderr);
        assert!(said.starts_with("error: ") && said.contains("the node refused (400)"), "{said}");
        assert!(said.contains("\\u{1b}[2J") && said.contains("\\u{202e}DETPECCA"), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

/// Nor after evidence that is accepted: a node that is attested may still be told what to say.
#[test]
fn a_refusal_after_accepted_evidence_cannot_either() {
    let body = json!({ "error": { "message": HOSTILE, "type": "server_error" } }).to_string();
    let refusal = answer("400 Bad Request", "application/json", body.as_bytes());
    let url = serving(move |head| accepted(head).unwrap_or_else(|| refusal.clone()));
    let output =
        obscura(&["generate", "x", "--node", &url, "--model-id", "m", "--accept-simulated"]);
    assert_eq!(output.status.code(), Some(1));
    let said = clean(&output.stderr);
    assert!(said.contains("the node refused (400): \"\\u{1b}[2J"), "{said}");
    assert!(said.lines().all(|line| !line.starts_with("ACCEPTED")), "{said}");
}

#[test]
fn neither_can_a_type_a_status_or_a_page() {
    for head in [
        "200 OK\r\nContent-Type: text/html; x=\u{9b}2J\u{202e}ACCEPTED".to_owned(),
        "200 OK\r\nContent-Type: application/json\r\nX-Key-Id: \u{9b}ACCEPTED".to_owned(),
        "599 \u{9b}2JACCEPTED\r\nContent-Type: text/html".to_owned(),
    ] {
        let url = serving(move |_| {
            let length = HOSTILE.len();
            format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{HOSTILE}").into_bytes()
        });
        let output = obscura(&["verify", &url]);
        assert!(matches!(output.status.code(), Some(1 | 30)), "{:?}", output.status);
        let said = clean(&output.stdout) + &clean(&output.stderr);
        assert!(said.lines().all(|line| !line.starts_with("ACCEPTED")), "{said}");
    }
}

/// Every text of a report that a check may quote, or a library's error.
#[test]
fn neither_can_a_report() {
    type Change = fn(&mut Report);
    let changes: [Change; 8] = [
        |_| {},
        |report| report.keyset = br#"{"x25519":"\u001b[2J\nACCEPTED"}"#.to_vec(),
        |report| swap(&mut report.collateral, "UpToDate", "\\u001b[2J\\nACCEPTED"),
        |report| swap(&mut report.collateral, "issueDate", "\\u001b[2J\\nACCEPTED"),
        |report| swap(&mut report.collateral, "root_ca_crl", "\\u001b[2J\\nACCEPTED"),
        |report| swap(&mut report.event_log, "model-manifest", "\\u001b[2J\\nACCEPTED"),
        |report| report.model_manifest = HOSTILE.as_bytes().to_vec(),
        |report| report.device_evidence = HOSTILE.as_bytes().to_vec(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report.json");
        let mut report = hostile_report(HOSTILE);
        change(&mut report);
        std::fs::write(&file, report.to_json()).unwrap();
        let file = file.to_str().unwrap();
        let nonce = report.nonce.to_string();
        for form in [None, Some("--json")] {
            let words = ["verify", "--report", file, "--nonce", &nonce, "--accept-simulated"];
            let output = obscura(&[&words[..], form.as_slice()].concat());
            let said = clean(&output.stdout);
            if number == 0 {
                assert_eq!(output.status.code(), Some(0), "{said}");
                assert!(said.contains("u{1b}[2J"), "the key's name is shown, escaped: {said}");
            } else {
                assert_eq!(output.status.code(), Some(10), "change {number}: {said}");
                assert!(said.lines().all(|line| !line.starts_with("ACCEPTED")), "{said}");
            }
        }
    }
    let unread = ["{\"format\":\"\\u001b[2J\\nACCEPTED\"", "\u{1b}[2J\nACCEPTED"];
    for text in unread {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report.json");
        std::fs::write(&file, text).unwrap();
        let output = obscura(&["verify", "--report", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(30));
        assert!(clean(&output.stdout).contains("MALFORMED"));
    }
}

#[test]
fn neither_can_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("obscura.toml");
    let path = file.to_str().unwrap();
    for text in [
        format!("# {HOSTILE}\nplatforms = 7"),
        "platforms = [\"\\u001b[2J\\nACCEPTED\"]".to_owned(),
        "\"\\u001b[2J\\nACCEPTED\" = 1".to_owned(),
        "[[files]]\npath = \"\\u001b[2J\\nACCEPTED\"".to_owned(),
    ] {
        std::fs::write(&file, text).unwrap();
        for words in [
            &["verify", "http://127.0.0.1:9", "--policy", path][..],
            &["models", "check", directory.path().to_str().unwrap()],
            &["config", "print", "--config", path],
        ] {
            let output = obscura(words);
            assert_eq!(output.status.code(), Some(1), "{words:?}");
            let said = clean(&output.stderr);
            let lines = said.lines().skip(1);
            assert!(lines.clone().all(|line| line.starts_with("    ")), "{words:?}: {said}");
        }
    }
}

/// An audit: judged as of a time that is told, and the verdict says so.
#[test]
fn a_report_is_judged_at_the_time_that_is_told() {
    let report = hostile_report("a key");
    let nonce = report.nonce.to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    std::fs::write(&file, report.to_json()).unwrap();
    let file = file.to_str().unwrap();
    let words = ["verify", "--report", file, "--nonce", &nonce, "--accept-simulated"];

    let now = obscura(&words);
    assert_eq!(now.status.code(), Some(0));
    assert!(clean(&now.stdout).contains("by this machine's clock"));

    let (before, within) = ((now_secs() - 7200).to_string(), now_secs().to_string());
    for (at, code) in [(within.as_str(), 0), (&before, 10), ("2100-01-01T00:00:00Z", 10)] {
        let told = obscura(&[&words[..], &["--at", at]].concat());
        let said = clean(&told.stdout);
        assert_eq!(told.status.code(), Some(code), "{at}: {said}");
        assert!(said.contains("as --at says"), "{said}");
        assert!(said.contains("judged at 2"), "{said}");
        let told = obscura(&[&words[..], &["--json", "--at", at]].concat());
        let verdict: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(verdict["clock"], "told");
    }
    let odd = obscura(&[&words[..], &["--at", "yesterday"]].concat());
    assert_eq!(odd.status.code(), Some(2));
    // Whoever asks a node asks it now.
    let asked = obscura(&["verify", "http://127.0.0.1:9", "--at", "0"]);
    assert_eq!(asked.status.code(), Some(2));
}

#[test]
fn a_peer_that_hangs_up_is_an_error_in_words() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":";
    for bytes in [&b""[..], b"HTTP/1.1 200 OK", cut, chunked, b"ACCEPTED\n"] {
        let url = serving(move |_| bytes.to_vec());
        for words in [&["verify", &url][..], &["generate", "x", "--node", &url]] {
            let output = obscura(words);
            assert_eq!(output.status.code(), Some(1), "{words:?} {bytes:?}");
            assert!(clean(&output.stderr).contains("the node cannot be reached"));
        }
        // Later, when the sealed request is on its way or its answer is.
        let url = serving(move |head| accepted(head).unwrap_or_else(|| bytes.to_vec()));
        let output =
            obscura(&["generate", "x", "--node", &url, "--model-id", "m", "--accept-simulated"]);
        assert_eq!(output.status.code(), Some(1), "{bytes:?}");
        assert!(clean(&output.stderr).contains("error: "));
    }
}

/// A stream of nothing but line ends took minutes of a processor; now it ends at a bound of lines.
#[test]
fn a_flood_of_line_ends_is_refused() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let flood = [&head[..], &[b'\n'; 1 << 22]].concat();
    let url = serving(move |head| accepted(head).unwrap_or_else(|| flood.clone()));
    let output =
        obscura(&["generate", "x", "--node", &url, "--model-id", "m", "--accept-simulated"]);
    assert_eq!(output.status.code(), Some(1));
    let said = clean(&output.stderr);
    assert!(said.contains("more than 100000 lines"), "{said}");
}

#[test]
fn an_answer_of_another_type_is_no_answer() {
    let page = answer("200 OK", "text/html", b"<h1>ACCEPTED</h1>");
    let url = serving(move |head| accepted(head).unwrap_or_else(|| page.clone()));
    let output =
        obscura(&["generate", "x", "--node", &url, "--model-id", "m", "--accept-simulated"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(clean(&output.stderr).contains("is of the type \"text/html\""));
}

#[test]
fn an_api_key_stays_off_ways_that_others_can_read_and_is_not_passed_on() {
    let words = ["generate", "x", "--node", "http://192.0.2.1:1", "--api-key", "sesame"];
    let output = obscura(&words);
    assert_eq!(output.status.code(), Some(1));
    let said = clean(&output.stderr);
    assert!(said.contains("--insecure-http") && !said.contains("sesame"), "{said}");

    // A node that sends its askers elsewhere: nobody goes.
    let asked = Arc::new(Mutex::new(String::new()));
    let elsewhere = {
        let asked = asked.clone();
        serving(move |head| {
            asked.lock().unwrap().push_str(head);
            Vec::new()
        })
    };
    let url = serving(move |_| {
        format!("HTTP/1.1 307 Elsewhere\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n")
            .into()
    });
    let output = obscura(&["generate", "x", "--node", &url, "--api-key", "sesame"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(*asked.lock().unwrap(), "");

    // Nor is this machine's node asked through a proxy that the environment names.
    let proxy = {
        let asked = asked.clone();
        serving(move |head| {
            asked.lock().unwrap().push_str(head);
            Vec::new()
        })
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_obscura"));
    command.args(["generate", "x", "--node", &url, "--api-key", "sesame"]);
    command.env("HTTP_PROXY", &proxy).env("http_proxy", &proxy).env("ALL_PROXY", &proxy);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    assert_eq!(*asked.lock().unwrap(), "");
}

fn obscura(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_obscura")).args(words).output().unwrap()
}

/// What was written, of which a terminal obeys nothing but line ends.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let obeyed = text.chars().find(|character| {
        let is_format = matches!(character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}');
        is_format || (character.is_control() && *character != '\n')
    });
    assert_eq!(obeyed, None, "{text:?}");
    text
}

/// A server that says `reply` to each request's head, and hangs up. It ends with the test's process.
fn serving(reply: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let reply = reply.clone();
            thread::spawn(move || converse(socket, &*reply));
        }
    });
    url
}

fn converse(mut socket: TcpStream, reply: &dyn Fn(&str) -> Vec<u8>) {
    let mut head = String::new();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    while !head.ends_with("\r\n\r\n") {
        match reader.read_line(&mut head) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let _ = socket.write_all(&reply(&head));
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // What is still on its way is read, or the reply would be lost with it.
    let _ = reader.read_to_end(&mut Vec::new());
}

fn answer(status: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Evidence that the rules for simulated nodes accept, for the nonce that a request's head names.
fn accepted(head: &str) -> Option<Vec<u8>> {
    let (_, query) = head.split_once("/v1/attestation?nonce=")?;
    let nonce = query.split_whitespace().next()?.parse().ok()?;
    Some(answer("200 OK", "application/json", &report("a key", nonce).to_json()))
}

/// A report that the rules for simulated nodes accept, whose names say `words`.
fn hostile_report(words: &str) -> Report {
    report(words, Nonce::new([7; 32]).unwrap())
}

fn report(words: &str, nonce: Nonce) -> Report {
    let digest = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signer = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let now = now_secs();
    let keyset = Keyset::new(&KeysetBody {
        x25519: "66".repeat(32),
        ed25519: hex(signer.verifying_key().as_bytes()),
        key_id: words.to_owned(),
        epoch: 0,
        not_before: now - 60,
        not_after: now + 3600,
        build_id: words.to_owned(),
        tls_spki_sha256: None,
        configuration_sha256: None,
        c2pa_spki_sha256: None,
    });
    let model_manifest = b"00  7  weights\n".to_vec();
    let nonce_path = NoncePath::alone([9; 32]);
    let mut guest = Simulator::new();
    let mut log = EventLog::default();
    guest.extend(&log.push(words, words.as_bytes()));
    guest.extend(&log.push_model(digest(&model_manifest)));
    let bound = Bound {
        nonce_root: nonce_path.root(nonce).unwrap(),
        keyset: keyset.digest(),
        model_manifest: digest(&model_manifest),
        device_evidence: b"",
    };
    let quoted = guest.quote(&bound.report_data(), now);
    let signed =
        keyset.prove_possession(|message| ed25519_dalek::Signer::sign(&signer, message).to_bytes());
    Report {
        platform: Platform::Simulated,
        nonce,
        nonce_path,
        keyset: signed.keyset.as_bytes().to_vec(),
        possession: signed.possession,
        model_manifest,
        device_evidence: Vec::new(),
        event_log: log.to_json(),
        quote: quoted.quote,
        collateral: quoted.collateral,
    }
}

fn swap(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{from}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
