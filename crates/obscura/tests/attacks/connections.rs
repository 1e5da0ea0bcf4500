//! Connections that take room and give nothing.

use std::net::SocketAddr;

use tests::http2::{END_HEADERS, Http2, frame, head, kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::target::{Target, both, in_time, small};

const LOCK: &str = "/v1/nodes/lock";

/// A connection from `127.0.0.LAST`.
async fn connect_from(last: u8, node: &Target) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    in_time(socket.connect(node.address().parse().unwrap())).await.unwrap()
}

/// The first byte of nine, over HTTP/1 and over HTTP/2, four times as often as there are connections.
pub(crate) async fn bodies_that_do_not_arrive_keep_nobody_out(node: &Target) {
    let begun = format!(
        "POST {LOCK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 9\r\n\r\n{{"
    );
    let fields = [("content-type", "application/json"), ("content-length", "9")];
    let streamed = [
        frame(kind::HEADERS, END_HEADERS, 1, &head("POST", LOCK, &fields)),
        frame(kind::DATA, 0, 1, b"{"),
    ]
    .concat();
    let (mut held, mut held_streams) = (Vec::new(), Vec::new());
    for number in 1..=256_u32 {
        if number % 4 == 0 {
            let mut connection = in_time(Http2::connect(&node.url, 65_535)).await;
            connection.write(&streamed).await;
            held_streams.push(connection);
        } else {
            let mut socket = connect_from(1 + (number % 4) as u8, node).await;
            // It may have been closed for the next already.
            let _ = socket.write_all(begun.as_bytes()).await;
            held.push(socket);
        }
        if number % 64 == 0 {
            for client in both() {
                let probe = client.get(format!("{}/healthz", node.url)).send();
                assert_eq!(in_time(probe).await.unwrap().status(), 200);
                assert_eq!(node.ask(&client, small()).await.status(), 200);
            }
        }
    }
}

/// Whoever has no key is told so at once, and cannot make the node wait for a body.
pub(crate) async fn credentials_come_before_bodies(node: &Target) {
    for path in [LOCK, "/v1/confidential/images/generations"] {
        let mut socket = TcpStream::connect(node.address()).await.unwrap();
        let head_1 = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: 200000\r\n\r\n"
        );
        socket.write_all(head_1.as_bytes()).await.unwrap();
        let mut answer = String::new();
        in_time(socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");

        let mut connection = Http2::connect(&node.url, 65_535).await;
        let fields = [("content-type", "application/json"), ("content-length", "200000")];
        let head_2 = head("POST", path, &fields);
        assert!(connection.write(&frame(kind::HEADERS, END_HEADERS, 1, &head_2)).await);
        in_time(connection.next_of(kind::HEADERS)).await.expect("an answer");
    }
}
