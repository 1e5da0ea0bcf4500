//! The way a private image takes, who may ask for one, and what others see of it.

mod visible;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use client::{ApiKey, Client, ClientError};
use ed25519_dalek::{Signer, SigningKey};
use node::{ApiKeyDigest, Config};
use protocol::{CreateImageRequest, CreateImageResponse, ImageData};
use serde_json::{Value, json};
use tests::{Exchange, MODEL, OneColour, TestNode, demo_policy, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn our_client_gets_its_own_images() {
    let node = TestNode::start(OneColour::instant()).await;
    let client = Client::new(&node.url, ApiKey::none()).unwrap();
    let attested = client.attest(&demo_policy()).await.unwrap();
    let request = CreateImageRequest {
        model: Some(MODEL.to_owned()),
        prompt: Some("a red fox".to_owned().into()),
        n: Some(3),
        size: Some("128x64".to_owned()),
        seed: Some(700),
        ..CreateImageRequest::default()
    };
    let answer = client.generate(request, &attested).await.unwrap();
    assert!(answer.verified.attested.is_some());
    let response = answer.response;
    assert_eq!((response.seed, response.size.as_deref()), (Some(700), Some("128x64")));
    assert_eq!(response.data.len(), 3);
    for (data, seed) in response.data.iter().zip(700..) {
        assert_eq!(colour(data), ((128, 64), OneColour::colour(seed, "a red fox")));
        assert!(data.revised_prompt.is_none() && data.b64_json.is_none());
    }
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (256, 3 * 8 * 4));
    assert_eq!(usage.total_tokens, 256 + 3 * 8 * 4);
    // The client alone is told how long its prompt was.
    assert_eq!(response.usage.unwrap().input_tokens, 9);
}

#[tokio::test]
async fn every_field_is_honoured() {
    let node = TestNode::start(OneColour::instant()).await;
    let fields = json!({
        "prompt": "狐", "n": 2, "size": "64x96", "quality": "hd", "style": "vivid",
        "response_format": "b64_json", "user": "u", "seed": 3, "unknown_field": [1],
    });
    let mut exchange = Exchange::of(&node.url, fields).await;
    exchange.envelope.num_compute_units = Some(2 * 64 * 96);
    let response = exchange.send().await.images();
    assert_eq!(response.data.len(), 2);
    for data in &response.data {
        assert!(data.revised_prompt.as_ref().unwrap().starts_with("狐, vivid"));
        assert!(
            data.url
                .as_ref()
                .unwrap()
                .as_text()
                .unwrap()
                .ends_with(data.b64_json.as_ref().unwrap().as_text().unwrap())
        );
    }
}

#[tokio::test]
async fn the_route_in_clear_text_is_there_where_it_is_allowed() {
    let node = TestNode::start(OneColour::instant()).await;
    let body = json!({"model": MODEL, "prompt": "a boat", "seed": 1});
    let answer = post(&node, "/v1/images/generations", &body).await;
    let response = CreateImageResponse::from_json(answer.1.as_bytes()).unwrap();
    assert_eq!(colour(&response.data[0]), ((64, 64), OneColour::colour(1, "a boat")));

    let node = TestNode::with_config(OneColour::instant(), Config::default()).await;
    assert_eq!(post(&node, "/v1/images/generations", &body).await.0, 404);
}

#[tokio::test]
async fn models_and_health() {
    let node = TestNode::start(OneColour::instant()).await;
    let get = |path: &str| {
        let request = http().get(format!("{}{path}", node.url));
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let (status, list) = get("/v1/models").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(
        (status, &list["object"], &list["data"][0]["id"]),
        (200, &"list".into(), &MODEL.into())
    );
    assert_eq!(get(&format!("/v1/models/{MODEL}")).await.0, 200);
    assert_eq!(get("/v1/models/other").await.0, 404);
    assert_eq!(get("/health").await, (200, r#"{"status":"ok"}"#.to_owned()));
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 200);
    assert_eq!(get("/nowhere").await.0, 404);
    assert_eq!(get("/v1/nodes/lock").await.0, 405);
}

#[tokio::test]
async fn a_node_without_its_model_lives_but_is_not_ready() {
    let node = TestNode::loading(Config::default()).await;
    let get = |path: &str| http().get(format!("{}{path}", node.url)).send();
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/readyz").await.unwrap().status(), 503);
    let answer = get("/v1/models").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn a_bearer_key_lets_in() {
    let config =
        Config { api_keys_sha256: vec![ApiKeyDigest::of("open-sesame")], ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let lock = |key: ApiKey| {
        let client = Client::new(&node.url, key).unwrap();
        async move { client.lock(MODEL).await }
    };
    assert!(lock(ApiKey::new("open-sesame".to_owned())).await.is_ok());
    for key in [ApiKey::none(), ApiKey::new("open-barley".to_owned())] {
        let refused = lock(key).await.err().unwrap();
        let ClientError::Refused(refusal) = &refused else { panic!("{refused}") };
        assert_eq!(refusal.status, 401);
    }
}

/// A node that lets in what this proxy signed, and the key that it is sealed to.
async fn node_that_trusts(proxy: &SigningKey) -> (TestNode, [u8; 32]) {
    let key = [&[0], proxy.verifying_key().as_bytes().as_slice()].concat();
    let config = Config {
        api_keys_sha256: vec![ApiKeyDigest::of("k")],
        trusted_proxies: vec![BASE64_STANDARD.encode(&key).parse().unwrap()],
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let client = Client::new(&node.url, ApiKey::new("k".to_owned())).unwrap();
    let node_key = client.lock(MODEL).await.unwrap().encryption_key;
    (node, node_key)
}

fn sealed_to(node: &TestNode, node_key: &[u8; 32], prompt: &str) -> Exchange {
    let body = json!({"model": MODEL, "prompt": prompt}).to_string();
    Exchange::seal_to(&node.url, node_key, body.as_bytes(), http())
}

/// The header by which `signer` lets a request in.
fn signature_of(exchange: &Exchange, signer: &SigningKey) -> String {
    let hash = BASE64_STANDARD.decode(&exchange.envelope.plaintext_body_hash).unwrap();
    let signature = signer.sign(&hash).to_bytes();
    BASE64_STANDARD.encode([&[0], &signature[..], signer.verifying_key().as_bytes()].concat())
}

#[tokio::test]
async fn a_trusted_proxy_lets_in_what_it_signed() {
    let proxy = SigningKey::from_bytes(&[3; 32]);
    let (node, node_key) = node_that_trusts(&proxy).await;
    let seal = |prompt: &str| sealed_to(&node, &node_key, prompt);
    let send = |exchange: &Exchange, header: String| {
        let request = exchange.request().header("x-signature", header);
        async move { request.send().await.unwrap().status().as_u16() }
    };

    let exchange = seal("a boat");
    let good = signature_of(&exchange, &proxy);
    let stranger = signature_of(&exchange, &SigningKey::from_bytes(&[4; 32]));
    let other_body = signature_of(&seal("another boat"), &proxy);
    assert_eq!(send(&exchange, stranger).await, 401);
    assert_eq!(send(&exchange, other_body).await, 401);
    assert_eq!(send(&exchange, "AAAA".to_owned()).await, 401);
    assert_eq!(send(&exchange, good).await, 200);
}

/// Whoever has no credentials is told so before a byte of the body is read, and is told.
#[tokio::test]
async fn credentials_come_before_bodies() {
    let proxy = SigningKey::from_bytes(&[3; 32]);
    let key_of =
        |signer: &SigningKey| [&[0], signer.verifying_key().as_bytes().as_slice()].concat();
    let config = Config {
        api_keys_sha256: vec![ApiKeyDigest::of("k")],
        trusted_proxies: vec![BASE64_STANDARD.encode(key_of(&proxy)).parse().unwrap()],
        allow_plaintext: true,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let signed = |signer: &SigningKey| {
        let key = signer.verifying_key();
        let signature = [&[0], &[9; 64][..], key.as_bytes()].concat();
        format!("X-Signature: {}\r\n", BASE64_STANDARD.encode(signature))
    };
    let stranger = SigningKey::from_bytes(&[4; 32]);
    let sealed = "/v1/confidential/images/generations";
    for path in [sealed, "/v1/nodes/lock", "/v1/images/generations"] {
        for (headers, challenge) in [
            (String::new(), "www-authenticate: bearer realm=\"obscura\"\r\n"),
            (
                "Authorization: Basic azpr\r\n".to_owned(),
                "www-authenticate: bearer realm=\"obscura\"\r\n",
            ),
            (
                "Authorization: Bearer no\r\n".to_owned(),
                "bearer realm=\"obscura\", error=\"invalid_token\"\r\n",
            ),
            ("X-Signature: AAAA\r\n".to_owned(), "www-authenticate: bearer realm=\"obscura\"\r\n"),
            (signed(&stranger), "www-authenticate: bearer realm=\"obscura\"\r\n"),
        ] {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                 {headers}Content-Length: 200000\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let read = socket.read_to_string(&mut answer);
            tokio::time::timeout(std::time::Duration::from_secs(20), read)
                .await
                .expect("nothing is waited for")
                .unwrap();
            let answer = answer.to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 401"), "{path} {headers}: {answer}");
            assert!(answer.contains(challenge), "{answer}");
        }
    }
    // A proxy that is known is heard to the end.
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {sealed} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         {}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        signed(&proxy)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    // Who sends megabytes all the same reads the answer, and no broken pipe.
    for authorization in ["Bearer no", "Basic no"] {
        let sent = http()
            .post(format!("{}{sealed}", node.url))
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .body("x".repeat(8_000_000));
        assert_eq!(sent.send().await.expect("an answer").status(), 401);
    }
}

/// A client's key shows no figures, which tell what all clients do together.
#[tokio::test]
async fn figures_have_keys_of_their_own() {
    let keyed = |metrics: &[&str]| Config {
        api_keys_sha256: vec![ApiKeyDigest::of("k")],
        metrics_keys_sha256: metrics.iter().map(|key| ApiKeyDigest::of(key)).collect(),
        ..Config::default()
    };
    for (metrics, key, expected) in
        [(&[][..], "k", 401), (&["m"], "k", 401), (&["m"], "m", 200), (&["m"], "", 401)]
    {
        let node = TestNode::with_config(OneColour::instant(), keyed(metrics)).await;
        let asked = http().get(format!("{}/metrics", node.url)).bearer_auth(key).send().await;
        assert_eq!(asked.unwrap().status(), expected, "{metrics:?} {key}");
    }
}

#[tokio::test]
async fn fresh_keys_take_over_before_the_old_ones_wear_out() {
    let config = Config { replay_capacity: 4, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let first = Client::new(&node.url, ApiKey::none()).unwrap().lock(MODEL).await.unwrap();
    for _ in 0..3 {
        Exchange::of(&node.url, json!({"prompt": "x"})).await.send().await.images();
    }
    let renewed = async {
        loop {
            let client = Client::new(&node.url, ApiKey::none()).unwrap();
            let key = client.lock(MODEL).await.unwrap();
            if key != first {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), renewed).await.expect("fresh keys");
    // The old key serves on for its grace period, until all that eight keys remember together is taken.
    let body = json!({"model": MODEL, "prompt": "x"}).to_string();
    let to_old = || Exchange::seal_to(&node.url, &first.encryption_key, body.as_bytes(), http());
    for _ in 3..8 * 4 {
        assert_eq!(to_old().send().await.status, 200);
    }
    assert_eq!(to_old().send().await.status, 503);
}

/// Size and colour of an image of one colour.
fn colour(data: &ImageData) -> ((u32, u32), [u8; 3]) {
    let image = image::load_from_memory(&client::image_file(data).unwrap()).unwrap().to_rgb8();
    let first = image.pixels().next().unwrap().0;
    assert!(image.pixels().all(|pixel| pixel.0 == first));
    (image.dimensions(), first)
}

async fn post(node: &TestNode, path: &str, body: &Value) -> (u16, String) {
    let answer = http().post(format!("{}{path}", node.url)).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
