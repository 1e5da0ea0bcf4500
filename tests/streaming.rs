//! Answers as events: on both routes, and with somebody in between who meddles with them.

use std::{
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering, mpsc},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::Response,
};
use client::{ApiKey, Client, ClientError};
use node::Config;
use protocol::{CreateImageRequest, ImageEvent};
use serde_json::{Value, json};
use tests::{MODEL, OneColour, PANIC_PROMPT, TestNode, http};
use tokio::net::TcpListener;

fn request(prompt: &str) -> CreateImageRequest {
    CreateImageRequest {
        model: Some(MODEL.to_owned()),
        prompt: Some(prompt.to_owned().into()),
        ..CreateImageRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_sees_every_step_and_image() {
    let node = TestNode::start(OneColour::instant()).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let attested = client.attest(&tests::demo_policy()).await.unwrap();
    let request = CreateImageRequest {
        n: Some(2),
        seed: Some(40),
        partial_images: Some(2),
        progress: Some(true),
        output_format: Some("webp".to_owned()),
        ..request("a red fox")
    };
    let mut events = client.generate_stream(request, &attested).await.unwrap();
    let (mut steps, mut partials, mut images) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps_before_images = Vec::new();
    while let Some(event) = events.next().await.unwrap() {
        match event {
            ImageEvent::Progress(event) => steps.push((event.step, event.steps)),
            ImageEvent::PartialImage(event) => {
                assert_eq!(event.output_format, "webp");
                partials.push((
                    event.index,
                    event.partial_image_index,
                    colour(&client::decode_image(&event.b64_json).unwrap()),
                ));
            }
            ImageEvent::Completed(event) => {
                let colour = colour(&client::decode_image(&event.b64_json).unwrap());
                steps_before_images.push(steps.last().map(|(step, _)| *step));
                images.push((event.index, event.seed, colour, event.usage.total_tokens));
            }
            ImageEvent::Error(_) => panic!("no error"),
        }
    }
    assert_eq!(steps, (0..=8).map(|step| (step, 8)).collect::<Vec<_>>());
    // Each image comes when it is made, and not with the others at the end.
    assert_eq!(steps_before_images, [Some(4), Some(8)]);
    // Of four steps, after the first and the third.
    let expected = [(0, 0, [1; 3]), (0, 1, [3; 3]), (1, 0, [1; 3]), (1, 1, [3; 3])];
    assert_eq!(partials, expected);
    let fox = |seed| OneColour::colour(seed, "a red fox");
    assert_eq!(images, [(0, Some(40), fox(40), 9 + 16), (1, Some(41), fox(41), 16)]);
    let end = events.end().unwrap();
    assert_eq!(end.usage.unwrap().total_tokens, 256 + 32);
    assert!(end.verified.attested.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_in_clear_text_speaks_openais_events() {
    let node = TestNode::start(OneColour::instant()).await;
    let body = json!({"model": MODEL, "prompt": "a boat", "seed": 5, "stream": true,
        "partial_images": 3});
    let events = clear(&node, &body).await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let partial = "image_generation.partial_image";
    assert_eq!(names, [partial, partial, partial, "image_generation.completed"]);
    for (index, (name, event)) in events.iter().enumerate() {
        assert_eq!(event["type"], *name);
        assert_eq!((&event["size"], &event["quality"]), (&json!("64x64"), &json!("medium")));
        assert_eq!(
            (&event["background"], &event["output_format"]),
            (&json!("opaque"), &json!("png"))
        );
        assert!(event["created_at"].as_u64().unwrap() > 1_700_000_000);
        if index < 3 {
            assert_eq!(event["partial_image_index"], index);
        }
    }
    let usage = &events[3].1["usage"];
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(6), &json!(16)));

    let events =
        clear(&node, &json!({"model": MODEL, "prompt": PANIC_PROMPT, "stream": true})).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1["error"]["type"], "server_error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_stops_its_stream() {
    let (begun, has_begun) = mpsc::channel();
    let finished = Arc::new(AtomicUsize::new(0));
    let generator = OneColour {
        begun: Some(begun),
        finished: finished.clone(),
        step: Duration::from_millis(100),
    };
    let node = TestNode::start(generator).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let key = client.lock(MODEL).await.unwrap();
    let slow = CreateImageRequest { steps: Some(50), progress: Some(true), ..request("x") };
    let mut events = client.dangerous().generate_stream(slow, &key).await.unwrap();
    assert!(events.next().await.unwrap().is_some());
    has_begun.recv().unwrap();
    drop(events);
    let dangerous = client.dangerous();
    let quick = dangerous.generate(request("y"), &key);
    tokio::time::timeout(Duration::from_secs(3), quick)
        .await
        .expect("not after fifty steps")
        .unwrap();
    assert_eq!(finished.load(Ordering::SeqCst), 1);
}

/// What somebody in between does to the messages of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meddling {
    None,
    CutTheEnd,
    CutInside,
    DropOne,
    Repeat,
    Swap,
    EndEarly,
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_meddles_is_noticed() {
    let node = TestNode::start(OneColour::instant()).await;
    for meddling in [
        Meddling::None,
        Meddling::CutTheEnd,
        Meddling::CutInside,
        Meddling::DropOne,
        Meddling::Repeat,
        Meddling::Swap,
        Meddling::EndEarly,
    ] {
        let client = Client::new(&proxy(&node.url, meddling).await, ApiKey::none()).unwrap();
        let key = client.lock(MODEL).await.unwrap();
        let request = CreateImageRequest { partial_images: Some(3), ..request("a fox") };
        let mut events = client.dangerous().generate_stream(request, &key).await.unwrap();
        let result = loop {
            match events.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        match meddling {
            Meddling::None => assert!(result.is_ok()),
            Meddling::CutTheEnd | Meddling::CutInside => {
                assert!(matches!(result, Err(ClientError::StreamCut)), "{meddling:?} {result:?}");
            }
            _ => assert!(
                matches!(result, Err(ClientError::StreamOrder { .. })),
                "{meddling:?} {result:?}"
            ),
        }
    }
}

/// The events of the route in clear text: their names and their data.
async fn clear(node: &TestNode, body: &Value) -> Vec<(String, Value)> {
    let url = format!("{}/v1/images/generations", node.url);
    let answer = http().post(url).json(body).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    text.split("\n\n")
        .filter(|message| !message.is_empty())
        .map(|message| {
            let field = |name: &str| {
                message.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
            };
            (field("event:"), serde_json::from_str(&field("data:")).unwrap())
        })
        .collect()
}

/// A proxy that meddles with event streams, and passes on everything else.
async fn proxy(node_url: &str, meddling: Meddling) -> String {
    let pass = |State((url, meddling)): State<(String, Meddling)>, request: Request| async move {
        let target = format!("{url}{}", request.uri());
        let method = request.method().clone();
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let answer = http()
            .request(method, target)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let is_stream = answer.headers()["content-type"] == "text/event-stream";
        let text = answer.text().await.unwrap();
        Response::new(Body::from(if is_stream { meddled(&text, meddling) } else { text }))
    };
    let app = Router::new().fallback(pass).with_state((node_url.to_owned(), meddling));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn meddled(text: &str, meddling: Meddling) -> String {
    let mut messages: Vec<&str> = text.split_inclusive("\n\n").collect();
    let last = messages.len() - 1;
    match meddling {
        Meddling::None => {}
        Meddling::CutTheEnd => drop(messages.pop()),
        Meddling::CutInside => messages[last] = &messages[last][..100],
        Meddling::DropOne => drop(messages.remove(1)),
        Meddling::Repeat => messages.insert(1, messages[0]),
        Meddling::Swap => messages.swap(0, 1),
        Meddling::EndEarly => drop(messages.drain(1..last)),
    }
    messages.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_stream_can_be_is_refused_before_it_begins() {
    let node = TestNode::with_config(
        OneColour::instant(),
        Config { allow_plaintext: true, ..Config::default() },
    )
    .await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let key = client.lock(MODEL).await.unwrap();
    let wrong = CreateImageRequest { partial_images: Some(4), ..request("x") };
    let refused = client.dangerous().generate_stream(wrong, &key).await.err().unwrap();
    let ClientError::Refused(refusal) = &refused else { panic!("{refused}") };
    assert!(refusal.status == 400 && refusal.is_sealed, "{refusal:?}");
    let message = &refusal.message;
    assert!(message.as_str().contains("partial_images"), "{message}");
}

/// The one colour of an image.
fn colour(file: &[u8]) -> [u8; 3] {
    let image = image::load_from_memory(file).unwrap().to_rgb8();
    image.pixels().next().unwrap().0
}
