//! What a client sends stays between it and the model: not in the log at its most talkative, not in
//! an answer's clear text, not in a panic.
//!
//! The program itself, with the demo model, is searched in `crates/obscura/tests/secrecy`. Here a
//! stand-in for the model can be made to panic.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use node::Config;
use serde_json::json;
use tests::{Exchange, MODEL, OneColour, PANIC_PROMPT, TestNode, editing_node, http};
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
    // On the route in clear text, too, an answer never quotes what was sent but its own images.
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
    // Edits: a file that holds the word, whole, cut off and damaged; a form; and fields that are refused.
    let editing = editing_node(Config { allow_plaintext: true, ..Config::default() }).await;
    let file = file_with_a_word();
    let mut damaged = file.clone();
    damaged.truncate(file.len() - 12);
    let at = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 8;
    damaged[at..].fill(0);
    damaged.extend(&file[file.len() - 12..]);
    for file in [&file[..], &file[..file.len() / 2], &damaged, WORD.as_bytes()] {
        let url = format!("data:image/{WORD};base64,{}", BASE64_STANDARD.encode(file));
        for fields in [
            json!({"prompt": WORD, "images": [url]}),
            json!({"prompt": PANIC_PROMPT, "images": [url]}),
            json!({"prompt": WORD, "images": [{"image_url": url, WORD: WORD}], "input_fidelity": WORD}),
            json!({"prompt": WORD, "images": [format!("https://{WORD}"), {"file_id": WORD}]}),
        ] {
            clear += &Exchange::of(&editing.url, fields.clone()).await.to_edits().send().await.text;
            let mut fields = fields;
            fields["model"] = MODEL.into();
            let asked = http().post(format!("{}/v1/images/edits", editing.url)).json(&fields);
            clear += &asked.send().await.unwrap().text().await.unwrap();
        }
        let head =
            format!("--x\r\nContent-Disposition: form-data; name=image; filename={WORD}\r\n\r\n");
        let form = [head.as_bytes(), file, b"\r\n--x--"].concat();
        let asked = http().post(format!("{}/v1/images/edits", editing.url));
        let asked = asked.header("content-type", "multipart/form-data; boundary=x").body(form);
        clear += &asked.send().await.unwrap().text().await.unwrap();
    }
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

/// A PNG of one colour, with a text in it.
fn file_with_a_word() -> Vec<u8> {
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

    let mut file = std::io::Cursor::new(Vec::new());
    let rgb = tests::klein::pattern(64, 64);
    PngEncoder::new(&mut file).write_image(&rgb, 64, 64, ExtendedColorType::Rgb8).unwrap();
    let mut file = file.into_inner();
    let text = [b"iTXtComment\0\0\0\0\0", WORD.as_bytes()].concat();
    let length = (text.len() as u32 - 4).to_be_bytes();
    // A checksum that is wrong is passed over with its chunk, or is the reason to refuse: no word of it either way.
    file.splice(33..33, [&length[..], &text, &[0; 4]].concat());
    file
}
