//! What a node says of requests while it runs, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpStream,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use program::Program;
use serde_json::json;
use tests::http;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until the log says this.
fn says(log: &std::path::Path, words: &str) -> String {
    let until = Instant::now() + TIMEOUT;
    loop {
        let said = fs::read_to_string(log).unwrap();
        if said.contains(words) {
            return said;
        }
        assert!(Instant::now() < until, "{words}: {said}");
        sleep(Duration::from_millis(20));
    }
}

/// On a thread beside, a client closes its connection while this one waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_told_and_probes_that_succeed_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let node = Program::serve(&["--allow-plaintext"], File::create(&log).unwrap());
    node.ready().await;
    let get = async |path: &str| {
        http().get(format!("{}{path}", node.url)).send().await.unwrap().text().await.unwrap()
    };
    for path in ["/healthz", "/readyz", "/metrics"] {
        get(path).await;
    }
    let url = format!("{}/v1/images/generations", node.url);
    let body = json!({ "prompt": "a fox", "size": "512x512", "steps": 50, "n": 4 });
    let asked = http().post(url).json(&body).timeout(Duration::from_millis(500)).send().await;
    assert!(asked.unwrap_err().is_timeout());
    let said = says(&log, "not answered");
    assert!(said.contains("stopped by its client"), "{said}");
    for line in said.lines().filter(|line| line.contains("answered")) {
        assert!(!["health", "/metrics"].iter().any(|probe| line.contains(probe)), "{line}");
    }
    let left = "obscura_http_answers_total{route=\"/v1/images/generations\",status=\"499\"} 1";
    assert!(get("/metrics").await.contains(left));
    node.stop();
}

#[tokio::test]
async fn who_asks_twice_to_stop_does_not_wait_for_what_runs() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut node = Program::serve(&[], File::create(&log).unwrap());
        node.ready().await;
        // A request whose body does not come.
        let mut client = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).unwrap();
        let head = "POST /v1/confidential/images/generations HTTP/1.1\r\nHost: localhost\r\n\
                    Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
        client.write_all(head.as_bytes()).unwrap();
        sleep(Duration::from_millis(300));
        let ask = |id: u32| {
            Command::new("kill").args(["-s", signal, &id.to_string()]).status().unwrap();
        };
        ask(node.id());
        says(&log, "finishing what runs");
        sleep(Duration::from_millis(300));
        assert_eq!(node.ended(), None, "it waits for the body");
        ask(node.id());
        let until = Instant::now() + Duration::from_secs(10);
        while node.ended().is_none() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        assert_eq!(node.ended(), Some(code));
        says(&log, "asked for twice");
    }
}
