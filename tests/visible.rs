//! What somebody on the way sees of sealed answers: as much for every prompt, seed and image of one
//! size, number and format.

use std::collections::BTreeSet;

use engine::Generator;
use flux::{Generated, Image, Job, Preview, Progress, ProgressObserver, PromptTokens, Timings};
use node::{Config, LoadedModel};
use serde_json::{Value, json};
use tests::{Exchange, OneColour, TestNode, loaded_model, look};

/// Draws what the prompt says: one colour, a gradient, or, in "noise", what no compression makes
/// small. Counts every character as a token, and cuts at 100.
struct Varied;

impl Varied {
    fn image(job: &Job<'_>, brightness: usize) -> Image {
        let mut state = job.seed.get() as u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let prompt = job.prompt.expose();
        let shade = |at: usize| match prompt {
            _ if prompt.contains("noise") => noise(),
            _ if prompt.contains("gradient") => (at / 7 + brightness) as u8,
            _ => brightness as u8,
        };
        let rgb: Vec<u8> = (0..3 * job.size.pixels() as usize).map(shade).collect();
        Image { size: job.size, rgb: rgb.into() }
    }
}

impl Generator for Varied {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        let (steps, count) = (job.steps.get(), job.count.get());
        for index in 0..count {
            for step in 1..=steps {
                if step < steps {
                    let image = || Ok(Self::image(job, 9 * step));
                    watch.preview(&Preview::new(step, index, &image))?;
                }
                let progress = Progress::Step { done: index * steps + step, total: count * steps };
                let _ = watch.progress(progress);
            }
        }
        let used = job.prompt.expose().chars().count();
        Ok(Generated {
            images: (0..count).map(|index| Self::image(job, index)).collect(),
            prompt_tokens: PromptTokens { t5: used.min(100), computed: 256, truncated: used > 100 },
            timings: Timings::default(),
        })
    }
}

async fn node() -> TestNode {
    let model =
        LoadedModel { generators: vec![Box::new(Varied)], ..loaded_model(OneColour::instant()) };
    TestNode::loaded(model, Config::default()).await
}

/// What differs from client to client, and is not to be seen.
fn secrets(noise_too: bool) -> Vec<Value> {
    let long = "\u{1}\"狐".repeat(333);
    let mut all = vec![
        json!({"prompt": "x"}),
        json!({"prompt": "a gradient", "seed": u64::from(u32::MAX)}),
        json!({"prompt": "x".repeat(1000), "seed": 0}),
        json!({"prompt": long, "style": "vivid"}),
        json!({"prompt": "a gradient", "response_format": "url", "user": "somebody"}),
        json!({"prompt": "x", "quality": "low"}),
    ];
    if noise_too {
        all.push(json!({"prompt": "noise"}));
        all.push(json!({"prompt": "noise", "seed": 7, "style": "vivid"}));
    }
    all
}

/// Everything outside of the ciphertext.
async fn seen(node: &TestNode, fields: &Value, shape: &Value) -> String {
    let mut fields = fields.clone();
    fields.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
    let stream = fields["stream"].as_bool();
    let mut exchange = Exchange::of(&node.url, fields).await;
    exchange.envelope.stream = stream;
    let answer = exchange.request().send().await.unwrap();
    look(answer).await
}

async fn assert_one_look(node: &TestNode, secrets: &[Value], shape: &Value) -> String {
    let mut looks = BTreeSet::new();
    for fields in secrets {
        looks.insert(seen(node, fields, shape).await);
    }
    assert_eq!(looks.len(), 1, "{shape}: {looks:#?}");
    looks.pop_first().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_look_alike() {
    let node = node().await;
    for (size, n, format) in
        [("64x64", 1, "png"), ("48x32", 3, "png"), ("64x64", 2, "jpeg"), ("208x112", 1, "webp")]
    {
        let shape = json!({"size": size, "n": n, "output_format": format});
        let look = assert_one_look(&node, &secrets(format == "png"), &shape).await;
        assert!(look.starts_with("200") && look.contains(r#""prompt_tokens":256"#), "{look}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_look_alike() {
    let node = node().await;
    // Of one number of steps: as many events, each as long as its kind.
    for (n, format) in [(2, "png"), (1, "jpeg"), (1, "webp")] {
        let shape = json!({"size": "64x64", "n": n, "output_format": format, "steps": 4,
            "stream": true, "progress": true, "partial_images": 2});
        let mut secrets = secrets(format == "png");
        secrets.retain(|fields| fields.get("response_format").is_none());
        let look = assert_one_look(&node, &secrets, &shape).await;
        assert!(look.contains("text/event-stream") && look.contains(r#""prompt_tokens":256"#));
    }
}
