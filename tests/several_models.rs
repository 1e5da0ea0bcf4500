//! One node with several models: each is listed, asked for by its name, sealed or in clear text, and told by one
//! manifest that evidence binds.

use std::{
    io::Cursor,
    ops::ControlFlow,
    sync::{Arc, Mutex},
};

use attest::Report;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use client::{ApiKey, Client, image_file};
use engine::{Generator, ProgressObserver};
use flux::{Error, GUIDANCE, Generated, Job};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use node::{Config, LoadedModel, ProvenanceChoice};
use protocol::{
    Count, CreateImageRequest, CreateImageResponse, InputReference, Prompt, Seed, Size, Steps,
};
use provenance::{MarkId, SignedReceipt, find_mark};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tests::{MODEL, OneColour, TestNode, demo_policy, error_of, http, klein, loaded_model};

const OTHER: &str = "test/other";

/// Draws one colour, and notes by which model it was asked.
struct Noted {
    name: &'static str,
    inner: OneColour,
    asked: Arc<Mutex<Vec<&'static str>>>,
    input_images: usize,
}

impl Generator for Noted {
    fn generate(
        &mut self,
        job: &Job<'_>,
        watch: &mut dyn ProgressObserver,
    ) -> Result<Generated, Error> {
        self.asked.lock().unwrap().push(self.name);
        self.inner.generate(job, watch)
    }

    fn max_input_images(&self) -> usize {
        self.input_images
    }
}

/// A node with two models, of which the second takes images, and who was asked for what.
async fn node() -> (TestNode, Arc<Mutex<Vec<&'static str>>>) {
    let asked = Arc::<Mutex<Vec<&'static str>>>::default();
    let model = |name: &'static str, side: u32, input_images| {
        let (inner, asked) = (OneColour::instant(), asked.clone());
        LoadedModel {
            model: name.to_owned(),
            native_size: Size::new(side, side).unwrap(),
            manifest: format!("manifest of {name}\n").into_bytes(),
            generators: vec![Box::new(Noted { name, inner, asked, input_images })],
        }
    };
    let provenance = ProvenanceChoice::Mark;
    let config = Config { allow_plaintext: true, provenance, ..Config::default() };
    (TestNode::loaded(vec![model(MODEL, 64, 0), model(OTHER, 128, 4)], config).await, asked)
}

async fn json_of(node: &TestNode, path: &str) -> Value {
    http().get(format!("{}{path}", node.url)).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn each_is_asked_for_by_its_name_and_the_first_where_none_is_told() {
    let (node, asked) = node().await;
    for (model, size) in [(Some(OTHER), "128x128"), (None, "64x64"), (Some(MODEL), "64x64")] {
        let mut body = json!({ "prompt": "a", "seed": 1 });
        if let Some(model) = model {
            body["model"] = model.into();
        }
        let url = format!("{}/v1/images/generations", node.url);
        let answer = http().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{model:?}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["size"], size, "{model:?}");
    }
    assert_eq!(*asked.lock().unwrap(), [OTHER, MODEL, MODEL]);
    assert_eq!(node.metric(&format!("obscura_images_total{{model=\"{OTHER}\"}}")).await, 1.0);
    assert_eq!(node.metric(&format!("obscura_images_total{{model=\"{MODEL}\"}}")).await, 2.0);
    let pixels = node.metric(&format!("obscura_pixels_total{{model=\"{OTHER}\"}}")).await;
    assert_eq!(pixels, 128.0 * 128.0);

    // By the path of Azure's clients too.
    let url = format!("{}/openai/deployments/{OTHER}/images/generations", node.url);
    let answer = http().post(url).json(&json!({ "prompt": "a" })).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["size"], "128x128");
}

#[tokio::test]
async fn all_are_listed_and_an_unknown_one_is_told_which_there_are() {
    let (node, asked) = node().await;
    let listed = json_of(&node, "/v1/models").await;
    let ids: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [MODEL, OTHER]);
    assert_eq!(json_of(&node, &format!("/v1/models/{OTHER}")).await["id"], OTHER);
    let info = json_of(&node, "/info").await;
    let expected = [(MODEL, 0), (OTHER, 4)].map(|(id, n)| json!({ "id": id, "input_images": n }));
    assert_eq!((&info["model"], &info["models"]), (&json!(MODEL), &json!(expected)));
    let told = [0, 1].map(|at| listed["data"][at]["input_images"].clone());
    assert_eq!(told, [0, 4]);

    let url = format!("{}/v1/images/generations", node.url);
    let unknown = json!({ "prompt": "a", "model": "none" });
    let answer = http().post(url).json(&unknown).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let error = answer.json::<Value>().await.unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(MODEL) && message.contains(OTHER), "{message}");
    let url = format!("{}/v1/nodes/lock", node.url);
    for (model, status) in [(OTHER, StatusCode::OK), ("none", StatusCode::NOT_FOUND)] {
        let answer = http().post(&url).json(&json!({ "model": model })).send().await.unwrap();
        assert_eq!(answer.status(), status, "{model}");
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_sealed_request_is_drawn_by_the_model_that_it_names() {
    let (node, asked) = node().await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let attested = client.attest(&demo_policy()).await.unwrap();
    for (model, size) in [(OTHER, "128x128"), (MODEL, "64x64")] {
        let request = CreateImageRequest {
            model: Some(model.to_owned()),
            prompt: Some("a red fox".to_owned().into()),
            ..CreateImageRequest::default()
        };
        // The receipt names the manifest that evidence does, or this fails.
        let answer = client.generate(request, &attested).await.unwrap();
        assert_eq!(answer.response.size.as_deref(), Some(size));
    }
    assert_eq!(*asked.lock().unwrap(), [OTHER, MODEL]);
}

#[tokio::test]
async fn evidence_tells_every_models_manifest() {
    let (node, _) = node().await;
    let url = format!("{}/v1/attestation?nonce={}", node.url, "07".repeat(32));
    let report = http().get(url).send().await.unwrap().bytes().await.unwrap();
    let manifest = String::from_utf8(Report::parse(&report).unwrap().model_manifest).unwrap();
    let expected =
        format!("model {MODEL}\nmanifest of {MODEL}\nmodel {OTHER}\nmanifest of {OTHER}\n");
    assert_eq!(manifest, expected);

    // Every receipt names the one that drew: a digest that evidence leads to, with the model's name.
    let models = Report::parse(&report).unwrap().models();
    for (model, size) in [(MODEL, "64x64"), (OTHER, "256x256")] {
        let url = format!("{}/v1/images/generations", node.url);
        let body =
            json!({ "prompt": "a", "model": model, "size": size, "response_format": "b64_json" });
        let answer = http().post(url).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let image = &answer["data"][0];
        let bytes = |text: &Value| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
        let signed = SignedReceipt::read(&bytes(&image["provenance"]["receipt"])).unwrap();
        let named = signed.receipt.statement.model_manifest;
        let named = models.iter().find(|model| model.manifest == named).unwrap();
        assert_eq!(named.name.as_deref(), Some(model));
        // By its setting the node marks what is large enough.
        let pixels = image::load_from_memory(&bytes(&image["b64_json"])).unwrap().into_rgb8();
        let mark = find_mark(pixels.width(), pixels.height(), &pixels).map(|mark| mark.id);
        let id = MarkId::of_key(&signed.signing_key);
        assert_eq!(mark, (size == "256x256").then_some(id), "{size}");
    }

    // One alone is told as before.
    let one = TestNode::start(OneColour::instant()).await;
    let url = format!("{}/v1/attestation?nonce={}", one.url, "07".repeat(32));
    let report = http().get(url).send().await.unwrap().bytes().await.unwrap();
    let manifest = Report::parse(&report).unwrap().model_manifest;
    assert_eq!(manifest, loaded_model(OneColour::instant()).manifest);
}

/// A model that draws from text alone stands before one that takes images.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_goes_to_the_model_that_takes_images() {
    const KLEIN: &str = "test/klein";
    let directory = klein::model_directory("klein-1x1");
    let asked = Arc::<Mutex<Vec<&'static str>>>::default();
    let inner = OneColour::instant();
    let from_text = Noted { name: MODEL, inner, asked: asked.clone(), input_images: 0 };
    let from_images = LoadedModel {
        model: KLEIN.to_owned(),
        manifest: b"manifest of klein\n".to_vec(),
        generators: vec![Box::new(klein::load(directory.path()))],
        ..loaded_model(OneColour::instant())
    };
    let from_text =
        LoadedModel { generators: vec![Box::new(from_text)], ..loaded_model(OneColour::instant()) };
    let config = Config { allow_plaintext: true, ..Config::default() };
    let node = TestNode::loaded(vec![from_text, from_images], config).await;
    let ids = [(MODEL, 0), (KLEIN, 4)].map(|(id, n)| json!({ "id": id, "input_images": n }));
    assert_eq!(json_of(&node, "/info").await["models"], json!(ids));

    let mut file = Cursor::new(Vec::new());
    let rgb = klein::pattern(64, 80);
    PngEncoder::new(&mut file).write_image(&rgb, 64, 80, ExtendedColorType::Rgb8).unwrap();
    let file = file.into_inner();
    let (prompt, seed, steps) = ("the same with a hat", 7, 1);
    let expected = {
        let prompt = Prompt::new(prompt.to_owned()).unwrap();
        let job = Job {
            prompt: &prompt,
            size: Size::new(64, 80).unwrap(),
            steps: Steps::new(steps).unwrap(),
            seed: Seed::new(seed),
            count: Count::ONE,
            guidance: GUIDANCE,
            images: &[klein::input_image(64, 80)],
        };
        let alone = klein::load(directory.path());
        alone.generate(&job, &mut |_| ControlFlow::Continue(())).unwrap().images.remove(0).rgb
    };
    let shown = |answer: &CreateImageResponse| {
        let file = image_file(&answer.data[0]).unwrap();
        image::load_from_memory(&file).unwrap().into_rgb8().into_raw()
    };

    let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&file));
    let body = |model: Option<&str>| {
        let mut body = json!({ "prompt": prompt, "seed": seed, "steps": steps, "images": [url] });
        if let Some(model) = model {
            body["model"] = model.into();
        }
        body
    };
    let edits = format!("{}/v1/images/edits", node.url);
    for model in [None, Some(KLEIN)] {
        let answer = http().post(&edits).json(&body(model)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{model:?}");
        let answer = answer.bytes().await.unwrap();
        let answer = CreateImageResponse::from_json(&answer).unwrap();
        assert!(shown(&answer) == *expected, "{model:?}");
    }
    let refused = http().post(&edits).json(&body(Some(MODEL))).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let error = error_of(&refused.text().await.unwrap());
    assert_eq!(
        (error.param.as_deref(), error.code.as_deref()),
        (Some("model"), Some("no_input_images"))
    );
    assert!(error.message.contains(MODEL), "{}", error.message);

    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let attested = client.attest(&demo_policy()).await.unwrap();
    let request = |model: &str| CreateImageRequest {
        model: Some(model.to_owned()),
        prompt: Some(prompt.to_owned().into()),
        seed: Some(seed),
        steps: Some(steps),
        images: Some(vec![InputReference::file(file.clone().into())]),
        ..CreateImageRequest::default()
    };
    let answer = client.generate(request(KLEIN), &attested).await.unwrap();
    assert!(shown(&answer.response) == *expected, "sealed");
    let refused = client.generate(request(MODEL), &attested).await.err().unwrap().to_string();
    assert!(refused.contains("takes no input images"), "{refused}");
    assert!(asked.lock().unwrap().is_empty(), "the other drew nothing");

    // Without images, what names no model is the first one's.
    let url = format!("{}/v1/images/generations", node.url);
    let answer = http().post(url).json(&json!({ "prompt": prompt })).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(*asked.lock().unwrap(), [MODEL]);
    let drawn = node.metric(&format!("obscura_images_total{{model=\"{KLEIN}\"}}")).await;
    assert_eq!(drawn, 3.0);
}
