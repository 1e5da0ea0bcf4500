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
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP/2 connection that lets nobody send it a byte of a body.
struct Unread {
    requests: h2::client::SendRequest<Bytes>,
    url: String,
}

impl Unread {
    async fn connect(node: &TestNode) -> Self {
        let socket = TcpStream::connect(address(node)).await.unwrap();
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(0);
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
    timeout(PATIENCE, idle).await.expect("the queue empties, whoever reads");
}

async fn assert_serves(node: &TestNode) {
    let sent = Exchange::of(&node.url, json!({"prompt": "x", "seed": 9})).await.send().await;
    assert_eq!(sent.images().seed, Some(9));
}

/// Ends with an error: the stream was reset, its connection was not.
async fn assert_reset(mut body: RecvStream) {
    let end = timeout(PATIENCE, body.data()).await.expect("an unread answer ends");
    assert!(end.unwrap().unwrap_err().is_reset());
}

/// As many streams as there are places, none of which is read.
#[tokio::test(flavor = "multi_thread")]
async fn unread_streams_hold_no_places() {
    let config = Config { delivery_timeout_secs: 2, ..Config::default() };
    let places = config.queue_capacity + 1;
    let node = TestNode::with_config(OneColour::with_step(Duration::from_millis(1)), config).await;
    let mut unread = Unread::connect(&node).await;
    let mut bodies = unread.streams(places).await;
    until_idle(&node).await;
    assert_serves(&node).await;
    // The connection serves on; of its streams, each that nobody reads in time is let go.
    bodies.extend(unread.streams(1).await);
    for body in bodies {
        assert_reset(body).await;
    }
    assert_serves(&node).await;
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
    let read = timeout(PATIENCE, cut).await.expect("an unread answer ends");
    assert!(read < 11_000_000, "{read}");
}

/// Where unread answers fill the memory that there is for them, those make way that stand still.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_take_bounded_memory() {
    let config = Config {
        // One answer of this size is 5.6 MB long.
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
    timeout(PATIENCE, node.stop()).await.expect("it stops");
    drop(bodies);
}
