//! OpenAI's image API in clear text: every field honoured, or refused by its name; and every error in
//! its shape.

use std::time::{Duration, Instant};

use engine::Generator;
use flux::{Generated, Image, Job, ProgressObserver, PromptTokens, Timings};
use node::{Config, LoadedModel};
use protocol::CreateImageResponse;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{MODEL, OneColour, TestNode, error_of, http, loaded_model};
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
    let started = Instant::now();
    let (status, text) = post(&node, json!({"steps": 50})).await;
    assert_eq!((status, error_of(&text).code.as_deref()), (503, Some("deadline_exceeded")));
    assert!(started.elapsed() < Duration::from_secs(9));
    // The pace is learnt from what was finished: then a queue that is too long is refused at once.
    assert_eq!(post(&node, json!({"steps": 6})).await.0, 200);
    let (first, second, third) =
        tokio::join!(post(&node, json!({"steps": 6})), post(&node, json!({"steps": 6})), async {
            let patience = Instant::now() + Duration::from_secs(20);
            while node.metric("obscura_queue_seconds").await < 3.2 {
                assert!(Instant::now() < patience, "the queue was never that long");
            }
            post(&node, json!({"steps": 1})).await
        });
    assert!(first.0 == 200 || second.0 == 200);
    assert_eq!((third.0, error_of(&third.1).code.as_deref()), (429, Some("queue_slow")));
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
        "obscura_images_total 2",
        "obscura_pictures_total 2",
        "obscura_pixels_total 8192",
        "obscura_steps_total 8",
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

/// Silent connections make way for who comes; those with a request do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_finds_a_place_among_silent_connections() {
    let config = Config {
        allow_plaintext: true,
        max_connections: 32,
        header_timeout_secs: 600,
        ..Config::default()
    };
    let node =
        TestNode::with_config(OneColour::with_step(Duration::from_millis(500)), config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let drawing = tokio::spawn({
        let url = format!("{}/v1/images/generations", node.url);
        let body = json!({"model": MODEL, "prompt": "a red fox"});
        async move { http().post(url).json(&body).send().await.unwrap().status() }
    });
    let mut silent = Vec::new();
    for number in 0..300 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let beginnings: [&[u8]; 4] =
            [b"", b"PRI * HT", b"GET /health", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"];
        let _ = socket.write_all(beginnings[number % 4]).await;
        silent.push(socket);
    }
    for _ in 0..10 {
        let health = http().get(format!("{}/healthz", node.url)).send();
        let answer = tokio::time::timeout(Duration::from_secs(5), health).await.expect("at once");
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(drawing.await.unwrap(), 200);
}

/// An image that no compression makes small.
struct Grain;

impl Generator for Grain {
    fn generate(
        &mut self,
        job: &Job<'_>,
        _: &mut dyn ProgressObserver,
    ) -> Result<Generated, flux::Error> {
        let mut state = 1_u32;
        let mut grain = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let rgb: Vec<u8> = (0..3 * job.size.pixels()).map(|_| grain()).collect();
        Ok(Generated {
            images: vec![Image { size: job.size, rgb: rgb.into() }],
            prompt_tokens: PromptTokens { t5: 1, computed: 256, truncated: false },
            timings: Timings::default(),
        })
    }
}

/// An answer that is still on its way is sent to its end, whoever wants the connection's place.
#[tokio::test(flavor = "multi_thread")]
async fn making_way_cuts_no_answer() {
    let config = Config { allow_plaintext: true, max_connections: 2, ..Config::default() };
    let loaded =
        LoadedModel { generators: vec![Box::new(Grain)], ..loaded_model(OneColour::instant()) };
    let node = TestNode::loaded(loaded, config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let body = json!({"model": MODEL, "prompt": "grain", "size": "2048x1024"}).to_string();
    let length = body.len();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let length: usize = length.parse().unwrap();
    assert!(length > 12 << 20, "more than what sockets hold: {length}");
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(TcpStream::connect(address).await.unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut answer = vec![0; length];
    socket.read_exact(&mut answer).await.expect("all of it");
    serde_json::from_slice::<Value>(&answer).expect("one answer");
}

/// An answer that is taken a byte at a time is cut; one that is not taken at all as well.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_is_cut() {
    let config = Config {
        allow_plaintext: true,
        write_timeout_secs: 1,
        min_write_bytes_per_sec: 10 << 20,
        ..Config::default()
    };
    let loaded =
        LoadedModel { generators: vec![Box::new(Grain)], ..loaded_model(OneColour::instant()) };
    let node = TestNode::loaded(loaded, config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let body = json!({"model": MODEL, "prompt": "grain", "size": "2048x1024"}).to_string();
    for pause in [Duration::from_millis(50), Duration::from_secs(5)] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let cut = async {
            // Some of it comes first; then a little at a time, until the node ends it.
            while node.metric("obscura_http_connections").await > 1.0 {
                let _ = tokio::time::timeout(pause, socket.read(&mut [0; 1000])).await;
                tokio::time::sleep(pause).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), cut).await.expect("it is cut");
    }
}

/// A body without an end is cut where it becomes too long.
#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_is_refused_while_it_is_sent() {
    const PIECE: usize = 1 << 16;
    let node = TestNode::start(OneColour::instant()).await;
    let address = node.url.strip_prefix("http://").unwrap();
    for path in ["/v1/images/generations", "/v1/confidential/images/generations"] {
        let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let sending = tokio::spawn(async move {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            );
            writer.write_all(head.as_bytes()).await.unwrap();
            let piece = format!("{PIECE:x}\r\n{}\r\n", " ".repeat(PIECE));
            let mut sent = 0;
            while sent < 1 << 30 && writer.write_all(piece.as_bytes()).await.is_ok() {
                sent += PIECE;
            }
            sent
        });
        let mut answer = [0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413", "{path}");
        drop(reader);
        let sent = sending.await.unwrap();
        assert!(sent < 1 << 26, "{sent} bytes were taken");
    }
}

/// Clients that say nothing, or stop in the middle, cost the others nothing.
#[tokio::test(flavor = "multi_thread")]
async fn idle_and_slow_clients_are_let_go() {
    let config = Config {
        allow_plaintext: true,
        max_connections: 32,
        header_timeout_secs: 1,
        body_timeout_secs: 1,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let address = node.url.strip_prefix("http://").unwrap();
    let beginnings: [&[u8]; 5] = [
        b"",
        b"PRI * HT",
        b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Le",
        b"GET / HTTP/1.0\r\n",
        b"\x16\x03\x01\x00\x00",
    ];
    let mut idle = Vec::new();
    for beginning in beginnings.iter().cycle().take(100) {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(beginning).await;
        idle.push(socket);
    }
    // Three and a little rounds of thirty-two, a second each.
    let health = http().get(format!("{}/healthz", node.url)).send();
    let answer = tokio::time::timeout(Duration::from_secs(15), health).await.expect("in time");
    assert_eq!(answer.unwrap().status(), 200);

    let mut slow = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");

    let mut huge = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 1073741824\r\n\r\n{";
    huge.write_all(head.as_bytes()).await.unwrap();
    huge.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}
