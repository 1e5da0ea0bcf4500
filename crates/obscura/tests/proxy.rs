//! `obscura proxy` as a process of its own, before a node that is one too.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tests::http;

use program::Program;

const MODEL: &str = "obscura/demo";
const PROMPT: &str = "a vermilion lighthouse beneath thunderclouds";

/// A proxy on loopback; it ends with its test.
struct Proxy {
    child: Child,
    url: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn proxy(words: &[&str]) -> Command {
    let mut command = Command::new(program::path());
    command.args(["proxy", "--listen", "127.0.0.1:0"]).args(words);
    command
}

impl Proxy {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("obscura proxy listens on ").unwrap().to_owned();
        Self { child, url }
    }

    async fn ask(&self, more: &Value) -> reqwest::Response {
        let mut body = json!({ "model": MODEL, "prompt": PROMPT, "size": "64x64", "seed": 7 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let url = format!("{}/v1/images/generations", self.url);
        http().post(url).json(&body).send().await.unwrap()
    }

    /// Ends it in order.
    fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn verify(report: &Path, verdict: &Value) -> Option<i32> {
    let nonce = verdict["nonce"].as_str().unwrap();
    let at = verdict["appraised_at"].to_string();
    let mut command = Command::new(program::path());
    command.args(["verify", "--accept-simulated", "--nonce", nonce, "--at", &at, "--report"]);
    command.arg(report).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
}

/// Through a restart of the node, which has other keys then; and no word of a prompt is in the log.
#[tokio::test]
async fn a_program_sees_nothing_of_a_node_that_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let log = folder.path().join("log");
    let node = Program::serve(&[], Stdio::null());
    node.ready().await;
    let at = node.url.strip_prefix("http://").unwrap().to_owned();
    let proxy = Proxy::start(
        proxy(&["--node", &node.url, "--accept-simulated", "--log", "trace"])
            .arg("--audit")
            .arg(&audit)
            .stderr(fs::File::create(&log).unwrap()),
    );
    let first = proxy.ask(&json!({})).await;
    assert_eq!(first.status(), 200);
    let first: Value = first.json().await.unwrap();
    node.stop();
    assert_eq!(proxy.ask(&json!({})).await.status(), 502);

    let node = Program::start(
        Command::new(program::path())
            .args(["serve", "--model", "demo", "--tee", "simulated", "--device", "cpu"])
            .args(["--listen", &at])
            .stderr(Stdio::null()),
    );
    node.ready().await;
    let again = proxy.ask(&json!({})).await;
    assert_eq!(again.status(), 200);
    let again: Value = again.json().await.unwrap();
    // The same model, prompt and seed.
    assert_eq!(first["data"][0]["b64_json"], again["data"][0]["b64_json"]);
    let events = proxy.ask(&json!({ "stream": true, "partial_images": 1 })).await;
    let events = events.text().await.unwrap();
    assert_eq!(events.matches("event: image_generation.partial_image\n").count(), 1);
    assert_eq!(events.matches("event: image_generation.completed\n").count(), 1);
    let bad = proxy.ask(&json!({ "size": "100x100" })).await;
    assert_eq!(bad.status(), 400);
    assert_eq!(bad.json::<Value>().await.unwrap()["error"]["param"], "size");
    // The node itself takes no prompt in clear text.
    let clear = http().post(format!("{}/v1/images/generations", node.url)).json(&json!({}));
    assert_eq!(clear.send().await.unwrap().status(), 404);

    for number in ["000001", "000002"] {
        let verdict = fs::read(audit.join(format!("{number}.verdict.json"))).unwrap();
        let verdict: Value = serde_json::from_slice(&verdict).unwrap();
        assert_eq!(verify(&audit.join(format!("{number}.report.json")), &verdict), Some(0));
    }
    proxy.stop();
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("evidence accepted"), "{log}");
    for word in PROMPT.split(' ').filter(|word| word.len() > 6) {
        assert!(!log.contains(word), "{word} in the log");
    }
}

#[tokio::test]
async fn a_node_that_is_not_trusted_ends_the_start() {
    let node = Program::serve(&[], Stdio::null());
    node.ready().await;
    for (words, code, said) in [
        (vec!["--node", node.url.as_str()], 10, "platform.allowed"),
        (vec!["--node", "http://127.0.0.1:9"], 1, "no node gives evidence"),
        (vec!["--node", "ftp://node.example"], 1, "http://"),
        (vec!["--node", &node.url, "--listen", "0.0.0.0:0"], 1, "--client-key-file"),
        (
            vec!["--node", &node.url, "--evidence", "http://a", "--evidence", "http://b"],
            1,
            "in their order",
        ),
        (vec!["--node", &node.url, "--api-key-file", "/dev/null"], 1, "holds no key"),
    ] {
        let mut command = Command::new(program::path());
        let done = command.arg("proxy").args(&words).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{words:?}");
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(error.contains(said), "{words:?}: {error}");
        assert!(done.stdout.is_empty(), "it never listened");
    }
}
