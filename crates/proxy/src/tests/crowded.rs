//! Strangers who connect, and send no request, or none that is let in.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    caller::{config, key, run_at_most},
    stand_in::StandIn,
};
use crate::{Config, serve::Connections};

/// Long for a test, and short for a person.
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 16;

/// Of a request: nothing, half a head, half a body that nobody lets in, and all of it, kept open.
const BEGINNINGS: [&[u8]; 4] = [
    b"",
    b"POST /v1/images/gene",
    b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
      Content-Length: 1000\r\n\r\n{",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
];

#[tokio::test]
async fn strangers_without_a_key_lock_nobody_out() {
    let node = StandIn::start().await;
    let guarded = Config { client_key: key("door"), ..config(&[&node.url]) };
    let connections = Connections { in_all: CONNECTIONS, of_source: CONNECTIONS };
    let proxy = run_at_most(connections, guarded).await.unwrap();
    let address = proxy.url.strip_prefix("http://").unwrap();
    let mut strangers = Vec::new();
    for number in 0..5 * CONNECTIONS {
        let mut stranger = timeout(TIMEOUT, TcpStream::connect(address)).await.unwrap().unwrap();
        let _ = stranger.write_all(BEGINNINGS[number % BEGINNINGS.len()]).await;
        strangers.push(stranger);
    }
    for _ in 0..3 {
        let asked = proxy.http().get(format!("{}/v1/models", proxy.url)).bearer_auth("door").send();
        let answer = timeout(TIMEOUT, asked).await.expect("in time").unwrap();
        assert_eq!(answer.status(), 200);
    }
    // Who came first made way.
    let mut rest = Vec::new();
    let ended = timeout(TIMEOUT, strangers[0].read_to_end(&mut rest)).await.expect("it is let go");
    assert!(ended.is_err() || rest.is_empty());
}
