//! Spans reach a collector, as children of the caller's, and say nothing of what was asked.

use std::process::{Command, Stdio};

use tests::http;

use crate::{collector, program::Program};

const TRACE: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
const PARENT: [u8; 8] = *b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7";
const WORD: &str = "xylophonist";

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_and_tell_no_prompt() {
    let (received, collector) = collector::start().await;
    let setting = format!("otlp_endpoint={collector}");
    let node = Program::serve(&["--allow-plaintext", "--set", &setting], Stdio::null());
    node.ready().await;
    let answer = http()
        .post(format!("{}/v1/images/generations", node.url))
        .header("traceparent", format!("00-{}-{}-01", hex(&TRACE), hex(&PARENT)))
        .json(&serde_json::json!({
            "model": "obscura/demo", "prompt": format!("a {WORD}"), "size": "64x64",
        }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // What is not sent yet goes out when the node stops.
    node.stop();

    let received = received.lock().unwrap();
    let holds = |bytes: &[u8]| received.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(&TRACE) && holds(&PARENT), "{} bytes", received.len());
    for name in ["obscura", "request", "draw", "/v1/images/generations"] {
        assert!(holds(name.as_bytes()), "{name}");
    }
    assert!(!holds(WORD.as_bytes()) && !holds(b"64x64"));
}

#[test]
fn an_address_that_is_none_is_refused() {
    let output = Command::new(crate::program::path())
        .args(["serve", "--tee", "simulated", "--set", "otlp_endpoint=https://127.0.0.1"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("must begin with http://"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
