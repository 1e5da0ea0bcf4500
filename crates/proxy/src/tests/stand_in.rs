//! A node of this protocol with simulated evidence, which can be told to misbehave.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use attest::{
    Platform, Report,
    binding::{Bound, Keyset, KeysetBody, Nonce},
    event_log::EventLog,
    nonces::NoncePath,
    simulator::{Flaw, Simulator},
};
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use protocol::{
    CompletedEvent, ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest,
    ErrorBody, ErrorKind, ErrorObject, ImageEvent, ImageUsage, InputTokensDetails, Model,
    ModelList, Operation, ProgressEvent, Sequenced,
};
use seal::{Epoch, Keyring, KeyringLimits, NodeKeys, OpenError};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::wire::Wire;

pub(super) const MODEL: &str = "test/stand-in";
const MANIFEST: &[u8] = b"00  7  weights\n";
/// Three bytes in base64, where an image would be.
pub(super) const IMAGE: &str = "AAEC";

/// What is wrong with the evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Evidence {
    Sound,
    /// The first report that was ever given, whatever the nonce.
    Old,
    /// A sound quote, and another key in the keyset beside it.
    SwappedKey,
    /// Of other keys than the node's own, and sound.
    OfAnother,
    Expired,
    Flawed(Flaw),
    Garbage,
    Endless,
    Redirected,
}

/// What is wrong with the answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Sound,
    /// 422 for ever.
    Stale,
    /// 429 with this `Retry-After`, for ever.
    Busy(u64),
    /// A refusal with this status, in clear text.
    Status(u16),
    ForeignReceipt,
    NoReceipt,
    FlippedBit,
    /// The answer to an earlier request.
    Earlier,
    InClearText,
    Redirected,
    OtherCount,
    RemoteUrl,
    Hangup,
    // Of streams:
    Dropped,
    Swapped,
    Repeated,
    Cut,
    FlippedEvent,
    SealedError,
}

/// A node, behind a relay that records.
#[derive(Clone)]
pub(super) struct StandIn {
    pub(super) url: String,
    /// Around the relay.
    pub(super) direct: String,
    pub(super) wire: Wire,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    keys: Mutex<Arc<Keys>>,
    pub(super) evidence: Mutex<Evidence>,
    pub(super) answer: Mutex<Answer>,
    pub(super) lifetime: Mutex<Duration>,
    first_report: Mutex<Option<Vec<u8>>>,
    earlier: Mutex<Option<ConfidentialComputeResponse>>,
    pub(super) opened: AtomicUsize,
    /// Where redirections lead.
    elsewhere: String,
    pub(super) seen: Mutex<Vec<HeaderMap>>,
    /// Base64, where an image would be.
    pub(super) image: Mutex<String>,
    /// The stacks that sealed requests named.
    pub(super) stacks: Mutex<Vec<u64>>,
}

struct Keys {
    keyset: Keyset,
    possession: [u8; 64],
    ring: Keyring,
}

impl StandIn {
    pub(super) async fn start() -> Self {
        Self::start_with(Evidence::Sound, Duration::from_secs(3600)).await
    }

    pub(super) async fn start_with(evidence: Evidence, lifetime: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (wire, url) = Wire::before(at).await;
        let inner = Arc::new(Inner {
            keys: Mutex::new(Arc::new(keys(lifetime))),
            evidence: Mutex::new(evidence),
            answer: Mutex::new(Answer::Sound),
            lifetime: Mutex::new(lifetime),
            first_report: Mutex::default(),
            earlier: Mutex::default(),
            opened: AtomicUsize::new(0),
            elsewhere: url.clone(),
            seen: Mutex::default(),
            image: Mutex::new(IMAGE.to_owned()),
            stacks: Mutex::default(),
        });
        let app = Router::new()
            .route("/v1/attestation", get(attestation))
            .route("/v1/confidential/images/generations", post(generate))
            .route("/elsewhere", get(|| async { "caught" }).post(|| async { "caught" }))
            .route("/v1/nodes/lock", post(lock))
            .route("/v1/models", get(models))
            .with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, direct: format!("http://{at}"), wire, inner }
    }

    /// An address at which nobody listens.
    pub(super) async fn nowhere() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        format!("http://{at}")
    }

    pub(super) fn rotate(&self) {
        let lifetime = *self.inner.lifetime.lock().unwrap();
        *self.inner.keys.lock().unwrap() = Arc::new(keys(lifetime));
    }

    pub(super) fn set(&self, evidence: Evidence) {
        *self.inner.evidence.lock().unwrap() = evidence;
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.inner.answer.lock().unwrap() = answer;
    }

    pub(super) fn opened(&self) -> usize {
        self.inner.opened.load(Ordering::SeqCst)
    }

    /// Sealed requests that went out to it.
    pub(super) fn sealed_requests(&self) -> usize {
        self.wire.requests("POST /v1/confidential/images/generations")
    }

    /// Questions for evidence.
    pub(super) fn questions(&self) -> usize {
        self.wire.requests("GET /v1/attestation")
    }
}

fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keys(lifetime: Duration) -> Keys {
    let keys = NodeKeys::generate().unwrap();
    let keyset = Keyset::new(&KeysetBody {
        x25519: hex(&keys.exchange_public()),
        ed25519: hex(&keys.signing_public()),
        key_id: "0123456789abcdef".to_owned(),
        epoch: 0,
        not_before: now_secs() - 10,
        not_after: now_secs() + lifetime.as_secs(),
        build_id: "obscura/test".to_owned(),
        tls_spki_sha256: None,
        configuration_sha256: None,
        c2pa_spki_sha256: None,
    });
    let digest = keyset.digest();
    let signed = keyset.prove_possession(|message| keys.prove_possession(message));
    let limits = KeyringLimits { grace: Duration::ZERO, max_ciphertext_bytes: 1 << 20 };
    Keys {
        keyset: signed.keyset,
        possession: signed.possession,
        ring: Keyring::new(Epoch::new(keys, digest, 1000), limits),
    }
}

async fn attestation(
    State(node): State<Arc<Inner>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let evidence = *node.evidence.lock().unwrap();
    let nonce: Nonce = query["nonce"].parse().unwrap();
    let own = node.keys.lock().unwrap().clone();
    let json =
        |report: Vec<u8>| ([(header::CONTENT_TYPE, "application/json")], report).into_response();
    let report = match evidence {
        Evidence::Sound | Evidence::Old => report(&own, nonce, Simulator::new()),
        Evidence::SwappedKey => {
            let mut swapped = report(&own, nonce, Simulator::new());
            let mut body: KeysetBody = serde_json::from_slice(&swapped.keyset).unwrap();
            body.x25519 = hex(&NodeKeys::generate().unwrap().exchange_public());
            swapped.keyset = Keyset::new(&body).as_bytes().to_vec();
            swapped
        }
        Evidence::OfAnother => report(&keys(Duration::from_secs(3600)), nonce, Simulator::new()),
        Evidence::Expired => {
            let mut expired = report(&own, nonce, Simulator::new());
            let mut body: KeysetBody = serde_json::from_slice(&expired.keyset).unwrap();
            body.not_after = now_secs() - 1;
            expired.keyset = Keyset::new(&body).as_bytes().to_vec();
            expired
        }
        Evidence::Flawed(flaw) => report(&own, nonce, Simulator::with(flaw)),
        Evidence::Garbage => return json(b"{}".to_vec()),
        Evidence::Endless => return json(vec![b' '; attest::MAX_REPORT_BYTES + 1]),
        Evidence::Redirected => return redirect(&node),
    };
    let report = report.to_json();
    let mut first = node.first_report.lock().unwrap();
    let first = first.get_or_insert_with(|| report.clone());
    json(if evidence == Evidence::Old { first.clone() } else { report })
}

fn report(keys: &Keys, nonce: Nonce, mut guest: Simulator) -> Report {
    let digest = Sha256::digest(MANIFEST).into();
    let mut log = EventLog::default();
    guest.extend(&log.push_model(digest));
    let nonce_path = NoncePath::alone([9; 32]);
    let bound = Bound {
        nonce_root: nonce_path.root(nonce).unwrap(),
        keyset: keys.keyset.digest(),
        model_manifest: digest,
        device_evidence: b"",
    };
    let quote = guest.quote(&bound.report_data(), now_secs());
    Report {
        platform: Platform::Simulated,
        nonce,
        nonce_path,
        keyset: keys.keyset.as_bytes().to_vec(),
        possession: keys.possession,
        model_manifest: MANIFEST.to_vec(),
        device_evidence: Vec::new(),
        event_log: log.to_json(),
        quote: quote.quote,
        collateral: quote.collateral,
    }
}

fn redirect(node: &Inner) -> Response {
    let to = format!("{}/elsewhere", node.elsewhere);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
}

fn refusal(status: u16, kind: ErrorKind, code: &str) -> Response {
    let error = ErrorObject {
        message: "the stand-in says no".to_owned(),
        kind,
        param: None,
        code: Some(code.to_owned()),
    };
    (StatusCode::from_u16(status).unwrap(), Json(ErrorBody { error })).into_response()
}

/// As a gateway answers that bills by stacks.
async fn lock() -> Json<serde_json::Value> {
    let public_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let (node, stack) = (2, 5);
    Json(json!({
        "public_key": public_key, "node_small_id": node, "stack_small_id": stack,
        "stack_entry_digest": null,
    }))
}

async fn models(State(node): State<Arc<Inner>>, headers: HeaderMap) -> Json<ModelList> {
    node.seen.lock().unwrap().push(headers);
    Json(ModelList::new(vec![Model::new(MODEL, 7)]))
}

async fn generate(
    State(node): State<Arc<Inner>>,
    headers: HeaderMap,
    Json(envelope): Json<ConfidentialComputeRequest>,
) -> Response {
    node.seen.lock().unwrap().push(headers);
    node.stacks.lock().unwrap().push(envelope.stack_small_id);
    let answer = *node.answer.lock().unwrap();
    match answer {
        Answer::Stale => return refusal(422, ErrorKind::StaleKey, "stale_key"),
        Answer::Busy(secs) => {
            let mut refusal = refusal(429, ErrorKind::RateLimitError, "queue_full");
            refusal.headers_mut().insert(header::RETRY_AFTER, secs.into());
            return refusal;
        }
        Answer::Status(status) => return refusal(status, ErrorKind::ServerError, "because"),
        Answer::Redirected => return redirect(&node),
        Answer::InClearText => {
            return Json(json!({ "created": 0, "data": [{ "url": data_url(&node) }] }))
                .into_response();
        }
        _ => {}
    }
    let keys = node.keys.lock().unwrap().clone();
    let (plaintext, pending) = match keys.ring.open(&envelope, Instant::now()) {
        Ok(opened) => opened,
        Err(OpenError::StaleKey { .. }) => return refusal(422, ErrorKind::StaleKey, "stale_key"),
        Err(error) => panic!("{error}"),
    };
    node.opened.fetch_add(1, Ordering::SeqCst);
    let Ok(request) = CreateImageRequest::from_json(plaintext.as_bytes()) else { panic!() };
    assert!(request.padding.is_some(), "a request is salted");
    let manifest: [u8; 32] = Sha256::digest(MANIFEST).into();
    if request.prompt.as_ref().is_some_and(|prompt| prompt.contains("refuse me")) {
        let error = protocol::InvalidParameter::Missing { param: "size" }.body();
        let body = Zeroizing::new(serde_json::to_vec(&error).unwrap());
        let envelope = pending.refuse(body, &manifest).unwrap();
        let error = ErrorObject {
            message: "sealed".to_owned(),
            kind: ErrorKind::InvalidRequestError,
            param: None,
            code: None,
        };
        let body = protocol::ConfidentialErrorResponse { envelope, error };
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let responder = pending.accept().unwrap();
    if request.stream == Some(true) {
        return stream(responder, &manifest, answer);
    }
    if answer == Answer::Hangup {
        let broken = futures_util::stream::iter([
            Ok(axum::body::Bytes::from_static(b"{\"ciphertext\":\"")),
            Err(std::io::Error::other("hangs up")),
        ]);
        let head = [(header::CONTENT_TYPE, "application/json")];
        return (head, Body::from_stream(broken)).into_response();
    }
    let count = if answer == Answer::OtherCount { 3 } else { request.n.unwrap_or(1) };
    let url = match answer {
        Answer::RemoteUrl => "https://tracker.example/x.png".to_owned(),
        _ => data_url(&node),
    };
    let data: Vec<_> = (0..count).map(|_| json!({ "url": url })).collect();
    let body = serde_json::to_vec(&json!({ "created": 7, "data": data, "seed": 3 })).unwrap();
    // A receipt over another model's manifest is somebody else's.
    let signed = if answer == Answer::ForeignReceipt { [1; 32] } else { manifest };
    let mut envelope = responder.seal(Zeroizing::new(body), &signed).unwrap();
    match answer {
        Answer::NoReceipt => envelope.receipt = None,
        Answer::FlippedBit => flip(&mut envelope),
        Answer::Earlier => envelope = node.earlier.lock().unwrap().clone().unwrap(),
        _ => *node.earlier.lock().unwrap() = Some(envelope.clone()),
    }
    Json(envelope).into_response()
}

fn data_url(node: &Inner) -> String {
    format!("data:image/png;base64,{}", node.image.lock().unwrap())
}

fn flip(envelope: &mut ConfidentialComputeResponse) {
    let other = if envelope.ciphertext.starts_with('A') { "B" } else { "A" };
    envelope.ciphertext.replace_range(0..1, other);
}

/// Three steps and an image; or what is told instead.
fn stream(responder: seal::Responder, manifest: &[u8; 32], answer: Answer) -> Response {
    let mut parts = responder.into_stream().unwrap();
    let mut lines = Vec::new();
    for step in 0..4 {
        let last = step == 3;
        let event = match last {
            false => ImageEvent::Progress(ProgressEvent { step, steps: 3 }),
            true if answer == Answer::SealedError => {
                let error = ErrorObject {
                    message: "too slow".to_owned(),
                    kind: ErrorKind::ServerError,
                    param: None,
                    code: Some("deadline_exceeded".to_owned()),
                };
                ImageEvent::Error(protocol::ErrorEvent { error })
            }
            true => ImageEvent::Completed(completed()),
        };
        let event = Sequenced { sequence_number: step.into(), last, event };
        let body = event.to_json_with(Operation::Generation, 0, |length| length);
        let mut envelope = parts.seal(body, manifest).unwrap();
        if step == 2 && answer == Answer::FlippedEvent {
            flip(&mut envelope);
        }
        lines.push(format!("data: {}\n\n", serde_json::to_string(&envelope).unwrap()));
    }
    match answer {
        Answer::Dropped => drop(lines.remove(1)),
        Answer::Swapped => lines.swap(1, 2),
        Answer::Repeated => lines.insert(1, lines[0].clone()),
        Answer::Cut => lines.truncate(3),
        _ => {}
    }
    let lines = lines.into_iter().map(Ok::<_, Infallible>);
    let body = Body::from_stream(futures_util::stream::iter(lines));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

fn completed() -> CompletedEvent {
    CompletedEvent {
        b64_json: IMAGE.to_owned().into(),
        index: 0,
        created_at: 7,
        size: "16x16".to_owned(),
        quality: "low".to_owned(),
        background: "opaque".to_owned(),
        output_format: "png".to_owned(),
        usage: ImageUsage::new(InputTokensDetails { text_tokens: 1, image_tokens: 0 }, 1),
        seed: Some(3),
        revised_prompt: None,
        provenance: None,
        warnings: Vec::new(),
    }
}
