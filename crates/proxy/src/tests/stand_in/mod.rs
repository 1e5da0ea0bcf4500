//! A node of this protocol with simulated evidence, which can be told to misbehave.

mod answer;
mod evidence;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use protocol::{ConfidentialComputeResponse, Model, ModelList};
use serde_json::json;
use tokio::net::TcpListener;

use self::evidence::{Keys, keys};
pub(super) use self::{answer::Answer, evidence::Evidence};
use super::wire::Wire;

pub(super) const MODEL: &str = "test/stand-in";
/// Its second, which takes images.
pub(super) const EDITING_MODEL: &str = "test/editing";
const MANIFEST: &[u8] = b"00  7  weights\n";
/// Three bytes in base64, where an image would be.
pub(super) const IMAGE: &str = "AAEC";

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
    /// The models that they named, outside and inside alike.
    pub(super) models: Mutex<Vec<String>>,
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
            models: Mutex::default(),
        });
        let app = Router::new()
            .route("/v1/attestation", get(evidence::attestation))
            .route("/v1/confidential/images/generations", post(answer::generate))
            .route("/v1/confidential/images/edits", post(answer::generate))
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

fn redirect(node: &Inner) -> Response {
    let to = format!("{}/elsewhere", node.elsewhere);
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
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
    Json(ModelList::new(vec![Model::new(MODEL, 7, 0), Model::new(EDITING_MODEL, 7, 4)]))
}
