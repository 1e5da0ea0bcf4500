//! A hub on loopback: the hub's HTTP, as far as hf-hub 1.0 uses it for a download, and the ways in
//! which it goes wrong.
//!
//! As the real one, it serves small files itself and sends on to another host for large ones, which
//! must not see the token; answers for a gated repository are 401 without a token and 403 with one
//! that was not let in; and `X-Error-Code` tells one 404 from another.

use std::{
    collections::VecDeque,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use flux::FileDigest;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// The one repository.
pub(crate) const REPOSITORY: &str = "test/small";
/// Its one commit, which is the branch `main`.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// A token that was let in.
pub(crate) const TOKEN: &str = "hf_let_in";
/// A valid token of somebody who has not accepted the licence.
pub(crate) const STRANGERS_TOKEN: &str = "hf_stranger";

/// A running hub. It ends with the runtime it was started in.
pub(crate) struct TestHub {
    /// For `HF_ENDPOINT`.
    pub(crate) url: String,
    hub: Arc<Hub>,
}

/// What the hub does.
struct Hub {
    root: PathBuf,
    cdn: String,
    gated: bool,
    faults: Mutex<Faults>,
    /// Bytes of file bodies that were sent.
    sent_bytes: Arc<AtomicU64>,
    requests: Mutex<Vec<String>>,
}

/// What goes wrong with large files.
#[derive(Default)]
pub(crate) struct Faults {
    /// The next transfers end after so many bytes, one after the other.
    pub(crate) cuts: VecDeque<usize>,
    /// Ranges are answered with the whole file.
    pub(crate) ignores_ranges: bool,
    /// The last byte is another one.
    pub(crate) flips_a_bit: bool,
}

impl TestHub {
    /// Serves the files below `root`.
    pub(crate) async fn open(root: PathBuf) -> Self {
        Self::start(root, false).await
    }

    /// Serves them to those who were let in.
    pub(crate) async fn gated(root: PathBuf) -> Self {
        Self::start(root, true).await
    }

    async fn start(root: PathBuf, gated: bool) -> Self {
        let (listener, address) = listen().await;
        let (cdn_listener, cdn_address) = listen().await;
        let hub = Arc::new(Hub {
            root,
            cdn: format!("http://{cdn_address}"),
            gated,
            faults: Mutex::default(),
            sent_bytes: Arc::default(),
            requests: Mutex::default(),
        });
        let app = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(info))
            .route("/api/models/{owner}/{name}/paths-info/{revision}", post(paths_info))
            .route("/{owner}/{name}/resolve/{revision}/{*path}", get(resolve))
            .with_state(hub.clone());
        let cdn = Router::new().route("/{*path}", get(large)).with_state(hub.clone());
        tokio::spawn(async { axum::serve(listener, app).await });
        tokio::spawn(async { axum::serve(cdn_listener, cdn).await });
        Self { url: format!("http://{address}"), hub }
    }

    /// To change what goes wrong from here on.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.hub.faults.lock().unwrap()
    }

    /// `METHOD PATH [RANGE]` of each request since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.hub.requests.lock().unwrap())
    }

    /// Bytes of files that were sent since the last call.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.hub.sent_bytes.swap(0, Ordering::SeqCst)
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

type Answer = Result<Response<Body>, Refusal>;

async fn info(
    State(hub): State<Arc<Hub>>,
    Path((owner, name, revision)): Path<(String, String, String)>,
) -> Answer {
    hub.note("GET info");
    hub.find(&owner, &name, &revision)?;
    Ok(Json(json!({ "id": REPOSITORY, "sha": COMMIT, "gated": "auto" })).into_response())
}

async fn paths_info(
    State(hub): State<Arc<Hub>>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    Json(asked): Json<Value>,
) -> Answer {
    hub.note("POST paths-info");
    hub.find(&owner, &name, &revision)?;
    let paths = asked["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
    let files = paths.filter_map(|path| {
        let bytes = fs::read(hub.root.join(path)).ok()?;
        let mut file = json!({
            "type": "file", "path": path, "size": bytes.len(), "oid": "0".repeat(40),
        });
        if is_large(path) {
            let oid = sha256(&bytes);
            file["lfs"] = json!({ "oid": oid, "size": bytes.len(), "pointerSize": 130 });
        }
        Some(file)
    });
    Ok(Json(files.collect::<Vec<_>>()).into_response())
}

async fn resolve(
    State(hub): State<Arc<Hub>>,
    method: Method,
    headers: HeaderMap,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
) -> Answer {
    hub.find(&owner, &name, &revision)?;
    hub.let_in(&headers)?;
    let bytes = hub.read(&path)?;
    let etag = format!("\"{}\"", sha256(&bytes));
    let mut response = if is_large(&path) {
        let mut sent_on = StatusCode::FOUND.into_response();
        set(&mut sent_on, "location", &format!("{}/{path}", hub.cdn));
        set(&mut sent_on, "x-linked-size", &bytes.len().to_string());
        set(&mut sent_on, "x-linked-etag", &etag);
        sent_on
    } else {
        hub.note(&format!("{method} {path}"));
        if method == Method::GET {
            hub.sent_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        let mut whole = bytes.into_response();
        set(&mut whole, "etag", &etag);
        whole
    };
    set(&mut response, "x-repo-commit", COMMIT);
    Ok(response)
}

/// Another host, which serves large files to whoever was sent there.
async fn large(
    State(hub): State<Arc<Hub>>,
    method: Method,
    headers: HeaderMap,
    Path(path): Path<String>,
) -> Answer {
    assert!(!headers.contains_key(header::AUTHORIZATION), "the token went to another host");
    let mut bytes = hub.read(&path)?;
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    hub.note(&format!("{method} {path} {}", range.as_deref().unwrap_or_default()));
    let mut faults = hub.faults.lock().unwrap();
    if faults.flips_a_bit {
        *bytes.last_mut().unwrap() ^= 1;
    }
    let mut response = Response::new(Body::empty());
    if let Some(range) = range.filter(|_| !faults.ignores_ranges) {
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (from, to) = (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap());
        let total = bytes.len();
        bytes = bytes[from..=to].to_vec();
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut response, "content-range", &format!("bytes {from}-{to}/{total}"));
    }
    set(&mut response, "content-length", &bytes.len().to_string());
    if method == Method::HEAD {
        return Ok(response);
    }
    let cut = faults.cuts.pop_front();
    if let Some(after_bytes) = cut {
        bytes.truncate(after_bytes);
    }
    hub.sent_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    let begin = stream::once(async { Ok(Bytes::from(bytes)) });
    let end = stream::iter(cut).then(|_| async {
        // An error at once would throw away what has not gone out yet.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Err(io::Error::other("the connection is cut"))
    });
    *response.body_mut() = Body::from_stream(begin.chain(end));
    Ok(response)
}

impl Hub {
    fn note(&self, request: &str) {
        self.requests.lock().unwrap().push(request.trim_end().to_owned());
    }

    fn find(&self, owner: &str, name: &str, revision: &str) -> Result<(), Refusal> {
        if format!("{owner}/{name}") != REPOSITORY {
            return Err(Refusal(StatusCode::NOT_FOUND, "RepoNotFound"));
        }
        match revision {
            COMMIT | "main" => Ok(()),
            _ => Err(Refusal(StatusCode::NOT_FOUND, "RevisionNotFound")),
        }
    }

    fn let_in(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
        match token.and_then(|value| value.strip_prefix("Bearer ")) {
            _ if !self.gated => Ok(()),
            Some(TOKEN) => Ok(()),
            Some(STRANGERS_TOKEN) => Err(Refusal(StatusCode::FORBIDDEN, "GatedRepo")),
            _ => Err(Refusal(StatusCode::UNAUTHORIZED, "GatedRepo")),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        fs::read(self.root.join(path)).map_err(|_| Refusal(StatusCode::NOT_FOUND, "EntryNotFound"))
    }
}

/// The real hub keeps files outside git by their length or ending; here the ending is enough.
fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors")
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    FileDigest(Sha256::digest(bytes).into()).to_string()
}

/// A status, and the hub's own code for why.
struct Refusal(StatusCode, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let mut response = self.0.into_response();
        set(&mut response, "x-error-code", self.1);
        response
    }
}

fn set(response: &mut Response<Body>, name: &'static str, value: &str) {
    response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
}
