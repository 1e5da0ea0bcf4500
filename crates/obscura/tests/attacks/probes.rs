//! What anybody can ask without credentials, while others are drawn for.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::target::{Target, endless, in_time, small};

const OPEN: [&str; 5] = ["/health", "/healthz", "/readyz", "/info", "/v1/models"];
const PROBES: [&str; 3] = ["/health", "/healthz", "/readyz"];
/// What names an answer, and tells nothing of others.
const VARIES: [&str; 2] = ["date", "x-request-id"];

/// `/readyz` once gave the queue's seconds, by which size, steps and number of a sealed request were told
/// exactly, each time.
pub(crate) async fn tell_nothing_of_what_is_drawn(node: &Target, probes: &str) {
    let idle = seen(node, probes).await;
    let long =
        json!({"prompt": "a red star", "size": "64x64", "steps": 50, "n": 10, "stream": true});
    for jobs in [vec![long.clone()], vec![endless()], vec![long; 4]] {
        let [client, _] = &node.clients;
        let mut held = Vec::new();
        for fields in &jobs {
            let answer = node.ask(client, fields.clone()).await;
            assert_eq!(answer.status(), 200);
            held.push(answer);
        }
        let depth = jobs.len() as f64;
        assert_eq!(node.metric("obscura_queue_depth").await, depth);
        assert_eq!(seen(node, probes).await, idle);
        assert_eq!(node.metric("obscura_queue_depth").await, depth, "it was busy all the while");
        drop(held);
        node.idle().await;
    }
    assert_eq!(node.ask(&node.clients[0], small()).await.status(), 200);
    assert_eq!(seen(node, probes).await, idle, "nor of what was drawn before");
}

/// Every answer by its path: as it travels over HTTP/1, and what HTTP/2 carries.
async fn seen(node: &Target, probes: &str) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let [_, http2] = &node.clients;
    for (url, paths) in [(node.url.as_str(), &OPEN[..]), (probes, &PROBES)] {
        for path in paths {
            let mut socket =
                TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut bytes = String::new();
            in_time(socket.read_to_string(&mut bytes)).await.unwrap();
            assert!(bytes.starts_with("HTTP/1.1 200"), "{path}: {bytes}");
            let lines = bytes
                .split("\r\n")
                .filter(|line| !VARIES.iter().any(|name| line.starts_with(&format!("{name}: "))));
            seen.insert(format!("{url}{path}"), lines.collect::<Vec<_>>().join("\n"));

            let answer = in_time(http2.get(format!("{url}{path}")).send()).await.unwrap();
            let mut headers = answer.headers().clone();
            VARIES.iter().for_each(|name| drop(headers.remove(*name)));
            let text = answer.text().await.unwrap();
            seen.insert(format!("{url}{path}, HTTP/2"), format!("{headers:?} {text}"));
        }
    }
    seen
}
