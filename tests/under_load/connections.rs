//! Connections that make no progress.

use std::{net::SocketAddr, time::Duration};

use node::{Config, Node, Probes};
use serde_json::json;
use tests::{Exchange, OneColour, TestNode, editing_node, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// Long for a test, and short for a person.
const TIMEOUT: Duration = Duration::from_secs(30);
const HALF_A_BODY: &[u8] = b"POST /v1/nodes/lock HTTP/1.1\r\nHost: localhost\r\n\
    Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{";

fn address(node: &TestNode) -> SocketAddr {
    node.url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A connection from `127.0.0.LAST`.
async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    timeout(TIMEOUT, socket.connect(to)).await.expect("in time").unwrap()
}

async fn status(url: &str, path: &str) -> u16 {
    let asked = http().get(format!("{url}{path}")).send();
    timeout(TIMEOUT, asked).await.expect("in time").unwrap().status().as_u16()
}

/// Starts the listener for probes, and tells its URL.
fn probes(node: &TestNode) -> (Probes, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (Probes::start(listener, node.node.clone()).unwrap(), url)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_arrive_keep_nobody_out() {
    let config = Config {
        max_connections: 64,
        max_connections_per_address: 64,
        body_timeout_secs: 600,
        header_timeout_secs: 600,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let (_probes, health) = probes(&node);
    let mut held = Vec::new();
    for number in 0..260_u32 {
        let mut socket = connect_from(2 + (number % 4) as u8, address(&node)).await;
        let _ = socket.write_all(HALF_A_BODY).await;
        held.push(socket);
        if number % 65 == 64 {
            assert_eq!(status(&health, "/healthz").await, 200);
            assert_eq!(status(&health, "/readyz").await, 200);
            assert_eq!(status(&node.url, "/healthz").await, 200);
            Exchange::of(&node.url, json!({"prompt": "x"})).await.send().await.images();
        }
    }
    drop(held);
}

/// Of a body that comes at 2.6 Mbit/s, for three and a half seconds.
static PIECE: [u8; 32 * 1024] = [b' '; 32 * 1024];
const PIECES: usize = 36;
const PAUSE: Duration = Duration::from_millis(100);

/// Where a connection may be idle for two seconds.
async fn impatient() -> TestNode {
    let config = Config {
        allow_plaintext: true,
        max_connections: 32,
        write_timeout_secs: 2,
        body_timeout_secs: 600,
        ..Config::default()
    };
    editing_node(config).await
}

/// Sends such a body by HTTP/1, and gives how the answer begins.
async fn upload(to: SocketAddr) -> [u8; 12] {
    let mut socket = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        PIECES * PIECE.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..PIECES {
        sleep(PAUSE).await;
        socket.write_all(&PIECE).await.expect("it is not cut");
    }
    let mut answer = [0; 12];
    timeout(TIMEOUT, socket.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_take_longer_than_a_connection_may_be_idle() {
    let node = impatient().await;
    assert_eq!(&upload(address(&node)).await, b"HTTP/1.1 400");

    let socket = TcpStream::connect(address(&node)).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::post(format!("{}/v1/images/edits", node.url))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let mut requests = requests.ready().await.unwrap();
    let (answer, mut body) = requests.send_request(request, false).unwrap();
    for piece in 1..=PIECES {
        sleep(PAUSE).await;
        body.send_data(PIECE.to_vec().into(), piece == PIECES).expect("it is not cut");
    }
    let answer = timeout(TIMEOUT, answer).await.expect("in time").expect("an answer");
    assert_eq!(answer.status(), 400);
}

/// Whoever sends as it should is not cut for those who come and say little.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_cuts_no_upload() {
    let node = impatient().await;
    let uploading = tokio::spawn(upload(address(&node)));
    let mut held = Vec::new();
    while !uploading.is_finished() {
        let mut socket = connect_from(2 + (held.len() % 4) as u8, address(&node)).await;
        let _ = socket.write_all(HALF_A_BODY).await;
        held.push(socket);
        sleep(PAUSE / 5).await;
    }
    assert_eq!(&uploading.await.unwrap(), b"HTTP/1.1 400");
    assert!(held.len() > 32, "the upload was the oldest of a full house");
}

/// A byte now and then is no progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_drip_counts_as_idle() {
    let node = impatient().await;
    let (mut reader, mut writer) = TcpStream::connect(address(&node)).await.unwrap().into_split();
    writer.write_all(&HALF_A_BODY.replace_length(100_000)).await.unwrap();
    let dripping = async {
        while writer.write_all(b" ").await.is_ok() {
            sleep(PAUSE).await
        }
    };
    let mut answer = Vec::new();
    let ended = async { tokio::join!(dripping, reader.read_to_end(&mut answer)) };
    let _ = timeout(TIMEOUT, ended).await.expect("the connection is closed");
    assert!(answer.is_empty(), "long before the body's own time is over");
}

/// One address fills its share and no more, and is not told to wait: its oldest idle connection goes.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_of_connections() {
    let config = Config {
        max_connections: 64,
        max_connections_per_address: 4,
        header_timeout_secs: 600,
        ..Config::default()
    };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut other = connect_from(9, address(&node)).await;
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(connect_from(2, address(&node)).await);
    }
    for socket in &mut held[..8] {
        let end = timeout(TIMEOUT, socket.read(&mut [0])).await.expect("it is let go");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    // The newest, and whoever comes from elsewhere, are still there.
    for socket in held[8..].iter_mut().chain([&mut other]) {
        socket.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        timeout(TIMEOUT, socket.read_exact(&mut answer)).await.expect("in time").unwrap();
        assert_eq!(&answer, b"HTTP/1.0 200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_cut() {
    let config = Config { body_timeout_secs: 2, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let (mut reader, mut writer) = TcpStream::connect(address(&node)).await.unwrap().into_split();
    writer.write_all(&HALF_A_BODY.replace_length(900)).await.unwrap();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = [0; 12];
    timeout(TIMEOUT, reader.read_exact(&mut answer)).await.expect("it is let go").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(reader);
    timeout(TIMEOUT, dripping).await.expect("the connection is closed").unwrap();
}

trait ReplaceLength {
    fn replace_length(&self, bytes: usize) -> Vec<u8>;
}

impl ReplaceLength for [u8] {
    fn replace_length(&self, bytes: usize) -> Vec<u8> {
        let text = String::from_utf8(self.to_vec()).unwrap();
        text.replace("Length: 9", &format!("Length: {bytes}")).into_bytes()
    }
}

/// The listener for probes tells of a node from its start to its end, and serves nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn probes_have_a_listener_of_their_own() {
    let node = TestNode::loading(Config::default()).await;
    let (_probes, health) = probes(&node);
    assert_eq!((status(&health, "/healthz").await, status(&health, "/readyz").await), (200, 503));
    drop(node);
    let node = TestNode::start(OneColour::instant()).await;
    let (_probes, health) = probes(&node);
    for path in ["/health", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(status(&health, path).await, 200, "{path}");
    }
    for path in ["/", "/v1/models", "/v1/attestation", "/info"] {
        assert_eq!(status(&health, path).await, 404, "{path}");
    }
    let ready = http().get(format!("{health}/readyz")).send().await.unwrap().text().await.unwrap();
    assert!(!ready.contains("queue"), "what others asked for is nobody's business: {ready}");
    let inner = node.node.clone();
    node.stop().await;
    assert_eq!((status(&health, "/healthz").await, status(&health, "/readyz").await), (200, 503));
    drop::<std::sync::Arc<Node>>(inner);
}
