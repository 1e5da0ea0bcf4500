//! What several tests share: a node on loopback, with a model whose images are known, and the wire
//! written out by hand, so that every field can be broken.

pub mod demo;
mod exchange;
pub mod golden;
pub mod http2;
pub mod key_search;
pub mod klein;
mod look;
pub mod reading;
pub mod tls;

use std::{
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

pub use exchange::{Exchange, Sent, error_of, http, http_builder};
pub use look::look;

use attest::evidence::Sources;
use engine::Generator;
use flux::{Generated, Image, Job, Preview, Progress, ProgressObserver, PromptTokens, Timings};
use node::{Config, LoadedModel, LoadedModels, Node, Service};
use protocol::Size;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// The model that [`TestNode`] serves.
pub const MODEL: &str = "test/one-colour";
/// What [`OneColour`] panics at.
pub const PANIC_PROMPT: &str = "panic, please";

/// A stand-in for FLUX where a test is about everything around it: images of one colour that
/// tells seed and prompt length, so that an image given to the wrong client is noticed.
pub struct OneColour {
    /// How long each of its steps takes.
    pub step: Duration,
    /// Where it tells that a job has begun.
    pub begun: Option<mpsc::Sender<()>>,
    /// Jobs it has finished.
    pub finished: Arc<AtomicUsize>,
}

impl OneColour {
    /// One that takes no time.
    #[must_use]
    pub fn instant() -> Self {
        Self::with_step(Duration::ZERO)
    }

    /// One whose steps take so long.
    #[must_use]
    pub fn with_step(step: Duration) -> Self {
        Self { step, begun: None, finished: Arc::default() }
    }

    /// The colour of the image of this seed and prompt.
    #[must_use]
    pub fn colour(seed: u64, prompt: &str) -> [u8; 3] {
        let [low, high, ..] = seed.to_le_bytes();
        [low, high, prompt.len() as u8]
    }

    /// What it shows on the way: grey, lighter with each step.
    fn preview(job: &Job<'_>, step: usize) -> Image {
        plain(job, [step as u8; 3])
    }
}

/// The same where input images are taken: each image is of the colour of its first input image's first pixel.
pub struct Editing(pub OneColour);

impl Generator for Editing {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        let mut generated = self.0.generate(job, &mut Imageless(watch))?;
        if let Some(input) = job.images.first() {
            let colour = [0, 1, 2].map(|channel| input.rgb()[channel]);
            generated.images.iter_mut().for_each(|image| *image = plain(job, colour));
        }
        Ok(generated)
    }

    fn max_input_images(&self) -> usize {
        4
    }
}

/// Shows no image on the way: they are painted over at the end.
struct Imageless<'a>(&'a mut dyn ProgressObserver);

impl ProgressObserver for Imageless<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.0.progress(progress)
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), flux::Error> {
        self.0.preview(preview)
    }
}

fn plain(job: &Job<'_>, colour: [u8; 3]) -> Image {
    let rgb = colour.repeat(job.size.pixels() as usize);
    Image { size: job.size, rgb: rgb.into() }
}

impl Generator for OneColour {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        assert_ne!(job.prompt.expose(), PANIC_PROMPT, "a panic with the prompt in its message");
        if let Some(begun) = &self.begun {
            let _ = begun.send(());
        }
        let (steps, count) = (job.steps.get(), job.count.get());
        let prompt_tokens =
            PromptTokens { t5: job.prompt.expose().len(), computed: 256, truncated: false };
        watch.encoded(prompt_tokens);
        let image =
            |index| plain(job, Self::colour(job.seed.offset(index).get(), job.prompt.expose()));
        for index in 0..count {
            for step in 1..=steps {
                std::thread::sleep(self.step);
                if step < steps {
                    watch.preview(&Preview::new(step, index, &|| Ok(Self::preview(job, step))))?;
                }
                let progress = Progress::Step { done: index * steps + step, total: count * steps };
                if watch.progress(progress).is_break() {
                    return Err(flux::Error::Cancelled);
                }
            }
            watch.image(index, &image(index));
        }
        self.finished.fetch_add(1, Ordering::SeqCst);
        Ok(Generated {
            images: (0..count).map(image).collect(),
            prompt_tokens,
            timings: Timings::default(),
        })
    }
}

/// A node on a free port of loopback, stopped when dropped or asked to.
pub struct TestNode {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The node itself.
    pub node: Arc<Node>,
    /// The name of its first key; empty while it has none.
    pub key_id: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl TestNode {
    /// A node of the default configuration, with the route in clear text.
    ///
    /// # Panics
    /// Where it cannot start.
    pub async fn start(generator: OneColour) -> Self {
        Self::with_config(generator, Config { allow_plaintext: true, ..Config::default() }).await
    }

    /// A node of this configuration.
    ///
    /// # Panics
    /// Where it cannot start.
    pub async fn with_config(generator: OneColour, config: Config) -> Self {
        Self::with_engines(vec![generator], config).await
    }

    /// A node of this configuration, with an engine a generator.
    ///
    /// # Panics
    /// Where it cannot start.
    pub async fn with_engines(generators: Vec<OneColour>, config: Config) -> Self {
        let generators = generators.into_iter().map(|generator| Box::new(generator) as _).collect();
        Self::loaded(LoadedModel { generators, ..loaded_model(OneColour::instant()) }, config).await
    }

    /// A node that offers this.
    ///
    /// # Panics
    /// Where it cannot start.
    pub async fn loaded(loaded: impl Into<LoadedModels>, config: Config) -> Self {
        let mut this = Self::loading(config).await;
        let service = Service::start(loaded, Sources::simulated(), &this.node).expect("it starts");
        this.key_id = service.key_id().to_string();
        this.node.start(service);
        this
    }

    /// A node that has no model yet.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn loading(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let node = Node::new(config).expect("a sound configuration");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(node::serve(listener, node.clone(), async {
            let _ = stopped.await;
        }));
        Self { url, node, key_id: String::new(), stop: Some(stop), serving }
    }

    /// A number out of the node's metrics.
    ///
    /// # Panics
    /// Where it has none of this name, with these labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let answer = http().get(format!("{}/metrics", self.url)).send().await.expect("an answer");
        let text = answer.text().await.expect("a text");
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = values.next().unwrap_or_else(|| panic!("{name} in {text}"));
        value.parse().expect("a number")
    }

    /// Requests that wait or run.
    pub async fn queue_depth(&self) -> usize {
        self.metric("obscura_queue_depth").await as usize
    }

    /// Asks the node to stop; resolves when it has.
    pub fn stop(mut self) -> impl Future<Output = ()> {
        self.stop.take();
        async move {
            self.serving.await.expect("serving does not panic");
        }
    }
}

/// A node that takes input images, of this configuration.
///
/// # Panics
/// Where it cannot start.
pub async fn editing_node(config: Config) -> TestNode {
    let generators: Vec<Box<dyn Generator>> = vec![Box::new(Editing(OneColour::instant()))];
    let loaded = LoadedModel { generators, ..loaded_model(OneColour::instant()) };
    TestNode::loaded(loaded, config).await
}

/// The policy that accepts simulated nodes.
#[must_use]
pub fn demo_policy() -> attest::Policy {
    attest::Policy::production().dangerous().accept_simulated()
}

/// The test's model, as a node offers it.
#[must_use]
pub fn loaded_model(generator: OneColour) -> LoadedModel {
    LoadedModel {
        model: MODEL.to_owned(),
        native_size: Size::new(64, 64).expect("multiples of 16"),
        manifest: b"one colour\n".to_vec(),
        generators: vec![Box::new(generator)],
    }
}
