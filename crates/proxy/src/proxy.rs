//! The proxy's state, which the routes share.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use attest::verify::Verdict;
use client::{ApiKey, Client, ClientError};
use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use web::image_store::ImageStore;

use crate::{
    audit::{Audit, AuditError},
    caller_keys::CallerKeys,
    client_key::ClientKey,
    config::{Config, ConfigError},
    error::ApiError,
    pool::{Judge, Member, Pool},
};

/// Requests that are open at once.
const MAX_REQUESTS: usize = 64;
/// Of them, edits: a node takes each in a body of tens of megabytes.
const MAX_EDITS: usize = 8;
/// Images that wait to be fetched by their URLs, together.
const MAX_IMAGE_BYTES: usize = 256 << 20;
/// How long each waits.
const IMAGE_LIFETIME: Duration = Duration::from_secs(600);

/// A side-car whose nodes were verified.
pub struct Proxy {
    pool: Pool,
    judge: Arc<Judge>,
    policy_name: String,
    /// Without a slash at its end.
    public_url: Option<String>,
    keys: CallerKeys,
    images: ImageStore,
    client_key: Option<ClientKey>,
    has_api_key: bool,
    open: Arc<Semaphore>,
    open_edits: Arc<Semaphore>,
    listen: Mutex<SocketAddr>,
}

impl Proxy {
    /// Asks every node for evidence, and judges it. One that cannot be trusted is left out until it can.
    ///
    /// # Errors
    /// Where the configuration is not safe, the audit log cannot be kept, or no node can be trusted.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        config.check()?;
        let audit = config.audit.as_deref().map(Audit::open).transpose()?;
        let judge = Arc::new(Judge { policy: config.policy, audit });
        let client = |url: &str| {
            let key = config.api_key.clone().map_or_else(ApiKey::none, ApiKey::new);
            let key = if config.insecure_http { key.over_insecure_http() } else { key };
            Client::new(url, key)
                .map_err(|source| StartError::Node { node: url.into(), source: Box::new(source) })
        };
        let members = config.nodes.iter().map(|node| {
            let evidence = node.evidence.as_deref().map(client).transpose()?;
            Ok(Arc::new(Member::new(&node.url, client(&node.url)?, evidence, judge.clone())))
        });
        let pool = Pool::new(members.collect::<Result<_, StartError>>()?);
        let proxy = Arc::new(Self {
            pool,
            judge,
            policy_name: config.policy_name,
            public_url: config.public_url.map(|url| url.trim_end_matches('/').to_owned()),
            keys: CallerKeys::new().map_err(StartError::Keys)?,
            images: ImageStore::new(MAX_IMAGE_BYTES, IMAGE_LIFETIME),
            has_api_key: config.api_key.is_some(),
            client_key: config.client_key.as_deref().map(|key| ClientKey::new(key)),
            open: Arc::new(Semaphore::new(MAX_REQUESTS)),
            open_edits: Arc::new(Semaphore::new(MAX_EDITS)),
            listen: Mutex::new(config.listen),
        });
        let asked = join_all(proxy.pool.members().iter().map(|member| member.ready())).await;
        match asked.iter().any(Result::is_ok) {
            true => Ok(proxy),
            false => Err(proxy.unverified()),
        }
    }

    /// Why no node can be trusted.
    fn unverified(&self) -> StartError {
        let states = self.pool.members().iter().map(|member| (member.url(), member.state()));
        let mut verdict = None;
        let mut reasons = String::new();
        for (url, state) in states {
            if let Some(judged) = &state.judged {
                verdict = verdict.or(Some(judged.appraisal.verdict));
                reasons.push_str(&format!("\n\n{url}\n{}", judged.appraisal));
            } else if let Some((_, words)) = &state.failure {
                reasons.push_str(&format!("\n\n{url}\n{words}"));
            }
        }
        match verdict {
            Some(verdict) => StartError::Untrusted { verdict, reasons },
            None => StartError::Unreachable { reasons },
        }
    }

    /// Where callers reach it, once it is bound.
    pub fn listens_at(&self, listen: SocketAddr) {
        *self.listen.lock().unwrap_or_else(PoisonError::into_inner) = listen;
    }

    /// A line for people on each node.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let line = |member: &Arc<Member>| match member.usable() {
            Some(trusted) => {
                let platform = trusted.node.appraisal().platform;
                let platform = platform.map_or_else(String::new, |it| format!(" ({it})"));
                format!("{}  verified{platform}", member.url())
            }
            None => {
                let why =
                    member.state().failure.map_or_else(String::new, |(_, why)| why.into_string());
                format!("{}  left out: {why}", member.url())
            }
        };
        self.pool.members().iter().map(line).collect()
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        *self.listen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn judge(&self) -> &Judge {
        &self.judge
    }

    pub(crate) fn policy_name(&self) -> &str {
        &self.policy_name
    }

    pub(crate) fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    pub(crate) fn keys(&self) -> &CallerKeys {
        &self.keys
    }

    pub(crate) fn images(&self) -> &ImageStore {
        &self.images
    }

    pub(crate) fn client_key(&self) -> Option<&ClientKey> {
        self.client_key.as_ref()
    }

    /// Whether a caller's own bearer key is the nodes' to check: not where it opens this proxy, nor where
    /// the nodes' key is the proxy's.
    pub(crate) fn passes_keys_on(&self) -> bool {
        self.client_key.is_none() && !self.has_api_key
    }

    /// A place among the open requests.
    pub(crate) fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.open.clone().try_acquire_owned().map_err(|_| ApiError::Busy)
    }

    /// A place among the open edits, beside the one among all requests.
    pub(crate) fn edit_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.open_edits.clone().try_acquire_owned().map_err(|_| ApiError::Busy)
    }

    /// What is to be done every second.
    pub(crate) fn housekeeping(&self, now: Instant) {
        self.images.forget_old(now);
        if let Err(error) = self.keys.rotate_if_due(now) {
            tracing::error!(%error, "the keys for callers stay as they are");
        }
    }
}

/// Why a proxy does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// It would not be safe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reports could not be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An address that no client can use.
    #[error("the node {node}")]
    Node {
        /// As it was given.
        node: printable::Printable,
        /// What is wrong with it.
        source: Box<ClientError>,
    },
    /// No keys for callers.
    #[error("keys could not be made")]
    Keys(#[source] seal::SealError),
    /// Evidence came, and none of it is accepted.
    #[error("no node's evidence is accepted, so that nothing would be sent to any{reasons}")]
    Untrusted {
        /// Of the first node that gave any.
        verdict: Verdict,
        /// Node by node, check by check.
        reasons: String,
    },
    /// No evidence came.
    #[error("no node gives evidence, so that nothing would be sent to any{reasons}")]
    Unreachable {
        /// Node by node.
        reasons: String,
    },
}

impl StartError {
    /// 10, 20, 30 where evidence is refused, as `obscura verify` has it; 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Untrusted { verdict, .. } => verdict.exit_code(),
            _ => 1,
        }
    }
}
