//! Requests that wait together are drawn together, and none of them notices.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use engine::Generator;
use flux::{Generated, Job, ProgressObserver};
use node::{Config, LoadedModel};
use protocol::Seed;
use serde_json::{Value, json};
use tests::{MODEL, OneColour, PANIC_PROMPT, TestNode, http, loaded_model};
use tokio::task::JoinHandle;

/// Draws up to four images together. Waits for a word before each batch, and keeps what it was asked.
struct Four {
    one: OneColour,
    begun: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
    batches: Arc<Mutex<Vec<Vec<String>>>>,
}

/// What the test keeps of it.
struct Held {
    begun: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
    batches: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Four {
    fn new() -> (Self, Held) {
        let ((begin, begun), (go_on, wait)) = (mpsc::channel(), mpsc::channel());
        let batches = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let one = OneColour::instant();
        let four = Self { one, begun: begin, go_on: wait, batches: batches.clone() };
        (four, Held { begun, go_on, batches })
    }

    fn hold(&self, prompts: Vec<String>) {
        self.batches.lock().unwrap().push(prompts);
        let _ = self.begun.send(());
        let _ = self.go_on.recv();
    }
}

impl Generator for Four {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        self.hold(vec![job.prompt.expose().to_owned()]);
        self.one.generate(job, watch)
    }

    fn batch_size(&self, _: &Job<'_>) -> usize {
        4
    }

    fn generate_batch(
        &mut self,
        jobs: &mut [(&Job<'_>, &mut dyn ProgressObserver)],
    ) -> Result<Vec<Result<Generated, flux::Error>>, flux::Error> {
        self.hold(jobs.iter().map(|(job, _)| job.prompt.expose().to_owned()).collect());
        Ok(jobs.iter_mut().map(|(job, watch)| self.one.generate(job, &mut **watch)).collect())
    }
}

async fn node(generator: Four) -> TestNode {
    let loaded =
        LoadedModel { generators: vec![Box::new(generator)], ..loaded_model(OneColour::instant()) };
    TestNode::loaded(loaded, Config { allow_plaintext: true, ..Config::default() }).await
}

/// Sends a request, and returns once it waits or runs behind `before` others.
async fn ask(
    node: &TestNode,
    prompt: &str,
    fields: Value,
    before: usize,
) -> JoinHandle<(u16, Value)> {
    let mut body = json!({"model": MODEL, "prompt": prompt, "seed": 7});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let url = format!("{}/v1/images/generations", node.url);
    let answer = tokio::spawn(async move {
        let answer = http().post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    });
    while node.queue_depth().await <= before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answer
}

/// The colour of each image is what the prompt's own would be.
async fn assert_drawn(answer: JoinHandle<(u16, Value)>, prompt: &str, images: usize) {
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), images);
    for (index, data) in data.iter().enumerate() {
        let png = STANDARD.decode(data["b64_json"].as_str().unwrap()).unwrap();
        let image = image::load_from_memory(&png).unwrap().into_rgb8();
        let seed = Seed::new(7).offset(index).get();
        assert_eq!(image.get_pixel(0, 0).0, OneColour::colour(seed, prompt));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_size_are_drawn_together() {
    let (generator, held) = Four::new();
    let node = node(generator).await;
    let first = ask(&node, "first", json!({}), 0).await;
    held.begun.recv().unwrap();
    // While it is drawn, others come: of its size and steps, of another size, of other steps, and one
    // that wants more images than there is room for.
    let mut waiting = Vec::new();
    for (prompt, fields) in [
        ("a", json!({})),
        ("large", json!({"size": "128x64"})),
        ("bb", json!({"n": 2})),
        ("slow", json!({"steps": 9})),
        ("many", json!({"n": 3})),
        ("ccc", json!({})),
        ("dddd", json!({})),
    ] {
        waiting.push(ask(&node, prompt, fields, 1 + waiting.len()).await);
    }
    for _ in 0..7 {
        held.go_on.send(()).unwrap();
    }
    assert_drawn(first, "first", 1).await;
    let expected =
        [("a", 1), ("large", 1), ("bb", 2), ("slow", 1), ("many", 3), ("ccc", 1), ("dddd", 1)];
    for (answer, (prompt, images)) in waiting.into_iter().zip(expected) {
        assert_drawn(answer, prompt, images).await;
    }
    let batches = held.batches.lock().unwrap();
    let found: Vec<String> = batches.iter().map(|batch| batch.join(" ")).collect();
    assert_eq!(found, ["first", "a bb ccc", "large", "slow", "many dddd"]);
}

/// A panic, or a client that is gone, costs none of those beside it anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_befalls_one_befalls_no_other() {
    let (generator, held) = Four::new();
    let node = node(generator).await;
    let first = ask(&node, "first", json!({}), 0).await;
    held.begun.recv().unwrap();
    let a = ask(&node, "a", json!({}), 1).await;
    let panics = ask(&node, PANIC_PROMPT, json!({}), 2).await;
    let gone = ask(&node, "gone", json!({}), 3).await;
    let ccc = ask(&node, "ccc", json!({}), 4).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    // Until the node has noticed.
    while node.queue_depth().await > 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..8 {
        held.go_on.send(()).unwrap();
    }
    assert_drawn(first, "first", 1).await;
    assert_drawn(a, "a", 1).await;
    assert_drawn(ccc, "ccc", 1).await;
    let (status, error) = panics.await.unwrap();
    assert_eq!((status, error["error"]["type"].as_str().unwrap()), (500, "server_error"));
    let batches = held.batches.lock().unwrap();
    let found: Vec<String> = batches.iter().map(|batch| batch.join(" ")).collect();
    let together = format!("a {PANIC_PROMPT} ccc");
    assert_eq!(found, ["first", together.as_str(), "a", PANIC_PROMPT, "ccc"]);
}
