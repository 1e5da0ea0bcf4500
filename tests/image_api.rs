//! OpenAI's image API in clear text: every field honoured, or refused by its name; and every error in
//! its shape.

#[path = "image_api/connections.rs"]
mod connections;

use std::time::{Duration, Instant};

use node::Config;
use protocol::CreateImageResponse;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{MODEL, OneColour, TestNode, error_of, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn post(node: &TestNode, fields: Value) -> (u16, String) {
    let mut body = json!({"model": MODEL, "prompt": "a red fox"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let url = format!("{}/v1/images/generations", node.url);
    let answer = http().post(url).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn formats_and_qualities() {
    let node = TestNode::start(OneColour::instant()).await;
    for (fields, format) in [
        (json!({}), "png"),
        (json!({"output_format": "png", "output_compression": 100}), "png"),
        (json!({"output_format": "webp"}), "webp"),
        (json!({"output_format": "jpeg", "output_compression": 80}), "jpeg"),
    ] {
        let (status, text) = post(&node, fields).await;
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["output_format"], format);
        assert_eq!(answer["background"], "opaque");
        assert_eq!(answer["usage"]["output_tokens"], 16);
        assert_eq!(answer["usage"]["input_tokens_details"]["text_tokens"], 9);
        let url = answer["data"][0]["url"].as_str().unwrap();
        assert!(url.starts_with(&format!("data:image/{format};base64,")));
        assert!(url.ends_with(answer["data"][0]["b64_json"].as_str().unwrap()));
    }
    let (_, text) = post(&node, json!({"response_format": "b64_json"})).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["data"][0].get("url").is_none() && answer["data"][0]["b64_json"].is_string());
    let bytes = |compression: u8| {
        let fields = json!({"output_format": "jpeg", "output_compression": compression});
        let node = &node;
        async move { post(node, fields).await.1.len() }
    };
    assert!(bytes(0).await <= bytes(100).await);
    for (quality, told) in
        [("low", "low"), ("standard", "medium"), ("auto", "medium"), ("hd", "high")]
    {
        let answer: Value =
            serde_json::from_str(&post(&node, json!({"quality": quality})).await.1).unwrap();
        assert_eq!(answer["quality"], told);
    }
}

#[tokio::test]
async fn a_url_is_unguessable_and_short_lived() {
    let config = Config { allow_plaintext: true, url_lifetime_secs: 1, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let fields = json!({"response_format": "url", "n": 2, "output_format": "webp"});
    let answer = CreateImageResponse::from_json(post(&node, fields).await.1.as_bytes()).unwrap();
    let urls: Vec<&str> =
        answer.data.iter().map(|data| data.url.as_ref().unwrap().as_text().unwrap()).collect();
    assert_ne!(urls[0], urls[1]);
    for (url, data) in urls.iter().zip(&answer.data) {
        assert!(data.b64_json.is_none());
        let name = url.strip_prefix(&format!("{}/v1/images/files/", node.url)).unwrap();
        assert_eq!(name.len(), 64);
        let image = http().get(*url).send().await.unwrap();
        assert_eq!(image.headers()["content-type"], "image/webp");
        assert_eq!(image.headers()["cache-control"], "private, no-store");
        assert!(image::load_from_memory(&image.bytes().await.unwrap()).is_ok());
    }
    let other = format!("{}/v1/images/files/{}", node.url, "0".repeat(64));
    assert_eq!(http().get(other).send().await.unwrap().status(), 404);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(http().get(urls[0]).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_wrong_type_is_named() {
    let node = TestNode::start(OneColour::instant()).await;
    for (field, value) in [
        ("n", json!("1")),
        ("n", json!(1.5)),
        ("size", json!(64)),
        ("stream", json!("yes")),
        ("partial_images", json!(true)),
        ("partial_images", json!(1)),
        ("progress", json!(true)),
        ("provenance_salt", json!("ab".repeat(32))),
        ("output_compression", json!("80")),
        ("seed", json!(-2)),
        ("guidance", json!("strong")),
        ("user", json!(7)),
        ("response_format", json!({"a": 1})),
        ("negative_prompt", json!("blur")),
        ("guidance", json!(3.5)),
        ("background", json!("transparent")),
    ] {
        let (status, text) = post(&node, json!({field: value})).await;
        assert_eq!((status, error_of(&text).param.as_deref()), (400, Some(field)), "{text}");
    }
    assert_eq!(post(&node, json!({"a_field_of_tomorrow": {"a": [1]}})).await.0, 200);
}

#[tokio::test]
async fn every_error_has_openais_shape() {
    let node = TestNode::start(OneColour::instant()).await;
    let send = |method: Method, path: &str, content_type: Option<&str>, body: String| {
        let mut request = http().request(method, format!("{}{path}", node.url)).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(answer.headers().contains_key("x-request-id"));
            (status, error_of(&answer.text().await.unwrap()))
        }
    };
    let images = "/v1/images/generations";
    let json_type = Some("application/json");
    for (method, path, content_type, body, status) in [
        (Method::GET, "/nowhere", None, String::new(), 404),
        // What is no text names nothing, on every route that takes a name.
        (Method::GET, "/v1/models/%FF", None, String::new(), 404),
        (Method::GET, "/v1/models/test%2F%C3", None, String::new(), 404),
        (Method::GET, "/v1/images/files/%FF", None, String::new(), 404),
        (Method::GET, "/docs/%FF", None, String::new(), 404),
        (
            Method::POST,
            "/openai/deployments/%FF/images/generations",
            json_type,
            "{}".to_owned(),
            404,
        ),
        (Method::GET, images, None, String::new(), 405),
        (Method::DELETE, "/healthz", None, String::new(), 405),
        (Method::POST, images, Some("text/plain"), "{}".to_owned(), 415),
        (Method::POST, images, None, "{}".to_owned(), 415),
        (Method::POST, "/v1/nodes/lock", None, "{}".to_owned(), 415),
        (Method::POST, "/v1/confidential/images/generations", None, "{}".to_owned(), 415),
        (Method::POST, images, Some("multipart/form-data; boundary=x"), "{}".to_owned(), 415),
        (Method::POST, images, json_type, "[".repeat(100_000), 400),
        (
            Method::POST,
            images,
            json_type,
            format!("{{\"x\": {}1{}}}", "[".repeat(500), "]".repeat(500)),
            400,
        ),
        (Method::POST, images, json_type, "{\"n\": 1e999}".to_owned(), 400),
        (
            Method::POST,
            images,
            json_type,
            "{\"n\": 123456789012345678901234567890}".to_owned(),
            400,
        ),
        (Method::POST, images, json_type, "{\"n\": 1, \"n\": 1}".to_owned(), 400),
        (Method::POST, images, json_type, "\u{0}".to_owned(), 400),
        (Method::POST, images, Some("application/json; charset=utf-8"), "{}".to_owned(), 400),
    ] {
        let shown = format!("{method} {path} {body:.40}");
        assert_eq!(send(method, path, content_type, body).await.0, status, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_is_told_so() {
    let config = Config { allow_plaintext: true, deadline_secs: 3, ..Config::default() };
    let step = Duration::from_millis(300);
    let node = TestNode::with_config(OneColour::with_step(step), config).await;
    // All of its steps would take longer than this.
    let told =
        tokio::time::timeout(Duration::from_secs(9), post(&node, json!({"steps": 50}))).await;
    let (status, text) = told.expect("told before it is done");
    assert_eq!((status, error_of(&text).code.as_deref()), (503, Some("deadline_exceeded")));
    // The pace is learnt from what was finished: then a queue that is too long is refused at once.
    assert_eq!(post(&node, json!({"steps": 6})).await.0, 200);
    let (first, second, third) =
        tokio::join!(post(&node, json!({"steps": 6})), post(&node, json!({"steps": 6})), async {
            let deadline = Instant::now() + Duration::from_secs(20);
            while node.metric("obscura_queue_seconds").await < 3.2 {
                assert!(Instant::now() < deadline, "the queue was never that long");
            }
            post(&node, json!({"steps": 1})).await
        });
    assert!(first.0 == 200 || second.0 == 200);
    assert_eq!((third.0, error_of(&third.1).code.as_deref()), (429, Some("queue_slow")));
}

/// Before anything is known, nothing is said, and never that there is nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_told_in_seconds_before_its_first_image_is_done() {
    let node = TestNode::start(OneColour::with_step(Duration::from_millis(200))).await;
    assert_eq!(node.metric("obscura_queue_seconds").await, 0.0, "nothing waits");
    let looking = async {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            assert!(Instant::now() < deadline, "nothing was ever said");
            let numbers = http().get(format!("{}/metrics", node.url)).send().await.unwrap();
            let numbers = numbers.text().await.unwrap();
            let number = |name| numbers.lines().find_map(|line| line.strip_prefix(name));
            let secs = number("obscura_queue_seconds ").map(|secs| secs.parse::<f64>().unwrap());
            match (number("obscura_queue_depth "), secs) {
                (Some("0"), _) | (_, None) => {}
                (_, Some(secs)) => return secs,
            }
        }
    };
    let (answered, secs) = tokio::join!(post(&node, json!({"steps": 20})), looking);
    assert_eq!(answered.0, 200);
    // Twenty steps of a fifth of a second, at least.
    assert!(secs > 3.9, "{secs}");
}

#[tokio::test]
async fn numbers_for_operators() {
    let node = TestNode::start(OneColour::instant()).await;
    assert_eq!(post(&node, json!({"n": 2})).await.0, 200);
    let get = |path: &str| {
        let request = http().get(format!("{}{path}", node.url));
        async move { request.send().await.unwrap().text().await.unwrap() }
    };
    assert!(get("/v1/attestation").await.contains("simulated"));
    let numbers = get("/metrics").await;
    let number = |name: &str| -> f64 {
        let line = numbers.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(number("obscura_attested_timestamp_seconds ") > 1.7e9);
    assert!(number("obscura_loading_seconds ") > 0.0);
    for line in [
        "obscura_images_total{model=\"test/one-colour\"} 2",
        "obscura_pixels_total{model=\"test/one-colour\"} 8192",
        "obscura_steps_total{model=\"test/one-colour\"} 8",
        "obscura_queue_depth 0",
        "obscura_http_answers_total{route=\"/v1/images/generations\",status=\"200\"} 1",
        "obscura_stage_seconds_count{stage=\"image_encode\"} 2",
    ] {
        assert!(numbers.contains(line), "{line}\n{numbers}");
    }
    assert!(numbers.ends_with("# EOF\n"));
    let info: Value = serde_json::from_str(&get("/info").await).unwrap();
    assert_eq!((&info["model"], &info["plaintext"]), (&json!(MODEL), &json!(true)));
    assert_eq!(info["model_manifest_sha256"].as_str().unwrap().len(), 64);
    assert!(info["tee"].as_str().unwrap().contains("SIMULATED"));
}

/// What a careless or hostile client may write to the socket, and the statuses it reads.
#[tokio::test(flavor = "multi_thread")]
async fn odd_http() {
    let config = Config { allow_plaintext: true, header_timeout_secs: 2, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let address = node.url.strip_prefix("http://").unwrap().to_owned();
    let good = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\n";
    let long =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    for (bytes, statuses) in [
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), vec!["200"]),
        (format!("{good}{good}"), vec!["200", "200"]),
        (format!("{good}\u{0}\u{1}garbage\r\n\r\n{good}"), vec!["200", "400"]),
        ("garbage\r\n\r\n".to_owned(), vec!["400"]),
        (format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}"), vec!["400"]),
        (format!("{post}Content-Length: minus\r\n\r\n{{}}"), vec!["400"]),
        (format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), vec!["400"]),
        (long, vec!["431"]),
    ] {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let _ = socket.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        // Cut by the node: at once after what is wrong, after a while where nothing more comes.
        let _ = tokio::time::timeout(Duration::from_secs(10), read).await.expect("it is let go");
        let answer = String::from_utf8_lossy(&answer);
        let found: Vec<&str> =
            answer.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]).collect();
        assert_eq!(found, statuses, "{bytes:.80}");
    }
    assert_eq!(self::post(&node, json!({})).await.0, 200);
}

/// The document names the routes that are served, and the pages load nothing from elsewhere.
#[tokio::test]
async fn pages_and_the_document() {
    let with = TestNode::start(OneColour::instant()).await;
    let without = TestNode::with_config(OneColour::instant(), Config::default()).await;
    for (node, served) in [(&with, true), (&without, false)] {
        let document = http().get(format!("{}/openapi.json", node.url)).send().await.unwrap();
        let document: Value = document.json().await.unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.contains_key("/v1/confidential/images/generations"));
        assert_eq!(paths.contains_key("/v1/images/generations"), served);
        for post in paths.values().filter_map(|path| path.get("post")) {
            assert!(post["responses"].get("429").is_some(), "{post}");
        }
        for page in ["", "docs"] {
            let answer = http().get(format!("{}/{page}", node.url)).send().await.unwrap();
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            let html = answer.text().await.unwrap();
            assert!(html.starts_with("<!doctype html>") && !html.contains("//cdn"));
            assert!(!html.contains("src=\"http") && !html.contains("href=\"http"));
        }
    }
}
