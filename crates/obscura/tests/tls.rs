//! TLS that ends in the node: the real program over real sockets, its client, and those in between.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use attest::{Report, binding::KeysetBody};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use node::{Config, Node, Probes, TlsChoice};
use reqwest::{Version, tls::TlsInfo};
use serde_json::{Value, json};
use tests::{
    Exchange, http,
    tls::{Authority, Identity, Middle, spki_sha256},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use program::Program;

const MODEL: &str = "obscura/demo";
const KEY: &str = "a-bearer-key-that-nobody-else-may-see";
/// Of [`KEY`].
const KEY_SHA256: &str =
    "api_keys_sha256=fa71d8f5832bb922d739fec3dd82ffcc668313b687367025ede384920dc7c95f";
const SELF_SIGNED: [&str; 2] = ["--set", "tls=self-signed"];
/// Long for a test, and short for a person.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A node with a TLS key of its own, a bearer key to ask for, and the sandbox, that serves.
async fn started() -> Program {
    let words = ["--set", KEY_SHA256, "--set", "sandbox=on", "--allow-plaintext"];
    let node = Program::serve(&[&SELF_SIGNED[..], &words].concat(), Stdio::null());
    node.ready().await;
    node
}

/// The command line, as a client of this URL.
async fn client(words: &[&str], url: &str, roots: Option<&Path>) -> Output {
    let mut command = Command::new(program::path());
    command.args(words).arg(url).arg("--accept-simulated");
    if let Some(roots) = roots {
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
    }
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
    timeout(TIMEOUT, ended).await.expect("in time").unwrap()
}

async fn verify(url: &str, roots: Option<&Path>, more: &[&str]) -> (Option<i32>, Value) {
    let output = client(&[&["verify", "--json"][..], more].concat(), url, roots).await;
    let said = String::from_utf8_lossy(&output.stderr);
    let verdict: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let checks = verdict["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "tls.key").cloned();
    (output.status.code(), check.unwrap_or_default())
}

async fn generate(url: &str, roots: Option<&Path>, more: &[&str]) -> (bool, String, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.png");
    let words = ["generate", "a red circle", "--api-key", KEY, "--size", "64x64", "--steps", "1"];
    let output = [&words[..], more, &["--output", file.to_str().unwrap(), "--node"]].concat();
    let output = client(&output, url, roots).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said, fs::read(file).unwrap_or_default())
}

/// The keyset that the evidence binds.
async fn keyset(url: &str) -> KeysetBody {
    let answer = http().get(format!("{url}/v1/attestation")).send().await.unwrap();
    let report = Report::parse(&answer.bytes().await.unwrap()).unwrap();
    serde_json::from_slice(&report.keyset).unwrap()
}

/// SHA-256 of the key that a connection really ends at.
async fn live_key(url: &str) -> String {
    let asking = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).tls_info(true);
    let answer = asking.build().unwrap().get(format!("{url}/healthz")).send().await.unwrap();
    let info = answer.extensions().get::<TlsInfo>().unwrap();
    spki_sha256(info.peer_certificate().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_images_come_through_tls_that_ends_at_the_attested_key() {
    let node = started().await;
    let url = &node.url;
    assert!(url.starts_with("https://"), "{url}");
    let live = live_key(url).await;
    assert_eq!(keyset(url).await.tls_spki_sha256.as_deref(), Some(live.as_str()));
    let info = http().get(format!("{url}/info")).bearer_auth(KEY).send().await.unwrap();
    let info: Value = info.json().await.unwrap();
    assert_eq!(info["tls_spki_sha256"], live);

    // HTTP/1.1, by our own client.
    let (code, check) = verify(url, None, &["--require-attested-tls"]).await;
    assert_eq!((code, &check["outcome"]), (Some(0), &json!("PASS")), "{check}");
    assert!(check["detail"].as_str().unwrap().contains(&live), "{check}");
    let (made, said, image) = generate(url, None, &["--require-attested-tls"]).await;
    assert!(made && image.starts_with(b"\x89PNG"), "{said}");

    // HTTP/2, which ALPN chooses.
    let http2 = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).timeout(TIMEOUT);
    let http2 = http2.http2_prior_knowledge().build().unwrap();
    let clear = http2.post(format!("{url}/v1/images/generations")).bearer_auth(KEY);
    let body = json!({ "model": MODEL, "prompt": "a blue square", "size": "64x64", "steps": 1,
        "response_format": "url" });
    let clear: Value = clear.json(&body).send().await.unwrap().json().await.unwrap();
    let link = clear["data"][0]["url"].as_str().unwrap_or_else(|| panic!("{clear}"));
    assert!(link.starts_with(url), "by the name that the client used: {link}");
    assert_eq!(http2.get(link).send().await.unwrap().status(), 200);
    let lock = http2.post(format!("{url}/v1/nodes/lock")).bearer_auth(KEY);
    let lock = lock.json(&json!({ "model": MODEL })).send().await.unwrap();
    assert_eq!(lock.version(), Version::HTTP_2);
    let lock: Value = lock.json().await.unwrap();
    let key = BASE64_STANDARD.decode(lock["public_key"].as_str().unwrap()).unwrap();
    let mut exchange =
        Exchange::seal_to(url, &key.try_into().unwrap(), body.to_string().as_bytes(), http2);
    exchange.envelope.model_name = MODEL.to_owned();
    let answer = exchange.send_with_key(KEY).await.images();
    assert_eq!(answer.data.len(), 1);
    node.stop();
}

/// Such as a container without `ca-certificates`: what needs no authority works there.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_certificate_roots_asks_nodes_that_need_none() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none.pem");
    fs::write(&none, "").unwrap();
    let plain = Program::serve(&[], Stdio::null());
    plain.ready().await;
    assert_eq!(verify(&plain.url, Some(&none), &[]).await.0, Some(0));
    plain.stop();
    let own = started().await;
    let (code, check) = verify(&own.url, Some(&none), &["--require-attested-tls"]).await;
    assert_eq!((code, &check["outcome"]), (Some(0), &json!("PASS")), "{check}");
    own.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_the_middle_learns_nothing() {
    let node = started().await;
    let own = live_key(&node.url).await;
    let stranger = Identity::self_signed();

    // From the start: the evidence, which anybody may read, names another key.
    let middle = Middle::before(&node.url, &stranger, 0).await;
    let (code, check) = verify(&middle.url, None, &[]).await;
    assert_eq!((code, &check["outcome"]), (Some(10), &json!("FAIL")), "{check}");
    let (made, said, image) = generate(&middle.url, None, &[]).await;
    assert!(!made && image.is_empty(), "{said}");
    assert!(said.contains(&own) && said.contains(&stranger.spki_sha256), "{said}");
    let heard = middle.heard();
    assert!(heard.contains("GET /v1/attestation"), "it was asked for evidence: {heard}");
    assert!(!heard.contains(KEY) && !heard.contains("confidential"), "{heard}");

    // After evidence that came from the node itself: the next connection ends at the same key or nowhere.
    let middle = Middle::before(&node.url, &stranger, 1).await;
    let (made, said, image) = generate(&middle.url, None, &[]).await;
    assert!(!made && image.is_empty(), "{said}");
    assert!(said.contains("nothing was sent"), "{said}");
    assert!(said.contains(&own) && said.contains(&stranger.spki_sha256), "{said}");
    assert_eq!(middle.heard(), "");
}

/// A gateway that ends TLS with a certificate that the client's machine trusts: said, and refused only
/// where the client asks for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_a_certificate_is_named() {
    let node = started().await;
    let authority = Authority::new();
    let gateway = authority.vouches_for();
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    fs::write(&roots, &authority.certificate_pem).unwrap();
    let roots = Some(roots.as_path());

    let middle = Middle::before(&node.url, &gateway, 0).await;
    let (code, check) = verify(&middle.url, roots, &[]).await;
    assert_eq!((code, &check["outcome"]), (Some(0), &json!("INFO")), "{check}");
    assert!(check["detail"].as_str().unwrap().contains(&gateway.spki_sha256), "{check}");
    let (made, said, image) = generate(&middle.url, roots, &[]).await;
    assert!(made && image.starts_with(b"\x89PNG"), "{said}");
    assert!(middle.heard().contains(KEY), "a gateway is told the key");

    let strict = ["--require-attested-tls"];
    let middle = Middle::before(&node.url, &gateway, 0).await;
    assert_eq!(verify(&middle.url, roots, &strict).await.0, Some(10));
    let (made, said, _) = generate(&middle.url, roots, &strict).await;
    assert!(!made && said.contains("tls.key"), "{said}");
    assert!(!middle.heard().contains(KEY));
    // To a machine that does not trust its authority it is anybody.
    assert_eq!(verify(&middle.url, None, &[]).await.0, Some(10));
}

/// What strangers do to a listener with TLS: no honest client waits for them, no line tells of them.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_come_to_nothing_keep_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let bounds = ["max_connections=64", "max_connections_per_address=64", "header_timeout_secs=2"];
    let bounds = bounds.iter().flat_map(|bound| ["--set", *bound]);
    let words: Vec<&str> = SELF_SIGNED.into_iter().chain(bounds).collect();
    let node = Program::serve(&words, File::create(&log).unwrap());
    node.ready().await;
    let address = node.url.strip_prefix("https://").unwrap();
    // Beside those of requests that were answered.
    let lines = || {
        let log = fs::read_to_string(&log).unwrap();
        log.lines().filter(|line| !line.contains("answered")).count()
    };
    let before = lines();
    let healthy = async || {
        let asked = http().get(format!("{}/healthz", node.url)).send();
        timeout(TIMEOUT, asked).await.expect("in time").unwrap().status() == 200
    };

    // Other protocols: plain HTTP, nothing of any, a record longer than TLS has, and an alert.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for bytes in [
        &b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 4096],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0x15, 3, 3, 0, 2, 2, 40],
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = timeout(TIMEOUT, socket.read_to_end(&mut answer)).await.expect("it is let go");
        assert!(answer.is_empty() || answer[0] == 0x15, "nothing but an alert: {answer:?}");
    }
    assert!(healthy().await);

    // More handshakes than there are places, each begun and left.
    let mut held = Vec::new();
    for number in 0..200 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(&hello[..1 + number % hello.len()]).await;
        held.push(socket);
        if number % 66 == 65 {
            assert!(healthy().await, "beside {number} handshakes");
        }
    }
    // And one that drips: time is for the whole handshake, not for each byte.
    let mut dripping = TcpStream::connect(address).await.unwrap();
    let dripped = async {
        for byte in hello.iter().chain([0_u8; 500].iter()) {
            if dripping.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(15), dripped).await.expect("it is cut off");
    assert!(healthy().await);
    for socket in &mut held {
        let end = timeout(TIMEOUT, socket.read(&mut [0; 16])).await.expect("it is let go");
        assert!(matches!(end, Ok(0..=16) | Err(_)));
    }
    drop(held);
    assert_eq!(lines(), before, "{}", fs::read_to_string(&log).unwrap());
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_files_is_attested_too() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Authority::new().vouches_for();
    let (certificate, key) = files(directory.path(), &identity);
    let node = Program::start(with_files(&certificate, &key).stderr(Stdio::null()));
    node.ready().await;
    assert_eq!(live_key(&node.url).await, identity.spki_sha256);
    assert_eq!(keyset(&node.url).await.tls_spki_sha256, Some(identity.spki_sha256));
    assert_eq!(verify(&node.url, None, &["--require-attested-tls"]).await.0, Some(0));
    node.stop();
}

/// Whoever probes is beside the node, and speaks no TLS.
#[tokio::test(flavor = "multi_thread")]
async fn the_listener_for_probes_stays_plain() {
    let config = Config { tls: TlsChoice::SelfSigned, ..Config::default() };
    let node = Node::new(config).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let _probes = Probes::start(listener, node).unwrap();
    assert_eq!(http().get(url).send().await.unwrap().status(), 200);
}

#[test]
fn files_that_are_none_are_named_and_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = files(directory.path(), &Identity::self_signed());
    let other = path("other.pem");
    fs::write(&other, Identity::self_signed().key_pem).unwrap();
    let secret = "what-only-this-file-holds";
    let text = path("text.pem");
    fs::write(&text, format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"))
        .unwrap();
    let long = path("long.pem");
    fs::write(&long, vec![b'x'; 1 << 20]).unwrap();
    let pipe = path("pipe");
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (missing, folder) = (path("missing.pem"), path(""));

    for (certificate, key, file, says) in [
        (&certificate, &other, &other, "is not that of the certificate"),
        (&certificate, &text, &text, "does not hold a private key"),
        (&certificate, &certificate, &certificate, "does not hold a private key"),
        (&text, &key, &text, "does not hold certificates"),
        (&key, &key, &key, "does not hold certificates"),
        (&missing, &key, &missing, "(`tls_certificate`) cannot be read"),
        (&certificate, &missing, &missing, "(`tls_key`) cannot be read"),
        (&certificate, &pipe, &pipe, "(`tls_key`) is no regular file"),
        (&folder, &key, &folder, "(`tls_certificate`) is no regular file"),
        (&certificate, &long, &long, "is longer than 16384 bytes"),
        (&long, &key, &long, "is longer than 65536 bytes"),
    ] {
        let output = with_files(certificate, key).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says) && said.contains(file.as_str()), "{file}, {says}: {said}");
        assert!(!said.contains(secret), "{said}");
    }
    let output = Program::command(&["--set", "tls=files"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("needs `tls_certificate` and `tls_key`"), "{said}");
}

/// Writes a certificate and its key, and tells where.
fn files(directory: &Path, identity: &Identity) -> (String, String) {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (write("certificate.pem", &identity.certificate_pem), write("key.pem", &identity.key_pem))
}

/// A node with this certificate and key.
fn with_files(certificate: &str, key: &str) -> Command {
    let files = [format!("tls_certificate={certificate}"), format!("tls_key={key}")];
    let mut command = Program::command(&["--set", "tls=files"]);
    command.args(files.iter().flat_map(|file| ["--set", file]));
    command
}
