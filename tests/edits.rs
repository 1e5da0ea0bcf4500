//! Edits: from images and a prompt, in clear text and sealed, as JSON and as a form. The images are the model's own.

#[path = "edits/bad_input.rs"]
mod bad_input;
#[path = "edits/masks.rs"]
mod masks;

use std::{
    io::Cursor,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use client::{ApiKey, Client, image_file};
use flux::{GUIDANCE, InputImage, Job, Pipeline};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use node::{ApiKeyDigest, Config, LoadedModel};
use protocol::{
    Count, CreateImageRequest, CreateImageResponse, ImageEvent, InputReference, Prompt, Seed, Size,
    Steps, Usage,
};
use serde_json::{Value, json};
use tests::{
    Exchange, MODEL, OneColour, TestNode, demo_policy, editing_node, http, klein, loaded_model,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PROMPT: &str = "the same with a hat";

/// A file, and what it shows.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let rgb = klein::pattern(width, height);
    PngEncoder::new(&mut file).write_image(&rgb, width, height, ExtendedColorType::Rgb8).unwrap();
    file.into_inner()
}

pub(crate) fn data_url(file: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(file))
}

/// The body of a form, and its media type.
pub(crate) fn form(fields: &[(&str, &[u8])]) -> (Vec<u8>, &'static str) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = if name.starts_with("image") { "; filename=\"a\"" } else { "" };
        let head =
            format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n");
        body.extend([head.as_bytes(), value, b"\r\n"].concat());
    }
    body.extend(b"--xyz--\r\n");
    (body, "multipart/form-data; boundary=xyz")
}

struct Klein {
    node: TestNode,
    /// The same model, to compare with.
    pipeline: Pipeline,
}

impl Klein {
    async fn start() -> Self {
        let directory = klein::model_directory("klein-1x1");
        let load = || klein::load(directory.path());
        let loaded = LoadedModel {
            generators: vec![Box::new(load())],
            ..loaded_model(OneColour::instant())
        };
        let config = Config { allow_plaintext: true, ..Config::default() };
        Self { node: TestNode::loaded(loaded, config).await, pipeline: load() }
    }

    /// What the model makes of these images, seed by seed.
    fn expected(&self, images: &[InputImage], size: &str, count: i64) -> Vec<Vec<u8>> {
        let prompt = Prompt::new(PROMPT.to_owned()).unwrap();
        let job = Job {
            prompt: &prompt,
            size: size.parse::<Size>().unwrap(),
            steps: Steps::new(2).unwrap(),
            seed: Seed::new(7),
            count: Count::new(count).unwrap(),
            guidance: GUIDANCE,
            images,
        };
        let made = self.pipeline.generate(&job, &mut |_| ControlFlow::Continue(())).unwrap();
        made.images.iter().map(|image| image.rgb.to_vec()).collect()
    }

    async fn post(&self, body: Vec<u8>, media_type: &str) -> (u16, String) {
        let url = format!("{}/v1/images/edits", self.node.url);
        let asked = http().post(url).header("content-type", media_type).body(body);
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// One client's edits, on their way or waiting, keep no other's out.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_few_edits_on_their_way() {
    let keys = ["a", "b"];
    let config = Config {
        allow_plaintext: true,
        api_keys_sha256: keys.map(ApiKeyDigest::of).to_vec(),
        queue_capacity: 4,
        ..Config::default()
    };
    let node = editing_node(config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    let arrives = Arc::new(AtomicBool::new(true));
    for _ in 0..2 {
        let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let head = "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n\
                    Content-Type: application/json\r\nContent-Length: 20000000\r\n\r\n{";
        writer.write_all(head.as_bytes()).await.unwrap();
        let arrives = arrives.clone();
        // Three times as fast as it has to.
        tokio::spawn(async move {
            while arrives.load(Ordering::Relaxed)
                && writer.write_all(&[b' '; 1 << 15]).await.is_ok()
            {
                tokio::time::sleep(Duration::from_millis(80)).await;
            }
            std::future::pending::<()>().await;
        });
        open.push(reader);
    }
    let post = async |key: &str| {
        let (body, media_type) =
            form(&[("prompt", b"x"), ("steps", b"1"), ("image", &png(64, 64))]);
        let url = format!("{}/v1/images/edits", node.url);
        let asked = http().post(url).bearer_auth(key).header("content-type", media_type).body(body);
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let refused = async {
        loop {
            let (status, text) = post("a").await;
            if status == 429 {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = timeout(Duration::from_secs(20), refused).await.expect("they are counted");
    assert!(refused.contains("queue_share_full"), "{refused}");
    assert_eq!(post("b").await.0, 200);
    // What does not arrive any more makes way for its own client's next.
    arrives.store(false, Ordering::Relaxed);
    let taken_on = async { while post("a").await.0 != 200 {} };
    timeout(Duration::from_secs(20), taken_on).await.expect("the oldest makes way");
    let (mut first, mut second) = ([0; 12], [0; 12]);
    let [one, other] = &mut open[..] else { panic!("there are two") };
    let told = tokio::select! {
        read = one.read_exact(&mut first) => read.map(|_| first),
        read = other.read_exact(&mut second) => read.map(|_| second),
    };
    assert_eq!(&told.unwrap(), b"HTTP/1.1 429");
}

fn fields(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": PROMPT, "steps": 2, "seed": 7});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn shown(file: &[u8]) -> Vec<u8> {
    image::load_from_memory(file).unwrap().to_rgb8().into_raw()
}

fn images_of(answer: &CreateImageResponse) -> Vec<Vec<u8>> {
    answer.data.iter().map(|entry| shown(&image_file(entry).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ways_give_the_models_own_images() {
    let klein = Klein::start().await;
    let (first, second) = (png(96, 70), png(64, 80));
    let inputs = [klein::input_image(96, 70), klein::input_image(64, 80)];
    // As large as the first image, in whole tokens.
    let expected = klein.expected(&inputs, "96x64", 2);

    let urls = json!([data_url(&first), {"image_url": data_url(&second)}]);
    let body = fields(json!({"images": urls, "n": 2}));
    let (status, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{text}");
    let in_json = CreateImageResponse::from_json(text.as_bytes()).unwrap();
    assert!(images_of(&in_json) == expected);
    assert_eq!(in_json.size.as_deref(), Some("96x64"));
    let usage = in_json.usage.unwrap();
    assert_eq!(usage.input_tokens_details.image_tokens, 6 * 4 + 4 * 5);
    assert_eq!(usage.input_tokens, usage.input_tokens_details.text_tokens + 44);
    assert_eq!(usage.output_tokens, 2 * 6 * 4);

    let texts: [(&str, &[u8]); 5] = [
        ("model", MODEL.as_bytes()),
        ("prompt", PROMPT.as_bytes()),
        ("n", b"2"),
        ("steps", b"2"),
        ("seed", b"7"),
    ];
    let files = [("image[]", &first[..]), ("image[]", &second[..])];
    let (body, media_type) = form(&[&texts[..], &files[..]].concat());
    let (status, text) = klein.post(body, media_type).await;
    assert_eq!(status, 200, "{text}");
    assert!(images_of(&CreateImageResponse::from_json(text.as_bytes()).unwrap()) == expected);

    let sealed = Exchange::of(&klein.node.url, body_of(&urls, 2)).await.to_edits().send().await;
    let told: Usage = serde_json::from_value(
        serde_json::from_str::<Value>(&sealed.text).unwrap()["usage"].clone(),
    )
    .unwrap();
    // In steps, beside the 512 text tokens that are computed whatever the prompt.
    assert_eq!(told.prompt_tokens % Usage::IMAGE_TOKENS_STEP, 512);
    let sealed = sealed.images();
    assert!(images_of(&sealed) == expected);
    assert_eq!(sealed.usage.unwrap(), usage);

    // One image, another size, and no image at all make others.
    let alone = klein.expected(&inputs[..1], "64x64", 1);
    let body = fields(json!({"images": [data_url(&first)], "size": "64x64"}));
    let (_, text) = klein.post(body.to_string().into_bytes(), "application/json").await;
    assert!(images_of(&CreateImageResponse::from_json(text.as_bytes()).unwrap()) == alone);
    assert!(klein.expected(&[], "64x64", 1) != alone);
}

fn body_of(images: &Value, n: u8) -> Value {
    fields(json!({"images": images, "n": n}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_names_of_edits() {
    let klein = Klein::start().await;
    let file = png(64, 64);
    let expected = klein.expected(&[klein::input_image(64, 64)], "64x64", 1).remove(0);
    let more =
        json!({"images": [data_url(&file)], "stream": true, "partial_images": 1, "progress": true});
    let (status, text) =
        klein.post(fields(more).to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{text}");
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let progress = "image_edit.progress";
    let mut expected_names = vec![progress, "image_edit.partial_image", progress, progress];
    let mut found = names.clone();
    assert_eq!(found.pop(), Some("image_edit.completed"));
    found.sort_unstable();
    expected_names.sort_unstable();
    assert_eq!(found, expected_names);
    let mut events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let last: Value = serde_json::from_str(events.next_back().unwrap()).unwrap();
    assert_eq!(last["type"], "image_edit.completed");
    let file_made = BASE64_STANDARD.decode(last["b64_json"].as_str().unwrap()).unwrap();
    assert!(shown(&file_made) == expected);
    assert_eq!(last["usage"]["input_tokens_details"]["image_tokens"], 16);

    // Sealed, by our own client, which picks the route by what it is given.
    let client = Client::new(&klein.node.url, ApiKey::none()).unwrap();
    let node = client.attest(&demo_policy()).await.unwrap();
    let request = || CreateImageRequest {
        model: Some(MODEL.to_owned()),
        prompt: Some(PROMPT.to_owned().into()),
        steps: Some(2),
        seed: Some(7),
        images: Some(vec![InputReference::file(file.clone().into())]),
        ..CreateImageRequest::default()
    };
    let mut events = client.generate_stream(request(), &node).await.unwrap();
    let mut made = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        if let ImageEvent::Completed(event) = event {
            made.push(shown(&client::decode_image(&event.b64_json).unwrap()));
        }
    }
    assert!(made == [expected.clone()]);
    let answer = client.generate(request(), &node).await.unwrap();
    assert!(images_of(&answer.response) == [expected]);
}
