//! The node's configuration: what an operator decides.

mod check;
mod privacy;
mod values;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use attest::evidence;
use axum::http::Uri;
use engine::QueueLimits;
use ipnet::IpNet;
use protocol::{Limits, Prompt, ProvenanceKind};
use seal::TrustedSigner;
use serde::{Deserialize, Serialize};
use web::image_store::ImageStore;

pub(crate) use self::check::check_native;
pub use self::{
    check::ConfigError,
    privacy::LaunchEvidence,
    values::{InvalidListen, parse_listen},
};
use crate::{
    address::{ForwardedHeader, Forwarders},
    auth::{Accepted, ApiKeyDigest},
    body::BodyReader,
    delivery::Deliveries,
    edits::EditReader,
    origins::{OriginGuard, WebOrigin},
    tls::{Tls, TlsError},
};

/// The node's configuration: the defaults, overlaid by whatever the operator says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen: an address and a port, or `localhost` and a port.
    #[serde(deserialize_with = "values::listen_address")]
    pub listen: SocketAddr,
    /// Where to answer probes and metrics besides, on a listener that nothing else can fill. For a
    /// network that clients do not reach: it asks for no credentials but metrics keys.
    pub health_listen: Option<SocketAddr>,
    /// Whether TLS ends in the node, on `listen`; the listener for probes stays plain.
    pub tls: TlsChoice,
    /// Names and addresses in the node's own certificate; where there are none, this machine's and
    /// `public_url`'s.
    pub tls_names: Vec<String>,
    /// With `tls = "files"`: the certificate and those that lead to its authority, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// With `tls = "files"`: the certificate's private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Serve `POST /v1/images/generations` too, where prompts arrive in clear text. Private only
    /// where TLS ends inside the enclave.
    pub allow_plaintext: bool,
    /// SHA-256 of each accepted bearer key, hex.
    #[serde(skip_serializing)]
    pub api_keys_sha256: Vec<ApiKeyDigest>,
    /// SHA-256 of each bearer key that opens `/metrics`, hex.
    #[serde(skip_serializing)]
    pub metrics_keys_sha256: Vec<ApiKeyDigest>,
    /// Proxies whose `X-Signature` is accepted: Sui addresses or public keys.
    #[serde(skip_serializing, deserialize_with = "values::listed")]
    pub trusted_proxies: Vec<TrustedSigner>,
    /// Networks of reverse proxies that are believed when they name their clients.
    #[serde(skip_serializing, deserialize_with = "values::networks")]
    pub trusted_forwarders: Vec<IpNet>,
    /// The header in which they do.
    pub forwarded_header: ForwardedHeader,
    /// Names beside loopback's own by which a node without credentials may be called, and a listener for
    /// probes on loopback.
    pub allowed_hosts: Vec<String>,
    /// Origins of pages, beside its own, that may use a node without credentials.
    #[serde(skip_serializing, deserialize_with = "values::listed")]
    pub allowed_origins: Vec<WebOrigin>,
    /// Origins of pages that may send sealed requests and ask for evidence.
    #[serde(skip_serializing, deserialize_with = "values::listed")]
    pub cors_origins: Vec<WebOrigin>,
    /// Requests that may wait while every engine has one.
    pub queue_capacity: usize,
    /// The share of the queue, running requests included, that one client may hold where clients
    /// can be told apart: where there are several keys, or proxies. Whom a forwarder names counts towards its
    /// key too then. From 0 (one place) to 1.
    pub queue_share: f64,
    /// Seconds that one request may take, its waiting included.
    pub deadline_secs: u64,
    /// Seconds that an answer may take to be read, from when all of it is there.
    pub delivery_timeout_secs: u64,
    /// Bytes of answers that wait to be read. Beyond, the answers whose readers have taken nothing for the
    /// longest time are dropped.
    pub answer_memory_bytes: usize,
    /// Characters of a prompt.
    pub max_prompt_chars: usize,
    /// What URLs of images begin with, where a client reaches the node by another name than it
    /// says in `Host`: `https://node.example`.
    pub public_url: Option<String>,
    /// Seconds that an image's URL lives.
    pub url_lifetime_secs: u64,
    /// Bytes of images that wait behind URLs.
    pub url_memory_bytes: usize,
    /// Pixels of one image.
    pub max_pixels: u64,
    /// Pixels of all images of one request.
    pub max_total_pixels: u64,
    /// Connections served at once. Those that make no progress are closed for new ones; where there are
    /// none, new ones wait to be accepted.
    pub max_connections: usize,
    /// Of them, those of one address (an IPv6 /64), trusted forwarders apart.
    pub max_connections_per_address: usize,
    /// Requests open at once of one client.
    pub max_requests_per_address: usize,
    /// Bytes of all requests' bodies together.
    pub body_memory_bytes: usize,
    /// Seconds a client may take to send a request's headers.
    pub header_timeout_secs: u64,
    /// Seconds a client may take to send a request's body.
    pub body_timeout_secs: u64,
    /// Seconds a client may keep an answer waiting in all, and as many more as the bytes that it has
    /// taken last at `min_write_bytes_per_sec`.
    pub write_timeout_secs: u64,
    /// The pace at which a client must take a long answer.
    pub min_write_bytes_per_sec: u64,
    /// Seconds that running requests are given when the node stops.
    pub drain_secs: u64,
    /// Seconds after which fresh keys take over.
    pub key_lifetime_secs: u64,
    /// Seconds for which the keys before still open requests.
    pub key_grace_secs: u64,
    /// What quotes are verified with, which a node in a TEE serves beside them: a file that the
    /// operator keeps fresh.
    pub collateral: Option<PathBuf>,
    /// Whether evidence holds that of the GPUs.
    pub gpu_evidence: bool,
    /// Verifiers that may wait at once; the next quote answers them all. Where so many do, the address
    /// with the most makes room for one with less.
    pub quotes_waiting: usize,
    /// Quotes a minute. Verifiers wait for the next one, together.
    pub quotes_per_minute: u32,
    /// Seconds that a verifier waits.
    pub quote_timeout_secs: u64,
    /// Requests one key opens at most; beyond, requests are refused until fresh keys take over.
    pub replay_capacity: usize,
    /// Whether images tell where they are from: in clear text unless a request wants otherwise, sealed
    /// where it asks for it.
    pub provenance: ProvenanceChoice,
    /// What else can change privacy, of which the program around the node decides.
    #[serde(skip)]
    pub launch_evidence: LaunchEvidence,
}

/// What a node says of its images where nobody asks, and whether it signs manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvenanceChoice {
    /// Nothing: it gives receipts and marks where a request asks for them.
    Off,
    /// An invisible mark in their pixels, and receipts.
    Mark,
    /// C2PA manifests, by a key that it makes at each start and that evidence alone vouches for, and receipts.
    C2pa,
    /// All three.
    #[serde(rename = "c2pa+mark")]
    C2paAndMark,
}

impl ProvenanceChoice {
    /// What is said where a request in clear text does not say what it wants.
    pub(crate) fn unasked(self) -> ProvenanceKind {
        match self {
            Self::Off => ProvenanceKind::None,
            Self::Mark => ProvenanceKind::Mark,
            Self::C2pa => ProvenanceKind::C2pa,
            Self::C2paAndMark => ProvenanceKind::C2paAndMark,
        }
    }
}

/// Where TLS ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsChoice {
    /// Before the node, if anywhere.
    Off,
    /// In the node, at a key that it makes at each start and that evidence alone vouches for.
    SelfSigned,
    /// In the node, at a key from a file.
    Files,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: TlsChoice::Off,
            tls_names: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            allow_plaintext: false,
            health_listen: None,
            api_keys_sha256: Vec::new(),
            metrics_keys_sha256: Vec::new(),
            trusted_proxies: Vec::new(),
            trusted_forwarders: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            cors_origins: vec![WebOrigin::Any],
            queue_capacity: 32,
            queue_share: 0.5,
            deadline_secs: 600,
            delivery_timeout_secs: 300,
            answer_memory_bytes: 1024 * 1024 * 1024,
            max_prompt_chars: Prompt::MAX_CHARS,
            public_url: None,
            url_lifetime_secs: 600,
            url_memory_bytes: 256 * 1024 * 1024,
            max_pixels: 2048 * 2048,
            max_total_pixels: 10 * 1024 * 1024,
            max_connections: 1024,
            max_connections_per_address: 256,
            max_requests_per_address: 128,
            body_memory_bytes: 256 * 1024 * 1024,
            header_timeout_secs: 15,
            body_timeout_secs: 30,
            write_timeout_secs: 60,
            min_write_bytes_per_sec: 8 * 1024,
            drain_secs: 30,
            key_lifetime_secs: 24 * 3600,
            key_grace_secs: 600,
            collateral: None,
            gpu_evidence: false,
            quotes_waiting: 256,
            quotes_per_minute: 120,
            quote_timeout_secs: 60,
            replay_capacity: 1 << 20,
            provenance: ProvenanceChoice::Off,
            launch_evidence: LaunchEvidence::new(),
        }
    }
}

impl Config {
    /// Every key and its default; what has none is an empty text or list.
    ///
    /// # Panics
    /// Never: numbers, texts and lists are TOML.
    #[must_use]
    pub fn defaults() -> toml::Table {
        let mut defaults = toml::Table::try_from(Self::default()).expect("plain values are TOML");
        for unset in ["collateral", "health_listen", "public_url", "tls_certificate", "tls_key"] {
            defaults.entry(unset).or_insert_with(|| toml::Value::String(String::new()));
        }
        let lists: [(&str, &[&str]); 6] = [
            ("api_keys_sha256", &[]),
            ("metrics_keys_sha256", &[]),
            ("trusted_proxies", &[]),
            ("trusted_forwarders", &[]),
            ("allowed_origins", &[]),
            ("cors_origins", &["*"]),
        ];
        for (list, entries) in lists {
            let entries = entries.iter().map(|&entry| entry.into()).collect();
            defaults.entry(list).or_insert_with(|| toml::Value::Array(entries));
        }
        defaults
    }

    /// Reads settings over the defaults.
    ///
    /// # Errors
    /// Where they hold a key or a value that is not known.
    pub fn from_table(settings: toml::Table) -> Result<Self, ConfigError> {
        settings.try_into().map_err(ConfigError::Parse)
    }

    pub(crate) fn forwarders(&self) -> Forwarders {
        Forwarders { trusted: self.trusted_forwarders.clone(), header: self.forwarded_header }
    }

    /// Makes or reads the key that TLS ends at; `None` where TLS is off.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, TlsError> {
        match (self.tls, &self.tls_certificate, &self.tls_key) {
            (TlsChoice::Off, ..) => Ok(None),
            (TlsChoice::SelfSigned, ..) => Tls::self_signed(&self.certificate_names()).map(Some),
            (TlsChoice::Files, Some(certificate), Some(key)) => {
                Tls::from_files(certificate, key).map(Some)
            }
            (TlsChoice::Files, ..) => Err(TlsError::FilesUnnamed),
        }
    }

    /// What the node's own certificate is for.
    fn certificate_names(&self) -> Vec<String> {
        if !self.tls_names.is_empty() {
            return self.tls_names.clone();
        }
        let public = self.public_url.as_deref().and_then(|url| url.parse::<Uri>().ok());
        let public = public.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']));
        let own = ["localhost", "127.0.0.1", "::1"];
        public.into_iter().chain(own).map(str::to_owned).collect()
    }

    /// Whether strangers are kept out at all, which every node does that listens beyond loopback.
    fn asks_for_credentials(&self) -> bool {
        !self.api_keys_sha256.is_empty() || !self.trusted_proxies.is_empty()
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            max_total_pixels: self.max_total_pixels,
            max_prompt_chars: self.max_prompt_chars,
        }
    }

    pub(crate) fn queue_limits(&self) -> QueueLimits {
        // With one key, or none, there is nobody to share with; a forwarder names many clients.
        let keys = self.api_keys_sha256.len() + self.trusted_proxies.len();
        let one_client = keys <= 1 && self.trusted_forwarders.is_empty();
        QueueLimits {
            capacity: self.queue_capacity,
            deadline: Duration::from_secs(self.deadline_secs),
            share: if one_client { 1.0 } else { self.queue_share },
        }
    }

    pub(crate) fn accepted(&self) -> Accepted {
        Accepted {
            keys: self.api_keys_sha256.clone(),
            metrics_keys: self.metrics_keys_sha256.clone(),
            proxies: self.trusted_proxies.clone(),
        }
    }

    pub(crate) fn origin_guard(&self) -> OriginGuard {
        OriginGuard {
            is_open: !self.asks_for_credentials(),
            allowed_hosts: self.allowed_hosts.clone(),
            allowed_origins: self.allowed_origins.clone(),
            cors_origins: self.cors_origins.clone(),
        }
    }

    pub(crate) fn body_reader(&self) -> BodyReader {
        BodyReader::new(self.body_memory_bytes, Duration::from_secs(self.body_timeout_secs))
    }

    pub(crate) fn edit_reader(&self) -> Arc<EditReader> {
        let QueueLimits { capacity, deadline, share } = self.queue_limits();
        // As many as could wait in the queue afterwards.
        EditReader::new((share * capacity as f64).ceil() as usize, deadline)
    }

    pub(crate) fn image_store(&self) -> ImageStore {
        ImageStore::new(self.url_memory_bytes, Duration::from_secs(self.url_lifetime_secs))
    }

    pub(crate) fn deliveries(&self) -> Arc<Deliveries> {
        let timeout = Duration::from_secs(self.delivery_timeout_secs);
        Deliveries::new(timeout, self.answer_memory_bytes)
    }

    pub(crate) fn delivery_timeout(&self) -> Duration {
        Duration::from_secs(self.delivery_timeout_secs)
    }

    pub(crate) fn quote_limits(&self) -> evidence::Limits {
        evidence::Limits {
            waiting: self.quotes_waiting,
            timeout: Duration::from_secs(self.quote_timeout_secs),
            per_minute: self.quotes_per_minute,
            ..evidence::Limits::default()
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_secs)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_secs)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_secs)
    }
}
