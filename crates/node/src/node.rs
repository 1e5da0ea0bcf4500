//! What every route shares: the configuration, and the service once there is one.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Instant,
};

use attest::{
    Platform, Report,
    binding::Nonce,
    evidence::{Attester, EvidenceError, Source, Sources, Subject},
};
use axum::{body::Bytes, extract::FromRef};
use engine::Engine;
use protocol::{InvalidParameter, ModelCapabilities, Operation, ProvenanceKind, Seed};
use provenance::{ManifestSigner, ProvenanceError};
use seal::{KeyId, Keyring};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::{
    sync::{OnceCell, oneshot},
    time::timeout,
};
use web::image_store::ImageStore;

use crate::{
    auth::Credentials,
    body::BodyReader,
    clock::unix_now,
    config::{Config, ConfigError},
    delivery::Deliveries,
    edits::EditReader,
    error::ApiError,
    keys::{KeyError, Keys},
    metrics::{Facts, Metrics, Traffic},
    models::{LoadedModels, ModelsError, Offer},
    origins::OriginGuard,
    requests::RequestLimiter,
    tls::Tls,
};

/// One node: listening from the start, serving once its model is loaded.
pub struct Node {
    config: Config,
    tls: Option<Tls>,
    credentials: Arc<Credentials>,
    origins: Arc<OriginGuard>,
    bodies: BodyReader,
    edits: Arc<EditReader>,
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

impl Phase {
    /// What there is to serve with, or was.
    fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Loading => None,
            Self::Serving(service) => Some(service),
            Self::Draining(service) => service.as_ref(),
        }
    }
}

impl Node {
    /// A node that has no model yet. Its TLS key is made or read here.
    ///
    /// # Errors
    /// Where the configuration would open it to strangers, or names no certificate and key.
    pub fn new(config: Config) -> Result<Arc<Self>, ConfigError> {
        config.check()?;
        Ok(Arc::new(Self {
            tls: config.tls()?,
            credentials: Arc::new(Credentials::new(config.accepted())),
            origins: Arc::new(config.origin_guard()),
            bodies: config.body_reader(),
            edits: config.edit_reader(),
            requests: RequestLimiter::new(config.max_requests_per_address, config.forwarders()),
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

    /// What URLs of its main listener begin with: `https` where TLS ends in the node.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// SHA-256 of the SubjectPublicKeyInfo that TLS ends at, hex; `None` where it does not end here.
    #[must_use]
    pub fn tls_spki_sha256(&self) -> Option<&str> {
        self.tls.as_ref().map(Tls::spki_sha256)
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
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
        let service = phase.service().cloned();
        if let Some(service) = &service {
            service.engine.drain();
        }
        *phase = Phase::Draining(service);
    }

    pub(crate) fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    pub(crate) fn origins(&self) -> &Arc<OriginGuard> {
        &self.origins
    }

    pub(crate) fn requests(&self) -> &Arc<RequestLimiter> {
        &self.requests
    }

    pub(crate) fn edits(&self) -> &Arc<EditReader> {
        &self.edits
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

    /// The service, also while the node stops: for figures, which tell how far it has come.
    pub(crate) fn measured_service(&self) -> Option<Arc<Service>> {
        self.phase.read().unwrap_or_else(PoisonError::into_inner).service().cloned()
    }

    /// What answers requests.
    pub(crate) fn service(&self) -> Result<Arc<Service>, ApiError> {
        match &*self.phase.read().unwrap_or_else(PoisonError::into_inner) {
            Phase::Loading => Err(ApiError::Loading),
            Phase::Serving(service) => Ok(service.clone()),
            Phase::Draining(_) => Err(ApiError::Draining),
        }
    }
}

impl FromRef<Arc<Node>> for BodyReader {
    fn from_ref(node: &Arc<Node>) -> Self {
        node.bodies.clone()
    }
}

/// What serves: models behind one queue, and the keys that open requests.
pub struct Service {
    /// Of each model; of one at least.
    capabilities: Vec<ModelCapabilities>,
    manifest: [u8; 32],
    /// Of each model's own manifest, in the order of `capabilities`.
    manifest_digests: Vec<[u8; 32]>,
    engine: Engine,
    keys: Keys,
    manifest_signer: Option<Arc<ManifestSigner>>,
    unasked_provenance: ProvenanceKind,
    measured: OnceCell<Measured>,
    attester: Attester,
    metrics: Arc<Metrics>,
    devices: Vec<String>,
    ready_since_secs: u64,
    /// The document of its routes, as JSON, once somebody asked.
    openapi: OnceLock<Bytes>,
}

impl Service {
    /// Measures the models, makes fresh keys and starts the engines, for `node` to serve with.
    ///
    /// # Errors
    /// Where the models cannot be measured or told apart, the system has no randomness or no thread, or the bounds
    /// exclude a model's own size.
    pub fn start(
        models: impl Into<LoadedModels>,
        sources: Sources,
        node: &Node,
    ) -> Result<Self, StartError> {
        let config = node.config();
        let Offer { capabilities, manifest, manifest_digests, engines } =
            models.into().offer(config.limits())?;
        let digest = Sha256::digest(&manifest).into();
        let attester = Attester::start(sources, manifest, config.quote_limits())?;
        let unasked_provenance = config.provenance.unasked();
        let manifest_signer = match unasked_provenance.has_manifest() {
            true => Some(Arc::new(ManifestSigner::generate()?)),
            false => None,
        };
        let c2pa_key = manifest_signer.as_ref().map(|signer| hex::encode(signer.spki_sha256()));
        let metrics = Arc::new(Metrics::new(&Facts {
            models: capabilities.iter().map(|offered| &*offered.model).collect(),
            tee: attester.platform().to_string(),
            engines: engines.len(),
        }));
        Ok(Self {
            devices: engines.iter().map(|models| models[0].generator.device_name()).collect(),
            manifest: digest,
            manifest_digests,
            attester,
            engine: Engine::start(engines, config.queue_limits(), metrics.clone())
                .map_err(StartError::Thread)?,
            keys: Keys::new(config, node.tls_spki_sha256().map(str::to_owned), c2pa_key)?,
            manifest_signer,
            unasked_provenance,
            measured: OnceCell::new(),
            metrics,
            capabilities,
            ready_since_secs: unix_now(),
            openapi: OnceLock::new(),
        })
    }

    /// The name of the key that requests are sealed to now.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.keyring().current().key_id()
    }

    /// SHA-256 of the model's manifest; of several models, of all of theirs.
    #[must_use]
    pub fn manifest_hex(&self) -> String {
        hex::encode(self.manifest)
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
        let answer = timeout(self.attester.timeout(), answer).await;
        drop(pending);
        let report =
            answer.map_err(|_| EvidenceError::TimedOut)?.map_err(|_| EvidenceError::Stopped)??;
        self.metrics.attested(now_secs);
        Ok(report)
    }

    /// What the hardware measured of this guest. It is asked once, by a report that nobody sent a nonce for.
    pub(crate) async fn measured(&self) -> Result<Measured, ApiError> {
        let ask = async || {
            let report = self.report(Nonce::ABSENT, None).await?;
            let report = Report::parse(&report).map_err(|_| ApiError::Internal)?;
            let measurements = attest::measurements(report.platform, &report.quote);
            let measurements = measurements.ok_or(ApiError::Internal)?;
            Ok::<_, ApiError>(Measured { platform: report.platform, measurements })
        };
        self.measured.get_or_try_init(ask).await.cloned()
    }

    /// Who signs manifests of images, where anybody does.
    pub(crate) fn manifest_signer(&self) -> Option<&Arc<ManifestSigner>> {
        self.manifest_signer.as_ref()
    }

    /// What is said of images that requests in clear text ask nothing about.
    pub(crate) fn unasked_provenance(&self) -> ProvenanceKind {
        self.unasked_provenance
    }

    pub(crate) fn rotate_keys_if_due(&self) -> Result<(), KeyError> {
        self.keys.rotate_if_due(Instant::now())
    }

    /// What the first model offers.
    pub(crate) fn capabilities(&self) -> &ModelCapabilities {
        &self.capabilities[0]
    }

    /// What each model offers.
    pub(crate) fn all_capabilities(&self) -> &[ModelCapabilities] {
        &self.capabilities
    }

    /// What the model of this name offers.
    ///
    /// # Errors
    /// Where there is none; the error tells which there are.
    pub(crate) fn capabilities_of(
        &self,
        model: &str,
    ) -> Result<&ModelCapabilities, InvalidParameter> {
        let found = self.capabilities.iter().find(|offered| offered.model == model);
        found.ok_or_else(|| {
            let names = self.capabilities.iter().map(|offered| &*offered.model);
            let served = names.collect::<Vec<_>>().join(", ");
            match model {
                "" => InvalidParameter::NoModel { served },
                _ => InvalidParameter::UnknownModel { served },
            }
        })
    }

    /// Of the first model that can do this; of the first one, where none can.
    pub(crate) fn capabilities_for(&self, operation: Operation) -> &ModelCapabilities {
        let can = |offered: &&ModelCapabilities| match operation {
            Operation::Generation => true,
            Operation::Edit => offered.max_input_images > 0,
        };
        self.capabilities.iter().find(can).unwrap_or(self.capabilities())
    }

    /// SHA-256 of the manifest of the model of this name alone; `None` where there is no such model.
    pub(crate) fn manifest_of(&self, model: &str) -> Option<&[u8; 32]> {
        let models = self.capabilities.iter().zip(&self.manifest_digests);
        models.into_iter().find(|(offered, _)| offered.model == model).map(|(_, digest)| digest)
    }

    /// SHA-256 of what evidence shows: of all models' manifests.
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

    /// The document of its routes, which is made once: anybody may ask for it, again and again.
    pub(crate) fn openapi(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.openapi.get_or_init(make).clone()
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

/// What the hardware measured of the guest before it ran.
#[derive(Clone)]
pub(crate) struct Measured {
    pub(crate) platform: Platform,
    pub(crate) measurements: Vec<[u8; 48]>,
}

/// Why a service does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No key to sign manifests with.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The model cannot be measured.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The models cannot be served together.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// No thread.
    #[error("the engine's thread could not be started")]
    Thread(#[source] std::io::Error),
}
