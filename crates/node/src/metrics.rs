//! Prometheus metrics: numbers alone, never a word of a client's.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use engine::{Failure, JobSummary, Observer};
use prometheus_client::{
    encoding::{
        EncodeLabelSet, EncodeMetric, MetricEncoder,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Seconds: from a small envelope's opening to a large image on a slow machine.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    120.0,
];

/// A stage of a request whose time is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// Decryption and checks of an envelope.
    Open,
    /// Files of input images to pixels.
    InputDecode,
    /// Both text encoders.
    TextEncode,
    /// All steps of all images, and the images on the way.
    Denoise,
    /// The autoencoder.
    Decode,
    /// Pixels to a file.
    ImageEncode,
    /// Padding, hash, signature, encryption.
    Seal,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InputDecode => "input_decode",
            Self::TextEncode => "text_encode",
            Self::Denoise => "denoise",
            Self::Decode => "decode",
            Self::ImageEncode => "image_encode",
            Self::Seal => "seal",
        }
    }
}

/// What a service counts.
pub(crate) struct Metrics {
    registry: Registry,
    stages: Family<StageLabel, Histogram>,
    requests: Histogram,
    waits: Histogram,
    step: Histogram,
    batches: Counter,
    images: Family<ModelLabel, Counter>,
    pixels: Family<ModelLabel, Counter>,
    steps: Family<ModelLabel, Counter>,
    failed: Family<FailureLabel, Counter>,
    unopened: Counter,
    queue_depth: Gauge,
    queue_seconds: Estimate,
    attested_at: Gauge,
    gpu_memory: Family<EngineLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EngineLabel {
    engine: usize,
}

/// A model that the node has: there are as many labels as the operator names models.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

impl ModelLabel {
    fn new(model: &str) -> Self {
        Self { model: model.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabel {
    reason: &'static str,
}

/// What there is to say of a service that does not change.
pub(crate) struct Facts<'a> {
    /// All of them.
    pub(crate) models: Vec<&'a str>,
    pub(crate) tee: String,
    pub(crate) engines: usize,
}

impl Metrics {
    pub(crate) fn new(facts: &Facts<'_>) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let stages = Family::new_with_constructor(histogram);
        let this = Self {
            registry: Registry::with_prefix("obscura"),
            stages,
            requests: histogram(),
            waits: histogram(),
            step: histogram(),
            batches: Counter::default(),
            images: Family::default(),
            pixels: Family::default(),
            steps: Family::default(),
            failed: Family::default(),
            unopened: Counter::default(),
            queue_depth: Gauge::default(),
            queue_seconds: Estimate::default(),
            attested_at: Gauge::default(),
            gpu_memory: Family::default(),
        };
        this.registered(facts)
    }

    fn registered(mut self, facts: &Facts<'_>) -> Self {
        let registry = &mut self.registry;
        let build = Info::new([
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("commit", crate::COMMIT.unwrap_or_default().to_owned()),
            ("model", facts.models.join(", ")),
            ("tee", facts.tee.clone()),
        ]);
        registry.register("build", "What runs", build);
        let engines: Gauge = Gauge::default();
        engines.set(facts.engines as i64);
        registry.register("engines", "Engines that draw", engines);
        registry.register_with_unit(
            "stage",
            "Time of each stage of a request",
            Unit::Seconds,
            self.stages.clone(),
        );
        let help = "From a place in the queue until all images of a request are made";
        registry.register_with_unit("request", help, Unit::Seconds, self.requests.clone());
        let help = "The part of a request's seconds until an engine begins";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, self.waits.clone());
        let help = "One sampler step of one image, the mean of each request";
        registry.register_with_unit("step", help, Unit::Seconds, self.step.clone());
        let help = "Batches drawn, of one request or of several";
        registry.register("batches", help, self.batches.clone());
        for model in &facts.models {
            // There from the start, so that a rate has something to begin with.
            for family in [&self.images, &self.pixels, &self.steps] {
                drop(family.get_or_create(&ModelLabel::new(model)));
            }
        }
        registry.register("images", "Images made", self.images.clone());
        registry.register("pixels", "Pixels made", self.pixels.clone());
        registry.register("steps", "Sampler steps done", self.steps.clone());
        registry.register(
            "jobs_lost",
            "Requests that ended without images, by reason",
            self.failed.clone(),
        );
        registry.register("unopened", "Envelopes that did not open", self.unopened.clone());
        registry.register("queue_depth", "Requests that wait or run", self.queue_depth.clone());
        let help = "Time until what waits and runs is done, by the pace of late; missing while no step of it was seen";
        registry.register_with_unit("queue", help, Unit::Seconds, self.queue_seconds.clone());
        let help = "When evidence was last made, since 1970";
        let gauge = self.attested_at.clone();
        registry.register_with_unit("attested_timestamp", help, Unit::Seconds, gauge);
        let help = "The most that tensors have taken of a GPU's memory, weights included";
        let gauge = self.gpu_memory.clone();
        registry.register_with_unit("gpu_memory_peak", help, Unit::Bytes, gauge);
        self
    }

    pub(crate) fn took(&self, stage: Stage, time: Duration) {
        self.stages.get_or_create(&StageLabel { stage: stage.name() }).observe(time.as_secs_f64());
    }

    /// Runs `work` and takes its time.
    pub(crate) fn timed<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.took(stage, started.elapsed());
        done
    }

    pub(crate) fn unopened(&self) {
        self.unopened.inc();
    }

    /// Evidence was made, or found to be fresh enough.
    pub(crate) fn attested(&self, now_secs: u64) {
        self.attested_at.set(now_secs as i64);
    }

    pub(crate) fn set_queue(&self, depth: usize, secs: Option<f64>) {
        self.queue_depth.set(depth as i64);
        self.queue_seconds.set(secs);
    }
}

/// A gauge that is left out while nothing is known. Its default knows nothing.
#[derive(Debug, Clone, Default)]
struct Estimate(Arc<Mutex<Option<f64>>>);

impl Estimate {
    fn set(&self, value: Option<f64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    fn get(&self) -> Option<f64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodeMetric for Estimate {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.get().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.get().is_none()
    }
}

impl Observer for Metrics {
    fn batch_started(&self) {
        self.batches.inc();
    }

    fn steps_done(&self, model: &str, steps: usize) {
        self.steps.get_or_create(&ModelLabel::new(model)).inc_by(steps as u64);
    }

    fn job_done(&self, job: &JobSummary<'_>) {
        self.took(Stage::TextEncode, job.timings.encode);
        self.took(Stage::Denoise, job.timings.denoise);
        self.took(Stage::Decode, job.timings.decode);
        self.requests.observe(job.took.as_secs_f64());
        self.waits.observe(job.waited.as_secs_f64());
        self.step.observe(job.timings.denoise.as_secs_f64() / job.steps.max(1) as f64);
        let model = ModelLabel::new(job.model);
        self.images.get_or_create(&model).inc_by(job.images as u64);
        self.pixels.get_or_create(&model).inc_by(job.pixels);
    }

    fn job_failed(&self, why: Failure) {
        let reason = match why {
            Failure::Cancelled => "cancelled",
            Failure::Failed => "failed",
            Failure::Panicked => "panicked",
        };
        self.failed.get_or_create(&FailureLabel { reason }).inc();
    }

    fn peak_memory(&self, engine: usize, bytes: u64) {
        self.gpu_memory.get_or_create(&EngineLabel { engine }).set(bytes as i64);
    }
}

/// What a node counts, with a service or without one.
pub(crate) struct Traffic {
    registry: Registry,
    answers: Family<AnswerLabel, Counter>,
    connections: Gauge,
    loading: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabel {
    route: String,
    status: u16,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("obscura");
        let answers = Family::<AnswerLabel, Counter>::default();
        registry.register("http_answers", "Answers by route and status", answers.clone());
        let connections = Gauge::default();
        registry.register("http_connections", "Open connections", connections.clone());
        let loading = Gauge::<f64, AtomicU64>::default();
        let help = "From the start until the model was loaded, measured and attested; 0 until then";
        registry.register_with_unit("loading", help, Unit::Seconds, loading.clone());
        Self { registry, answers, connections, loading }
    }

    /// The node is ready.
    pub(crate) fn loaded(&self, after: Duration) {
        self.loading.set(after.as_secs_f64());
    }

    /// `route` is the pattern, not the path: a path is the client's to fill.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let label = AnswerLabel { route: route.to_owned(), status };
        self.answers.get_or_create(&label).inc();
    }

    /// Counts a connection, for as long as the guard lives.
    pub(crate) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }
}

/// An open connection.
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything in OpenMetrics' text form.
pub(crate) fn expose(traffic: &Traffic, service: Option<&Metrics>) -> String {
    const INFALLIBLE: &str = "a String takes every write";
    let mut text = String::new();
    encode_registry(&mut text, &traffic.registry).expect(INFALLIBLE);
    if let Some(metrics) = service {
        encode_registry(&mut text, &metrics.registry).expect(INFALLIBLE);
    }
    encode_eof(&mut text).expect(INFALLIBLE);
    text
}
