//! What a node does with connections that are silent, slow, or take nothing.

use std::time::Duration;

use engine::Generator;
use flux::{Generated, Image, Job, ProgressObserver, PromptTokens, Timings};
use node::{Config, LoadedModel};
use serde_json::json;
use tests::{MODEL, OneColour, TestNode, http, loaded_model};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
    serde_json::from_slice::<serde_json::Value>(&answer).expect("one answer");
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
