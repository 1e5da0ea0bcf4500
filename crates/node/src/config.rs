//! What an operator decides.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use attest::evidence;
use engine::QueueLimits;
use protocol::{Limits, Prompt, Size};
use seal::TrustedSigner;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{auth::ApiKeyDigest, delivery::Deliveries, image_store::ImageStore};

/// The most that `max_prompt_chars` may say: what a body has room for.
const MAX_PROMPT_CHARS: usize = 32_000;

/// The node's configuration: the defaults, overlaid by whatever the operator says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Serve `POST /v1/images/generations` too, where prompts arrive in clear text. Private only
    /// where TLS ends inside the enclave.
    pub allow_plaintext: bool,
    /// SHA-256 of each accepted bearer key, hex.
    #[serde(skip_serializing)]
    pub api_keys_sha256: Vec<ApiKeyDigest>,
    /// Proxies whose `X-Signature` is accepted: Sui addresses or public keys.
    #[serde(skip_serializing, deserialize_with = "signers")]
    pub trusted_proxies: Vec<TrustedSigner>,
    /// Requests that may wait while every engine has one.
    pub queue_capacity: usize,
    /// The share of the queue, running requests included, that one client may hold where clients
    /// can be told apart: where there are several keys, or proxies. From 0 (one place) to 1.
    pub queue_share: f64,
    /// Seconds that one request may take, its waiting included.
    pub deadline_secs: u64,
    /// Seconds that an answer may take to be read, from when all of it is there.
    pub delivery_timeout_secs: u64,
    /// Bytes of answers that wait to be read. Where they are more, those make way whose readers
    /// have taken nothing for longest.
    pub answer_memory_bytes: usize,
    /// Characters of a prompt.
    pub max_prompt_chars: usize,
    /// What URLs of pictures begin with, where a client reaches the node by another name than it
    /// says in `Host`: `https://node.example`.
    pub public_url: Option<String>,
    /// Seconds that a picture's URL lives.
    pub url_lifetime_secs: u64,
    /// Bytes of pictures that wait behind URLs.
    pub url_memory_bytes: usize,
    /// Pixels of one picture.
    pub max_pixels: u64,
    /// Pixels of all pictures of one request.
    pub max_total_pixels: u64,
    /// Connections served at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Seconds a client may take to send a request's headers.
    pub header_timeout_secs: u64,
    /// Seconds a client may take to send a request's body.
    pub body_timeout_secs: u64,
    /// Seconds a client may take nothing of an answer.
    pub write_timeout_secs: u64,
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            allow_plaintext: false,
            api_keys_sha256: Vec::new(),
            trusted_proxies: Vec::new(),
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
            header_timeout_secs: 15,
            body_timeout_secs: 30,
            write_timeout_secs: 60,
            drain_secs: 30,
            key_lifetime_secs: 24 * 3600,
            key_grace_secs: 600,
            collateral: None,
            gpu_evidence: false,
            quotes_waiting: 256,
            quotes_per_minute: 120,
            quote_timeout_secs: 60,
            replay_capacity: 1 << 20,
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
        for unset in ["collateral", "public_url"] {
            defaults.entry(unset).or_insert_with(|| toml::Value::String(String::new()));
        }
        for list in ["api_keys_sha256", "trusted_proxies"] {
            defaults.entry(list).or_insert_with(|| toml::Value::Array(Vec::new()));
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

    /// Refuses what would open the node to strangers.
    ///
    /// # Errors
    /// Where the node would listen beyond loopback without asking for credentials.
    pub fn check(&self) -> Result<(), ConfigError> {
        let open = self.api_keys_sha256.is_empty() && self.trusted_proxies.is_empty();
        if open && !self.listen.ip().is_loopback() {
            return Err(ConfigError::NoCredentials { listen: self.listen });
        }
        if !(1..=MAX_PROMPT_CHARS).contains(&self.max_prompt_chars) {
            return Err(ConfigError::PromptChars);
        }
        if !(0.0..=1.0).contains(&self.queue_share) {
            return Err(ConfigError::QueueShare);
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            max_total_pixels: self.max_total_pixels,
            max_prompt_chars: self.max_prompt_chars,
        }
    }

    pub(crate) fn queue_limits(&self) -> QueueLimits {
        // With one key, or none, there is nobody to share with.
        let one_client = self.api_keys_sha256.len() <= 1 && self.trusted_proxies.is_empty();
        QueueLimits {
            capacity: self.queue_capacity,
            deadline: Duration::from_secs(self.deadline_secs),
            share: if one_client { 1.0 } else { self.queue_share },
        }
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
            patience: Duration::from_secs(self.quote_timeout_secs),
            per_minute: self.quotes_per_minute,
            ..evidence::Limits::default()
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_secs)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_secs)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_secs)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_secs)
    }
}

/// A model's native size must itself be within the limits, or the default request would fail.
pub(crate) fn check_native(limits: Limits, native: Size) -> Result<(), ConfigError> {
    if native.pixels() > limits.max_pixels.min(limits.max_total_pixels) {
        return Err(ConfigError::NativeSize { native });
    }
    Ok(())
}

fn signers<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<TrustedSigner>, D::Error> {
    Vec::<String>::deserialize(d)?
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

/// Why a configuration does not stand.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key or a value that is not known.
    #[error("the settings cannot be understood: {0}")]
    Parse(toml::de::Error),
    /// The node would serve anybody.
    #[error(
        "refusing to listen on {listen} without credentials: \
         set `api_keys_sha256` or `trusted_proxies`, or listen on loopback"
    )]
    NoCredentials {
        /// The address.
        listen: SocketAddr,
    },
    /// Prompts of no length, or longer than a body.
    #[error("`max_prompt_chars` must be from 1 to {MAX_PROMPT_CHARS}")]
    PromptChars,
    /// More than all of the queue, or less than nothing.
    #[error("`queue_share` must be from 0 to 1")]
    QueueShare,
    /// The bounds exclude the model's own size.
    #[error("`max_pixels` or `max_total_pixels` is less than the model's native size, {native}")]
    NativeSize {
        /// The size.
        native: Size,
    },
}
