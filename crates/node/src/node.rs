//! What every route shares: the configuration, and the service once there is one.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use attest::{
    Platform,
    binding::Nonce,
    evidence::{Attester, EvidenceError, Source, Sources, Subject},
};
use engine::{Engine, Generator};
use protocol::{Offer, Seed, Size};
use seal::{KeyId, Keyring};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{sync::oneshot, time};

use crate::{
    auth::Credentials,
    body::BodyBudget,
    config::{Config, ConfigError, check_native},
    delivery::Deliveries,
    error::ApiError,
    image_store::ImageStore,
    keys::{KeyError, Keys},
    metrics::{Facts, Metrics, Traffic},
    requests::RequestLimiter,
};

/// One node: listening from the start, serving once its model is loaded.
pub struct Node {
    config: Config,
    credentials: Credentials,
    bodies: BodyBudget,
    requests: Arc<RequestLimiter>,
    image_store: ImageStore,
    deliveries: Arc<Deliveries>,
    traffic: Traffic,
    made: Instant,
    phase: RwLock<Phase>,
}

enum Phase {
    Loading,
    Serving(Arc<Service>),
    /// The service is kept: what runs is finished.
    Draining(Option<Arc<Service>>),
}

impl Node {
    /// A node that has no model yet.
    ///
    /// # Errors
    /// Where the configuration would open it to strangers.
    pub fn new(config: Config) -> Result<Arc<Self>, ConfigError> {
        config.check()?;
        Ok(Arc::new(Self {
            credentials: Credentials::new(&config),
            bodies: BodyBudget::new(config.body_memory_bytes),
            requests: RequestLimiter::new(config.max_requests_per_address),
            image_store: config.image_store(),
            deliveries: config.deliveries(),
            traffic: Traffic::new(),
            made: Instant::now(),
            config,
            phase: RwLock::new(Phase::Loading),
        }))
    }

    /// What the operator decided.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to serve. A node that is already stopping stays stopped.
    pub fn start(&self, service: Service) {
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Loading) {
            *phase = Phase::Serving(Arc::new(service));
            self.traffic.loaded(self.made.elapsed());
        }
    }

    /// Stops to serve: from now on everything is answered 503, what waits in the queue included.
    /// What runs is finished.
    pub fn drain(&self) {
        let mut phase = self.phase.write().unwrap_or_else(PoisonError::into_inner);
        let service = match &*phase {
            Phase::Loading => None,
            Phase::Serving(service) => Some(service.clone()),
            Phase::Draining(service) => service.clone(),
        };
        if let Some(service) = &service {
            service.engine.drain();
        }
        *phase = Phase::Draining(service);
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn bodies(&self) -> &BodyBudget {
        &self.bodies
    }

    pub(crate) fn requests(&self) -> &Arc<RequestLimiter> {
        &self.requests
    }

    pub(crate) fn image_store(&self) -> &ImageStore {
        &self.image_store
    }

    pub(crate) fn deliveries(&self) -> &Arc<Deliveries> {
        &self.deliveries
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn service(&self) -> Result<Arc<Service>, ApiError> {
        match &*self.phase.read().unwrap_or_else(PoisonError::into_inner) {
            Phase::Loading => Err(ApiError::Loading),
            Phase::Serving(service) => Ok(service.clone()),
            Phase::Draining(_) => Err(ApiError::Draining),
        }
    }
}

/// A loaded model, as the node offers it.
pub struct LoadedModel {
    /// The name that requests use.
    pub model: String,
    /// The size of an image whose request names none.
    pub native_size: Size,
    /// What was loaded, a line a file. Evidence shows it, and every receipt binds its SHA-256.
    pub manifest: Vec<u8>,
    /// The model itself, once for each device it is on.
    pub generators: Vec<Box<dyn Generator>>,
}

/// What serves: a model behind its queue, and the keys that open requests.
pub struct Service {
    offer: Offer,
    manifest: [u8; 32],
    engine: Engine,
    keys: Keys,
    attester: Attester,
    metrics: Arc<Metrics>,
    devices: Vec<String>,
    ready_since_secs: u64,
}

impl Service {
    /// Measures the model, makes fresh keys and starts the engine.
    ///
    /// # Errors
    /// Where the model cannot be measured, the system has no randomness or no thread, or the bounds
    /// exclude the model's own size.
    pub fn start(
        loaded: LoadedModel,
        sources: Sources,
        config: &Config,
    ) -> Result<Self, StartError> {
        let limits = config.limits();
        check_native(limits, loaded.native_size)?;
        let LoadedModel { model, native_size, manifest, generators } = loaded;
        let first = generators.first().ok_or(StartError::NoEngine)?;
        let offer = Offer { model, native_size, guidance: first.guidance(), limits };
        let digest = Sha256::digest(&manifest).into();
        let attester = Attester::start(sources, manifest, config.quote_limits())?;
        let metrics = Arc::new(Metrics::new(&Facts {
            model: &offer.model,
            tee: attester.platform().to_string(),
            engines: generators.len(),
        }));
        Ok(Self {
            devices: generators.iter().map(|generator| generator.device_name()).collect(),
            manifest: digest,
            attester,
            engine: Engine::start(generators, config.queue_limits(), metrics.clone())
                .map_err(StartError::Thread)?,
            keys: Keys::new(config)?,
            metrics,
            offer,
            ready_since_secs: unix_now(),
        })
    }

    /// The name of the key that requests are sealed to now.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.keyring().current().key_id()
    }

    /// SHA-256 of the model's manifest.
    #[must_use]
    pub fn manifest_hex(&self) -> String {
        self.manifest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whose hardware vouches for this node.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.attester.platform()
    }

    /// A report on this node's present keys. Waits for the hardware, beside others, and gives up its
    /// place where the future is dropped.
    pub(crate) async fn report(
        &self,
        nonce: Nonce,
        source: Option<Source>,
    ) -> Result<Arc<[u8]>, EvidenceError> {
        let keyset = self.keys.keyset();
        let now_secs = unix_now();
        let (reply, answer) = oneshot::channel();
        let subject = Subject { nonce, keyset, now_secs, source };
        let pending = self.attester.ask(subject, move |answer| drop(reply.send(answer)))?;
        let answer = time::timeout(self.attester.patience(), answer).await;
        drop(pending);
        let report =
            answer.map_err(|_| EvidenceError::TimedOut)?.map_err(|_| EvidenceError::Stopped)??;
        self.metrics.attested(now_secs);
        Ok(report)
    }

    pub(crate) fn rotate_keys_if_due(&self) -> Result<(), KeyError> {
        self.keys.rotate_if_due(Instant::now())
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    pub(crate) fn manifest(&self) -> &[u8; 32] {
        &self.manifest
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        self.keys.ring()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the engines compute, one entry each.
    pub(crate) fn devices(&self) -> &[String] {
        &self.devices
    }

    pub(crate) fn ready_since_secs(&self) -> u64 {
        self.ready_since_secs
    }

    /// A seed for a request that names none, from the operating system. 32 bits, as the generator
    /// reads no more, and JavaScript keeps them exactly.
    pub(crate) fn draw_seed(&self) -> Seed {
        Seed::new(getrandom::u32().map_or(self.ready_since_secs, u64::from))
    }
}

/// Why a service does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration does not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The model cannot be measured.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// No model to draw with.
    #[error("there is no engine: a model on one device at least")]
    NoEngine,
    /// No thread.
    #[error("the engine's thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Runs what takes milliseconds beside the threads that answer, and wipes the stack that it ran on.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(|| wipe::stack(work)).await.map_err(|_| {
        tracing::error!("work beside the engine panicked");
        ApiError::Internal
    })
}
