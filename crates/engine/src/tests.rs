//! Batches and turns, with a generator that waits for a word before each run. No HTTP.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use flux::{Generated, Image, InputImage, Job, Progress, ProgressObserver, PromptTokens, Timings};
use protocol::{
    CreateImageRequest, Delivery, GuidanceUse, ImageRequest, Limits, ModelCapabilities, Seed, Size,
};

use crate::{
    ClientId, Engine, GenerateError, Generation, Generator, NamedGenerator, QueueLimits, Update,
    updates,
};

const PANIC: &str = "panic";

/// Makes up to four images together.
#[derive(Clone)]
struct Four {
    /// Told before what it draws.
    name: &'static str,
    begun: mpsc::Sender<()>,
    go_on: Arc<Mutex<mpsc::Receiver<()>>>,
    batches: Arc<Mutex<Vec<String>>>,
}

/// What a test keeps of it.
struct Held {
    engine: Engine,
    begun: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
    batches: Arc<Mutex<Vec<String>>>,
}

impl Four {
    fn hold(&self, prompts: &[&str]) {
        self.batches.lock().unwrap().push(format!("{}{}", self.name, prompts.join(" ")));
        let _ = self.begun.send(());
        let _ = self.go_on.lock().unwrap().recv();
    }

    fn one(job: &Job<'_>, watch: &mut dyn ProgressObserver) -> Result<Generated, flux::Error> {
        assert_ne!(job.prompt.expose(), PANIC);
        let total = job.steps.get() * job.count.get();
        if watch.progress(Progress::Step { done: total, total }).is_break() {
            return Err(flux::Error::Cancelled);
        }
        let length = job.prompt.expose().len();
        let image = || Image { size: job.size, rgb: vec![length as u8].into() };
        Ok(Generated {
            images: (0..job.count.get()).map(|_| image()).collect(),
            prompt_tokens: PromptTokens { t5: length, computed: 256, truncated: false },
            timings: Timings::default(),
        })
    }
}

impl Generator for Four {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        self.hold(&[job.prompt.expose()]);
        Self::one(job, watch)
    }

    fn batch_size(&self, _: &Job<'_>) -> usize {
        4
    }

    fn generate_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn ProgressObserver)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        self.hold(&jobs.iter().map(|(job, _)| job.prompt.expose()).collect::<Vec<_>>());
        Ok(jobs.iter_mut().map(|(job, watch)| Self::one(job, &mut **watch)).collect())
    }
}

impl Held {
    fn new() -> Self {
        Self::with_deadline(Duration::from_secs(60))
    }

    fn with_deadline(deadline: Duration) -> Self {
        let ((begin, begun), (go_on, wait)) = (mpsc::channel(), mpsc::channel());
        let batches = Arc::<Mutex<Vec<String>>>::default();
        let go_on_first = Arc::new(Mutex::new(wait));
        let four = Four { name: "", begun: begin, go_on: go_on_first, batches: batches.clone() };
        let limits = QueueLimits { capacity: 15, deadline, share: 0.5 };
        let models = [("m", ""), ("other", "other: ")].map(|(model, name)| NamedGenerator {
            model: model.to_owned(),
            generator: Box::new(Four { name, ..four.clone() }),
        });
        let engine = Engine::start(vec![models.into()], limits, Arc::new(())).unwrap();
        Self { engine, begun, go_on, batches }
    }

    /// Asks for images; returns once the request waits or runs.
    async fn ask(&self, client: u8, request: ImageRequest) -> Generation {
        self.ask_from(client, request, Vec::new()).await
    }

    /// The same from input images.
    async fn ask_from(
        &self,
        client: u8,
        request: ImageRequest,
        images: Vec<InputImage>,
    ) -> Generation {
        let permit = self.engine.reserve(ClientId::new([client; 32])).unwrap();
        let generation = permit.generate(request, images);
        tokio::task::yield_now().await;
        generation
    }

    /// Lets so many runs go on, and gives what was run in all.
    fn let_run(&self, runs: usize) {
        for _ in 0..runs {
            self.go_on.send(()).unwrap();
        }
    }

    fn batches(&self) -> Vec<String> {
        self.batches.lock().unwrap().clone()
    }
}

fn request(prompt: &str) -> ImageRequest {
    parsed(prompt, CreateImageRequest::default())
}

fn parsed(prompt: &str, fields: CreateImageRequest) -> ImageRequest {
    let limits = Limits { max_pixels: 1 << 20, max_total_pixels: 1 << 24, max_prompt_chars: 100 };
    let native_size = Size::new(64, 64).unwrap();
    let guidance = GuidanceUse::Ignores;
    let capabilities = ModelCapabilities {
        model: "m".to_owned(),
        native_size,
        guidance,
        max_input_images: 4,
        limits,
    };
    let fields = CreateImageRequest {
        model: Some("m".to_owned()),
        prompt: Some(prompt.to_owned().into()),
        ..fields
    };
    ImageRequest::parse(fields, &capabilities, || Seed::new(7)).unwrap()
}

async fn assert_made(generation: Generation, prompt: &str, images: usize) {
    let output = generation.await.unwrap();
    assert_eq!(output.request.prompt.expose(), prompt);
    assert_eq!(output.generated.images.len(), images);
    assert!(output.generated.images.iter().all(|image| image.rgb[0] == prompt.len() as u8));
}

#[tokio::test]
async fn requests_of_one_size_are_batched() {
    let held = Held::new();
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let n = |n| CreateImageRequest { n: Some(n), ..CreateImageRequest::default() };
    let size = CreateImageRequest { size: Some("128x64".to_owned()), ..n(1) };
    let steps = CreateImageRequest { steps: Some(9), ..n(1) };
    let asked = [
        ("a", n(1)),
        ("large", size),
        ("bb", n(2)),
        ("slow", steps),
        ("many", n(3)),
        ("ccc", n(1)),
        ("dddd", n(1)),
    ];
    let mut waiting = Vec::new();
    for (prompt, fields) in asked {
        let fields = parsed(prompt, fields);
        waiting.push((prompt, fields.count.get(), held.ask(0, fields).await));
    }
    held.let_run(7);
    assert_made(first, "first", 1).await;
    for (prompt, images, generation) in waiting {
        assert_made(generation, prompt, images).await;
    }
    assert_eq!(held.batches(), ["first", "a bb ccc", "large", "slow", "many dddd"]);
}

/// Together only where their input images are alike, and each from its own.
#[tokio::test]
async fn edits_are_batched_by_their_input_images() {
    let held = Held::new();
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let image = |side: usize| InputImage::new(side, side, vec![1; 3 * side * side].into()).unwrap();
    let mut waiting = Vec::new();
    for (prompt, sides) in [
        ("a", &[64, 64][..]),
        ("plain", &[]),
        ("bb", &[64, 64]),
        // Read as if they were of 64 pixels.
        ("ccc", &[64, 79]),
        ("other", &[64, 80]),
        ("one", &[64]),
    ] {
        let images = sides.iter().map(|side| image(*side)).collect();
        waiting.push((prompt, held.ask_from(0, request(prompt), images).await));
    }
    held.let_run(7);
    assert_made(first, "first", 1).await;
    for (prompt, generation) in waiting {
        let output = generation.await.unwrap();
        assert_eq!(output.request.prompt.expose(), prompt);
        let patches = match prompt {
            "plain" => 0,
            "one" => 16,
            "other" => 41,
            _ => 32,
        };
        assert_eq!(output.input_patches, patches);
    }
    assert_eq!(held.batches(), ["first", "a bb ccc", "plain", "other", "one"]);
}

#[tokio::test]
async fn each_model_draws_what_is_asked_of_it_and_batches_its_own() {
    let held = Held::new();
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let mut waiting = Vec::new();
    for (model, prompt) in [("other", "a"), ("m", "bb"), ("other", "ccc"), ("m", "dddd")] {
        let request = ImageRequest { model: model.to_owned(), ..request(prompt) };
        waiting.push((prompt, held.ask(0, request).await));
    }
    let unknown = ImageRequest { model: "none".to_owned(), ..request("e") };
    let unknown = held.ask(0, unknown).await;
    held.let_run(3);
    assert_made(first, "first", 1).await;
    for (prompt, generation) in waiting {
        assert_made(generation, prompt, 1).await;
    }
    assert_eq!(unknown.await.err(), Some(GenerateError::Generation));
    assert_eq!(held.batches(), ["first", "other: a ccc", "bb dddd"]);
}

#[tokio::test]
async fn a_panic_or_a_client_that_is_gone_costs_the_others_nothing() {
    let held = Held::new();
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let a = held.ask(0, request("a")).await;
    let panics = held.ask(0, request(PANIC)).await;
    let gone = held.ask(0, request("gone")).await;
    let ccc = held.ask(0, request("ccc")).await;
    assert_eq!(held.engine.depth(), 5);
    drop(gone);
    while held.engine.depth() > 4 {
        tokio::task::yield_now().await;
    }
    held.let_run(8);
    assert_made(first, "first", 1).await;
    assert_made(a, "a", 1).await;
    assert_made(ccc, "ccc", 1).await;
    assert_eq!(panics.await.err(), Some(GenerateError::Generation));
    assert_eq!(held.batches(), ["first", "a panic ccc", "a", "panic", "ccc"]);
}

#[tokio::test]
async fn clients_take_turns() {
    let held = Held::new();
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let mut waiting = Vec::new();
    // Of different steps, so that none are batched.
    for (steps, (client, prompt)) in
        (5..).zip([(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2"), (3, "c1")])
    {
        let fields = CreateImageRequest { steps: Some(steps), ..CreateImageRequest::default() };
        waiting.push((prompt, held.ask(client, parsed(prompt, fields)).await));
    }
    held.let_run(7);
    assert_made(first, "first", 1).await;
    for (prompt, generation) in waiting {
        assert_made(generation, prompt, 1).await;
    }
    assert_eq!(held.batches(), ["first", "a1", "b1", "c1", "a2", "b2", "a3"]);
}

/// Neither the place nor the engine waits for whoever is to read the updates.
#[tokio::test]
async fn a_listener_that_never_reads_holds_nothing() {
    let held = Held::new();
    let fields = CreateImageRequest {
        stream: Some(true),
        partial_images: Some(3),
        ..CreateImageRequest::default()
    };
    let request = parsed("a", fields);
    assert!(matches!(request.delivery, Delivery::Stream { .. }));
    let (sender, mut unread) = updates();
    let permit = held.engine.reserve(ClientId::ANONYMOUS).unwrap();
    let generation = permit.generate_watched(Arc::new(request), Vec::new(), sender);
    held.let_run(1);
    while held.engine.depth() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Nobody has looked until now.
    assert_made(generation, "a", 1).await;
    assert!(matches!(unread.next().await, Some(Update::Step { done: 4, total: 4 })));
    assert!(unread.next().await.is_none());
}

/// The deadline too: here it ends a request that nobody looks at while the engine is busy.
#[tokio::test]
async fn the_deadline_ends_what_nobody_looks_at() {
    let held = Held::with_deadline(Duration::from_millis(50));
    let generation = held.ask(0, request("a")).await;
    held.begun.recv().unwrap();
    while held.engine.depth() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(generation.await.err(), Some(GenerateError::Deadline));
    held.let_run(1);
}

/// What it waited for before counts too, however short its turn in the queue is.
#[tokio::test]
async fn one_deadline_covers_all_waiting() {
    let held = Held::with_deadline(Duration::from_secs(60));
    let first = held.ask(0, request("first")).await;
    held.begun.recv().unwrap();
    let permit = held.engine.reserve(ClientId::ANONYMOUS).unwrap();
    let since = Instant::now() - Duration::from_secs(60);
    let late = permit.waiting_since(since).generate(request("late"), Vec::new());
    assert_eq!(late.await.err(), Some(GenerateError::Deadline));
    held.let_run(1);
    assert_made(first, "first", 1).await;
    assert_eq!(held.batches(), ["first"]);
}

/// Told by what it captured: called, or dropped.
#[tokio::test]
async fn who_waits_for_an_engine_to_begin_is_told_whether_it_does() {
    let held = Held::new();
    let ask = async |prompt| {
        let (begins, told) = tokio::sync::oneshot::channel();
        let permit = held.engine.reserve(ClientId::ANONYMOUS).unwrap();
        let permit = permit.on_begin(move || {
            let _ = begins.send(());
        });
        let generation = permit.generate(request(prompt), Vec::new());
        tokio::task::yield_now().await;
        (generation, told)
    };
    let (first, first_begins) = ask("first").await;
    held.begun.recv().unwrap();
    assert!(first_begins.await.is_ok());
    let (gone, gone_begins) = ask("gone").await;
    let (drained, drained_begins) = ask("drained").await;
    drop(gone);
    assert!(gone_begins.await.is_err());
    held.engine.drain();
    assert!(drained_begins.await.is_err());
    assert_eq!(drained.await.err(), Some(GenerateError::Draining));
    held.let_run(1);
    assert_made(first, "first", 1).await;
}
