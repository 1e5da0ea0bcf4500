//! What a client sends stays between it and the model: not in the log at its most talkative, not in
//! an answer's clear text, not in a panic.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tests::{Exchange, MODEL, OneColour, PANIC_PROMPT, TestNode, http};
use tracing_subscriber::fmt::MakeWriter;

/// A word that nothing but a leak would write.
const WORD: &str = "xylophonist";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_at_its_most_talkative_tells_nothing() {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).init();
    node::hide_panic_messages();
    let node = TestNode::start(OneColour::instant()).await;

    let mut clear = String::new();
    for fields in [
        json!({"prompt": WORD, "user": WORD}),
        json!({"prompt": WORD, "style": "vivid"}),
        json!({"prompt": WORD, "n": 0}),
        json!({"prompt": WORD, "size": WORD}),
        json!({"prompt": WORD, "quality": WORD}),
        json!({"prompt": "x", "model": WORD}),
        json!({"prompt": [WORD]}),
        json!({"prompt": PANIC_PROMPT}),
        json!({"prompt": WORD, "negative_prompt": WORD, "safety_identifier": WORD}),
    ] {
        clear += &Exchange::of(&node.url, fields).await.send().await.text;
    }
    let broken = format!("{{\"prompt\": \"{WORD}\" ");
    clear += &Exchange::seal(&node.url, broken.as_bytes()).await.send().await.text;
    // On the route in clear text, too, an answer never quotes what was sent but its own pictures.
    for body in [
        json!({"model": MODEL, "prompt": WORD}),
        json!({"model": WORD, "prompt": WORD}),
        json!({"model": MODEL, "prompt": WORD, "size": WORD}),
        json!({"model": MODEL, "prompt": PANIC_PROMPT}),
        json!({"model": MODEL, "prompt": WORD, "stream": true, "partial_images": 3}),
        json!({"model": MODEL, "prompt": WORD, "response_format": "url"}),
        json!({"model": MODEL, "prompt": PANIC_PROMPT, "stream": true}),
    ] {
        let url = format!("{}/v1/images/generations?{WORD}", node.url);
        clear += &http().post(url).json(&body).send().await.unwrap().text().await.unwrap();
    }
    let mut sealed = Exchange::of(
        &node.url,
        json!({"prompt": WORD, "stream": true, "partial_images": 3, "progress": true}),
    )
    .await;
    sealed.envelope.stream = Some(true);
    clear += &sealed.send().await.text;
    for path in ["metrics", "info", "readyz", "openapi.json"] {
        let answer = http().get(format!("{}/{path}", node.url)).send().await.unwrap();
        clear += &answer.text().await.unwrap();
    }
    clear += &http()
        .get(format!("{}/{WORD}", node.url))
        .header("x-request-id", format!("{WORD} {WORD}"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(!clear.contains(WORD));

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // The HTTP client of this test logs what it connects to; everything else is the node's.
    let node_log: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("reqwest") && !line.contains("hyper_util::client"))
        .collect();
    assert!(node_log.iter().any(|line| line.contains("panic")), "the panics are told");
    assert!(node_log.iter().any(|line| line.contains("answered")), "the requests are told");
    for line in node_log {
        assert!(!line.contains(WORD) && !line.contains(PANIC_PROMPT), "{line}");
    }
}
