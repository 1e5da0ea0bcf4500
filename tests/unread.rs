//! Readers that read nothing, and what they may not hold up: places, deadlines, engines, memory,
//! and a node that is asked to stop.

use std::time::Duration;

use axum::{body::Bytes, http};
use h2::{RecvStream, client::ResponseFuture};
use node::Config;
use serde_json::{Value, json};
use tests::{Exchange, OneColour, TestNode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Far more than anything here takes, and less than a run of tests has.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP/2 connection that lets nobody send it more of a body than its window.
struct Unread {
    requests: h2::client::SendRequest<Bytes>,
    url: String,
}

impl Unread {
    async fn connect(node: &TestNode) -> Self {
        Self::with_window(node, 0).await
    }

    async fn with_window(node: &TestNode, bytes: u32) -> Self {
        let socket = TcpStream::connect(address(node)).await.unwrap();
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(bytes);
        let (requests, connection) = settings.handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self { requests, url: node.url.clone() }
    }

    async fn post(&mut self, path: &str, body: Vec<u8>) -> ResponseFuture {
        let request = http::Request::post(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (answer, mut stream) = requests.send_request(request, false).unwrap();
        stream.send_data(body.into(), true).unwrap();
        answer
    }

    /// The bodies of so many sealed streams that were taken on.
    async fn streams(&mut self, count: usize) -> Vec<RecvStream> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let fields = json!({"prompt": "x", "steps": 8, "stream": true, "progress": true,
                "partial_images": 3});
            let body = sealed(&self.url, fields).await;
            let answer = self.post("/v1/confidential/images/generations", body).await;
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            bodies.push(answer.into_body());
        }
        bodies
    }
}

fn address(node: &TestNode) -> &str {
    node.url.strip_prefix("http://").unwrap()
}

async fn sealed(url: &str, fields: Value) -> Vec<u8> {
    let stream = fields["stream"].as_bool();
    let mut exchange = Exchange::of(url, fields).await;
    exchange.envelope.stream = stream;
    serde_json::to_vec(&exchange.envelope).unwrap()
}

async fn until_idle(node: &TestNode) {
    let idle = async {
        while node.queue_depth().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, idle).await.expect("the queue empties, whoever reads");
}

async fn assert_serves(node: &TestNode) {
    let sent = Exchange::of(&node.url, json!({"prompt": "x", "seed": 9})).await.send().await;
    assert_eq!(sent.images().seed, Some(9));
}

/// Ends with an error: the stream was reset, its connection was not.
async fn assert_reset(mut body: RecvStream) {
    let end = timeout(TIMEOUT, body.data()).await.expect("an unread answer ends");
    assert!(end.unwrap().unwrap_err().is_reset());
}

/// Whole answers, on both versions of HTTP. On HTTP/1, the connection is all there is to close.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_hold_neither_places_nor_connections() {
    let config = Config { delivery_timeout_secs: 2, write_timeout_secs: 600, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let large = json!({"prompt": "x", "size": "2048x1024"});
    let path = "/v1/confidential/images/generations";

    let mut unread = Unread::connect(&node).await;
    let body = sealed(&node.url, large.clone()).await;
    let answer = unread.post(path, body).await.await.unwrap();
    let body = sealed(&node.url, large).await;
    let mut socket = TcpStream::connect(address(&node)).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    // It has begun to be sent.
    socket.read_u8().await.unwrap();
    until_idle(&node).await;
    assert_serves(&node).await;
    assert_reset(answer.into_body()).await;
    let cut = async {
        // Two are left: that of the streams, and that of the question.
        while node.metric("obscura_http_connections").await > 2.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What was on its way is less than the whole, which is longer than 11 MB.
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        rest.len()
    };
    let read = timeout(TIMEOUT, cut).await.expect("an unread answer ends");
    assert!(read < 11_000_000, "{read}");
}

/// The last bytes of an answer are HTTP/2's alone: who leaves them there does not cost others their connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_end_leaves_its_connection_alone() {
    let config = Config { delivery_timeout_secs: 1, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut unread = Unread::with_window(&node, 1).await;
    let path = "/v1/confidential/images/generations";
    let body = sealed(&node.url, json!({"prompt": "x"})).await;
    let end = unread.post(path, body).await.await.unwrap().into_body();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let body = sealed(&node.url, json!({"prompt": "x"})).await;
    let answer = timeout(TIMEOUT, unread.post(path, body).await).await.expect("an answer");
    assert_eq!(answer.expect("the connection is there").status(), 200);
    drop(end);
}

/// Where unread answers fill the memory that there is for them, those make way that stand still.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_take_bounded_memory() {
    let config = Config {
        // One answer of this size is 5.6 MB long.
        max_total_pixels: 1024 * 1024,
        answer_memory_bytes: 16_000_000,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut unread = Unread::connect(&node).await;
    let mut bodies = Vec::new();
    for _ in 0..6 {
        let body = sealed(&node.url, json!({"prompt": "x", "size": "1024x1024"})).await;
        let answer = unread.post("/v1/confidential/images/generations", body).await;
        bodies.push(answer.await.unwrap().into_body());
    }
    assert_serves(&node).await;
    let kept = bodies.split_off(4);
    for body in bodies {
        assert_reset(body).await;
    }
    drop(kept);
}

/// A node that is asked to stop ends in its time.
#[tokio::test(flavor = "multi_thread")]
async fn unread_streams_do_not_keep_a_node_from_stopping() {
    let config = Config { drain_secs: 1, delivery_timeout_secs: 600, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut unread = Unread::connect(&node).await;
    let bodies = unread.streams(3).await;
    timeout(TIMEOUT, node.stop()).await.expect("it stops");
    drop(bodies);
}

/// A client that writes all of its body before it reads, as many do, sees why nobody wanted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_those_who_write_before_they_read() {
    const BODY: usize = 20_000_000;
    let key = "a-key";
    let config = Config {
        allow_plaintext: true,
        api_keys_sha256: vec![node::ApiKeyDigest::of(key)],
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let piece = vec![b' '; 1 << 16];
    for (head, status) in [
        (
            "POST /v1/images/generations\tAuthorization: Bearer a-key\tContent-Type: application/json",
            413,
        ),
        ("POST /v1/images/generations\tContent-Type: application/json", 401),
        ("POST /v1/images/generations\tAuthorization: Bearer a-key\tContent-Type: text/plain", 415),
        ("POST /v1/nothing\tContent-Type: application/json", 404),
        ("PUT /v1/images/generations\tContent-Type: application/json", 405),
    ] {
        let (first, fields) = head.split_once('\t').unwrap();
        let fields = fields.replace('\t', "\r\n");
        for chunked in [false, true] {
            let length = match chunked {
                true => "Transfer-Encoding: chunked".to_owned(),
                false => format!("Content-Length: {BODY}"),
            };
            let head =
                format!("{first} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{length}\r\n\r\n");
            let mut socket = TcpStream::connect(address(&node)).await.unwrap();
            let mut write = async |bytes: &[u8]| {
                let written = timeout(TIMEOUT, socket.write_all(bytes)).await.expect("in time");
                written.unwrap_or_else(|error| panic!("{head}: {error}"));
            };
            write(head.as_bytes()).await;
            let mut sent = 0;
            while sent < BODY {
                let piece = &piece[..piece.len().min(BODY - sent)];
                if chunked {
                    write(format!("{:x}\r\n", piece.len()).as_bytes()).await;
                }
                write(piece).await;
                if chunked {
                    write(b"\r\n").await;
                }
                sent += piece.len();
            }
            let mut answer = String::new();
            let read = timeout(TIMEOUT, socket.read_to_string(&mut answer)).await.expect("it ends");
            read.unwrap_or_else(|error| panic!("{head}: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}{answer}");
            assert!(answer.ends_with("}}"), "the whole answer: {answer}");
        }
    }
    // HTTP/2: a body is taken to its end, as clients are met that lose the answer where their stream is reset.
    const BODY_OF_STREAM: usize = 2_000_000;
    let socket = TcpStream::connect(address(&node)).await.unwrap();
    // Each window is waited for.
    socket.set_nodelay(true).unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/v1/images/generations", 401), ("/v1/nothing", 404), ("/healthz", 405)]
    {
        let request = http::Request::post(format!("{}{path}", node.url))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, mut stream) = requests.send_request(request, false).unwrap();
        let answer = timeout(TIMEOUT, answer).await.expect("an answer").unwrap();
        stream.reserve_capacity(BODY_OF_STREAM);
        let mut left = BODY_OF_STREAM;
        while left > 0 {
            let room = timeout(TIMEOUT, std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
            let room = room.expect("in time").expect("not reset").expect("not cut").min(left);
            left -= room;
            stream.send_data(vec![b' '; room].into(), left == 0).expect("not reset");
        }
        assert_eq!(answer.status(), status, "{path}");
        let mut body = answer.into_body();
        let text = timeout(TIMEOUT, body.data()).await.expect("a text").unwrap().unwrap();
        assert!(text.ends_with(b"}}"), "{path}");
    }
}

/// What is read of refused bodies has an end, in bytes and in time.
#[tokio::test(flavor = "multi_thread")]
async fn refused_bodies_are_not_read_for_ever() {
    let node = TestNode::start(OneColour::instant()).await;
    let head = "POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n";
    let mut silent = TcpStream::connect(address(&node)).await.unwrap();
    silent.write_all(head.as_bytes()).await.unwrap();
    let mut talking = TcpStream::connect(address(&node)).await.unwrap();
    talking.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b' '; 1 << 16];
    let mut sent = 0;
    while timeout(TIMEOUT, talking.write_all(&piece)).await.expect("it ends").is_ok() {
        sent += piece.len();
        assert!(sent < 1 << 26, "{sent} bytes were taken");
    }
    let ended = async {
        while node.metric("obscura_http_connections").await > 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, ended).await.expect("silence ends too");
}
