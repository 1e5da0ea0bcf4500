//! A client that meets nodes which are not what they say.

#[path = "attestation/apart.rs"]
mod apart;

use std::time::{Duration, Instant};

use attest::{
    Policy, Report,
    binding::{Bound, Nonce},
    evidence::Sources,
    nonces::NoncePath,
    simulator::{Flaw, Simulator},
    verify::{Outcome, Verdict, appraise},
};
use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{Response, header},
    routing::get,
};
use client::{ApiKey, Client, ClientError, fresh_nonce};
use node::{Config, Node, Service};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Exchange, MODEL, OneColour, TestNode, demo_policy, http, loaded_model};
use tokio::net::TcpListener;

/// Longer than a client may take to say no.
const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_report_has_what_a_verifier_needs() {
    let node = TestNode::start(OneColour::instant()).await;
    let (status, body) = fetch(&node, &format!("?nonce={}", "ab".repeat(32))).await;
    assert_eq!(status, 200);
    let report = Report::parse(body.as_bytes()).unwrap();
    assert_eq!(report.model_manifest, b"one colour\n");
    let keyset: Value = serde_json::from_slice(&report.keyset).unwrap();
    assert_eq!(keyset["key_id"], node.key_id);
    // The very keys that the node serves with.
    let lock = Client::new(&node.url, ApiKey::none()).unwrap().lock(MODEL).await.unwrap();
    assert_eq!(keyset["x25519"], hex(&lock.encryption_key));

    let (status, body) = fetch(&node, "").await;
    assert_eq!((status, Report::parse(body.as_bytes()).unwrap().nonce), (200, Nonce::ABSENT));
    for nonce in ["", "00", &"AB".repeat(32), &"0".repeat(64), &"ab".repeat(33)] {
        let (status, body) = fetch(&node, &format!("?nonce={nonce}")).await;
        assert_eq!(status, 400, "{nonce}");
        assert!(body.contains("invalid_nonce"), "{body}");
    }
}

/// An operator who turns clear text on cannot hide it from those who ask.
#[tokio::test]
async fn a_keyset_names_the_configuration_that_the_node_tells() {
    for allow_plaintext in [false, true] {
        let config = Config { allow_plaintext, ..Config::default() };
        let node = TestNode::with_config(OneColour::instant(), config).await;
        let (status, text) = fetch(&node, "/configuration").await;
        assert_eq!(status, 200);
        let line = format!("allow_plaintext = {allow_plaintext}");
        assert!(text.starts_with("obscura/configuration/v1\n") && text.contains(&line), "{text}");
        let (_, body) = fetch(&node, "").await;
        let report = Report::parse(body.as_bytes()).unwrap();
        let keyset: Value = serde_json::from_slice(&report.keyset).unwrap();
        assert_eq!(keyset["configuration_sha256"], hex(&Sha256::digest(&text)));
        // Verifiers' clocks may be minutes behind.
        assert!(keyset["not_before"].as_u64().unwrap() + 240 < now_secs());
    }
}

#[tokio::test]
async fn production_refuses_the_demo_and_sends_it_nothing() {
    let generator = OneColour::instant();
    let drawn = generator.finished.clone();
    let node = TestNode::start(generator).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let refused = client.attest(&Policy::production()).await.unwrap_err();
    let ClientError::Untrusted { appraisal, .. } = &refused else { panic!("{refused}") };
    assert_eq!(appraisal.verdict, Verdict::Rejected);
    assert!(appraisal.ids(Outcome::Fail).any(|id| id == "platform.allowed"), "{refused}");
    assert!(refused.to_string().contains("SIMULATED - NOT A TEE"));
    assert_eq!(drawn.load(std::sync::atomic::Ordering::SeqCst), 0);

    let accepted = client.attest(&demo_policy()).await.unwrap();
    assert_eq!(accepted.appraisal().verdict, Verdict::Accepted);
}

#[tokio::test]
async fn a_rotated_keyset_is_attested_and_the_one_before_has_its_grace() {
    let config = Config { replay_capacity: 4, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let before = keyset(&client).await;
    for _ in 0..3 {
        Exchange::of(&node.url, json!({"prompt": "x"})).await.send().await.images();
    }
    let renewed = async {
        while keyset(&client).await["x25519"] == before["x25519"] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, renewed).await.expect("fresh keys");
    let after = keyset(&client).await;
    assert_eq!((&before["epoch"], &after["epoch"]), (&json!(0), &json!(1)));
    assert_ne!(before["ed25519"], after["ed25519"]);
}

/// How a node may cheat.
#[derive(Clone)]
enum Cheat {
    /// Answers an old report, and puts the new nonce where the nonce is named.
    Replay(Box<Report>),
    /// Puts its own X25519 key into somebody else's keyset.
    SwapKey(Box<Report>),
    /// Has no real TEE.
    Flaw(Flaw),
    /// Sends these headers and this much of nothing.
    Flood { encoding: Option<&'static str>, length: Option<u64>, chunks: usize },
    /// Sends nothing, for ever.
    Silence,
}

#[tokio::test]
async fn a_cheat_gets_nothing() {
    let honest = TestNode::start(OneColour::instant()).await;
    let client = Client::new(&honest.url, ApiKey::none()).unwrap();
    let old = client.evidence(fresh_nonce().unwrap()).await.unwrap().report;
    let old = Box::new(Report::parse(&old).unwrap());

    for (cheat, check) in [
        (Cheat::Replay(old.clone()), "binding.report_data"),
        (Cheat::SwapKey(old.clone()), "keyset.possession"),
        (Cheat::Flaw(Flaw::Debug), "tdx.attributes"),
        (Cheat::Flaw(Flaw::OutOfDate), "tdx.tcb_status"),
        (Cheat::Flaw(Flaw::Revoked), "simulated.quote"),
        (Cheat::Flaw(Flaw::OtherImage), "tdx.release"),
    ] {
        let client = Client::new(&cheating(cheat).await, ApiKey::none()).unwrap();
        let refused = client.attest(&demo_policy()).await.unwrap_err();
        let ClientError::Untrusted { appraisal, .. } = &refused else { panic!("{refused}") };
        assert!(appraisal.ids(Outcome::Fail).any(|id| id == check), "{check}: {refused}");
    }
}

#[tokio::test]
async fn a_flood_is_not_read_to_its_end() {
    let gigabyte = 1 << 30;
    for cheat in [
        // An endless body.
        Cheat::Flood { encoding: None, length: None, chunks: usize::MAX },
        // A length of a gigabyte, and a beginning.
        Cheat::Flood { encoding: None, length: Some(gigabyte), chunks: 64 },
        // What would be a bomb to whoever unpacks it.
        Cheat::Flood { encoding: Some("gzip"), length: None, chunks: 16 },
    ] {
        let client = Client::new(&cheating(cheat).await, ApiKey::none()).unwrap();
        let started = Instant::now();
        assert!(client.attest(&demo_policy()).await.is_err());
        assert!(started.elapsed() < TIMEOUT);
    }
    // The length of a section is checked before it is decoded.
    let long = json!({"format": "obscura/attestation/v2", "platform": "tdx", "nonce": null,
        "binding": "obscura/report-data/v2",
        "nonce_path": {"blind": "00".repeat(32), "index": 0, "siblings": []},
        "keyset": "A".repeat(1 << 20), "possession": "", "model_manifest": "", "quote": "",
        "device_evidence": "", "event_log": "", "collateral": ""});
    let challenge = attest::verify::Challenge { nonce: Nonce::ABSENT, now_secs: 0 };
    let appraisal = appraise(long.to_string().as_bytes(), &demo_policy(), &challenge);
    assert_eq!(appraisal.verdict, Verdict::Malformed);
}

#[tokio::test]
async fn silence_is_given_up() {
    let client = Client::new(&cheating(Cheat::Silence).await, ApiKey::none()).unwrap();
    let policy = demo_policy();
    // The client's own bound is for quotes that wait behind others; here it is enough that waiting
    // can be given up at any time.
    let attest = client.attest(&policy);
    assert!(tokio::time::timeout(Duration::from_millis(300), attest).await.is_err());
}

#[tokio::test]
async fn fifty_verifiers_at_once() {
    let node = TestNode::start(OneColour::instant()).await;
    let verifiers: Vec<_> = (0..50)
        .map(|_| {
            let client = Client::new(&node.url, ApiKey::none()).unwrap();
            tokio::spawn(async move { client.attest(&demo_policy()).await.is_ok() })
        })
        .collect();
    for verifier in verifiers {
        assert!(verifier.await.unwrap());
    }
}

/// Verifiers wait for the next quote together; only a pace that is slower than anyone waits refuses.
#[tokio::test]
async fn more_verifiers_than_quotes_are_refused_where_none_comes_in_time() {
    let config = Config { quotes_per_minute: 2, quote_timeout_secs: 1, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    for status in [None, None, Some(429)] {
        match (client.attest(&demo_policy()).await, status) {
            (Ok(_), None) => {}
            (Err(ClientError::Refused(refusal)), Some(expected)) => {
                assert_eq!(refusal.status, expected);
            }
            (answer, _) => panic!("{:?}", answer.err()),
        }
    }
}

/// A node that cannot measure its model does not start.
#[tokio::test]
async fn a_node_without_evidence_does_not_serve() {
    struct NoRegister;
    impl attest::evidence::Tee for NoRegister {
        fn platform(&self) -> attest::Platform {
            attest::Platform::Tdx
        }
        fn measure_model(
            &mut self,
            _: [u8; 32],
        ) -> Result<Option<attest::event_log::EventLog>, attest::evidence::EvidenceError> {
            Err(attest::evidence::EvidenceError::Rtmr3Unknown)
        }
        fn quote(
            &mut self,
            _: &[u8; 64],
            _: u64,
        ) -> Result<attest::evidence::Quoted, attest::evidence::EvidenceError> {
            unreachable!("nothing is ever asked of it")
        }
    }
    let node = Node::new(Config::default()).unwrap();
    let sources = Sources { tee: Box::new(NoRegister), ..Sources::simulated() };
    assert!(Service::start(loaded_model(OneColour::instant()), sources, &node).is_err());
}

/// A server that answers evidence, and cheats.
async fn cheating(cheat: Cheat) -> String {
    #[derive(serde::Deserialize)]
    struct Question {
        nonce: String,
    }
    let answer = |State(cheat): State<Cheat>, Query(question): Query<Question>| async move {
        let nonce: Nonce = question.nonce.parse().unwrap();
        let report = match cheat {
            Cheat::Replay(old) => Report { nonce, ..*old },
            Cheat::SwapKey(old) => swapped(*old, nonce),
            Cheat::Flaw(flaw) => flawed(flaw, nonce),
            Cheat::Flood { encoding, length, chunks } => return flood(encoding, length, chunks),
            Cheat::Silence => return std::future::pending().await,
        };
        Response::new(Body::from(report.to_json()))
    };
    let app = Router::new().route("/v1/attestation", get(answer)).with_state(cheat);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// A fresh quote over a keyset with another X25519 key, whose Ed25519 key the cheat does not hold.
fn swapped(mut report: Report, nonce: Nonce) -> Report {
    let mut keyset: Value = serde_json::from_slice(&report.keyset).unwrap();
    keyset["x25519"] = json!("66".repeat(32));
    report.keyset = serde_json::to_vec(&keyset).unwrap();
    quoted(report, Simulator::new(), nonce)
}

/// A report that is good but for its platform.
fn flawed(flaw: Flaw, nonce: Nonce) -> Report {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[5; 32]);
    let now = now_secs();
    let keyset = attest::binding::Keyset::new(&attest::binding::KeysetBody {
        x25519: "66".repeat(32),
        ed25519: hex(signer.verifying_key().as_bytes()),
        key_id: String::new(),
        epoch: 0,
        not_before: now,
        not_after: now + 60,
        build_id: String::new(),
        tls_spki_sha256: None,
        configuration_sha256: None,
        c2pa_spki_sha256: None,
    });
    let signed =
        keyset.prove_possession(|message| ed25519_dalek::Signer::sign(&signer, message).to_bytes());
    let report = Report {
        platform: attest::Platform::Simulated,
        nonce,
        nonce_path: NoncePath::alone([0; 32]),
        keyset: signed.keyset.as_bytes().to_vec(),
        possession: signed.possession,
        model_manifest: b"model".to_vec(),
        device_evidence: Vec::new(),
        event_log: Vec::new(),
        quote: Vec::new(),
        collateral: Vec::new(),
    };
    quoted(report, Simulator::with(flaw), nonce)
}

fn quoted(report: Report, mut guest: Simulator, nonce: Nonce) -> Report {
    let digest = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let mut log = attest::event_log::EventLog::default();
    guest.extend(&log.push_model(digest(&report.model_manifest)));
    let nonce_path = NoncePath::alone([3; 32]);
    let bound = Bound {
        nonce_root: nonce_path.root(nonce).unwrap(),
        keyset: digest(&report.keyset),
        model_manifest: digest(&report.model_manifest),
        device_evidence: &report.device_evidence,
    };
    let quote = guest.quote(&bound.report_data(), now_secs());
    Report {
        nonce,
        nonce_path,
        event_log: log.to_json(),
        quote: quote.quote,
        collateral: quote.collateral,
        ..report
    }
}

fn flood(encoding: Option<&'static str>, length: Option<u64>, chunks: usize) -> Response<Body> {
    let zeros = axum::body::Bytes::from_static(&[0x1f; 64 * 1024]);
    let stream = futures_util::stream::iter(
        (0..chunks).map(move |_| Ok::<_, std::io::Error>(zeros.clone())),
    );
    let mut response = Response::new(Body::from_stream(stream));
    if let Some(encoding) = encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
    }
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

async fn fetch(node: &TestNode, query: &str) -> (u16, String) {
    let answer = http().get(format!("{}/v1/attestation{query}", node.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn keyset(client: &Client) -> Value {
    let report = client.evidence(fresh_nonce().unwrap()).await.unwrap().report;
    serde_json::from_slice(&Report::parse(&report).unwrap().keyset).unwrap()
}

fn now_secs() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
