//! What is wrong with an edit is named, whichever way it comes; and what cannot be an edit costs nothing.

use std::time::Duration;

use node::{ApiKeyDigest, Config};
use serde_json::{Value, json};
use tests::{Exchange, MODEL, OneColour, TestNode, editing_node, error_of, http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{data_url, form, png};

const TIMEOUT: Duration = Duration::from_secs(60);

async fn node() -> TestNode {
    editing_node(Config { allow_plaintext: true, ..Config::default() }).await
}

async fn post(node: &TestNode, body: Vec<u8>, media_type: &str) -> (u16, String) {
    let url = format!("{}/v1/images/edits", node.url);
    let asked = http().post(url).header("content-type", media_type).body(body);
    let answer = asked.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn body(fields: &Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "a hat", "images": [data_url(&png(64, 64))]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// In JSON, in a form, and sealed: the same words.
async fn refusals(node: &TestNode, file: &[u8]) -> [String; 3] {
    let fields = body(&json!({"images": [data_url(file)]}));
    let (status, text) = post(node, fields.to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 400, "{text}");
    let in_json = error_of(&text);
    assert_eq!(
        (in_json.param.as_deref(), in_json.code.as_deref()),
        (Some("images"), Some("invalid_image"))
    );
    let (form, media_type) =
        form(&[("model", MODEL.as_bytes()), ("prompt", b"a hat"), ("image", file)]);
    let (status, text) = post(node, form, media_type).await;
    assert_eq!(status, 400, "{text}");
    let in_form = error_of(&text);
    let sealed = Exchange::of(&node.url, fields).await.to_edits().send().await;
    assert_eq!(sealed.status, 400, "{}", sealed.text);
    assert!(!sealed.text.contains("images"), "which rule is broken is sealed: {}", sealed.text);
    [in_json.message, in_form.message, error_of(&sealed.open()).message]
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_images_are_named() {
    let node = node().await;
    let whole = png(96, 64);
    let mut bomb = whole.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let mut damaged = whole.clone();
    let at = damaged.windows(4).position(|name| name == b"IDAT").unwrap() + 6;
    damaged[at..at + 40].fill(0xa5);
    for (file, says) in [
        (b"".to_vec(), "is empty"),
        (b"a text, whatever its name".to_vec(), "is neither PNG, JPEG nor WebP"),
        (whole[..whole.len() / 2].to_vec(), "is cut off"),
        (damaged, "is damaged"),
        (bomb, "65535×65535 pixels, at most 50000000"),
        (png(16, 16), "sides must be from 64"),
        (png(640, 64), "one side may be 8 times the other"),
    ] {
        for message in refusals(&node, &file).await {
            assert!(message.starts_with("`images[0]`") && message.contains(says), "{message}");
        }
    }
    // And it still serves.
    let (status, text) =
        post(&node, body(&json!({})).to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_break_a_rule_are_named() {
    let node = node().await;
    let url = data_url(&png(64, 64));
    let many = vec![url.clone(); 11];
    for (fields, param) in [
        (json!({"images": []}), "images"),
        (json!({"images": null}), "images"),
        (json!({"images": "data:"}), "images"),
        (json!({"images": many}), "images"),
        (json!({"images": ["https://host/a.png"]}), "images"),
        (json!({"images": [{"file_id": "file-1"}]}), "images"),
        (json!({"mask": {"image_url": url.replace("base64", "")}}), "mask"),
        (json!({"input_fidelity": "most"}), "input_fidelity"),
        (json!({"size": "100x100"}), "size"),
        (json!({"n": 0}), "n"),
        (json!({"background": "transparent"}), "background"),
        (json!({"stream": true, "partial_images": 4}), "partial_images"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": null}), "prompt"),
    ] {
        let fields = body(&fields);
        let (status, text) = post(&node, fields.to_string().into_bytes(), "application/json").await;
        assert_eq!((status, error_of(&text).param.as_deref()), (400, Some(param)), "{text}");
        let sealed = Exchange::of(&node.url, fields.clone()).await.to_edits().send().await;
        assert_eq!(error_of(&sealed.open()).param.as_deref(), Some(param), "{fields}");
    }
    // In clear text the first model that takes images does where none is named.
    let unnamed = body(&json!({"model": null})).to_string().into_bytes();
    assert_eq!(post(&node, unnamed, "application/json").await.0, 200);
    let model: (&str, &[u8]) = ("model", MODEL.as_bytes());
    let image = png(64, 64);
    let image: (&str, &[u8]) = ("image", &image);
    for (fields, param) in [
        (vec![model, ("prompt", b"x")], "images"),
        (vec![model, ("prompt", b"x"), ("mask", b"x"), image], "mask"),
        (vec![model, ("prompt", b"x"), ("n", b"many"), image], "n"),
        (vec![model, ("prompt", b"\xff"), image], "prompt"),
        (vec![model, image], "prompt"),
    ] {
        let (form, media_type) = form(&fields);
        let (status, text) = post(&node, form, media_type).await;
        assert_eq!((status, error_of(&text).param.as_deref()), (400, Some(param)), "{text}");
    }
    let many: Vec<_> = std::iter::once(model).chain([image; 11]).collect();
    let (form, media_type) = form(&many);
    let message = error_of(&post(&node, form, media_type).await.1).message;
    assert_eq!(message, "`images` must be 1 to 4 images");
    // Images have their own route, and there alone a place.
    let generations = format!("{}/v1/images/generations", node.url);
    let answer = http().post(generations).json(&body(&json!({}))).send().await.unwrap();
    let error = error_of(&answer.text().await.unwrap());
    assert_eq!(error.param.as_deref(), Some("images"));
    assert!(error.message.contains("/v1/images/edits"), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_neither_json_nor_a_form_are_refused() {
    let node = node().await;
    for (media_type, body, status, code) in [
        ("text/plain", "{}", 415, "unsupported_media_type"),
        ("multipart/form-data", "--x--", 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=x", "x", 400, "invalid_form"),
        ("multipart/form-data; boundary=x", "--x\r\n\r\nx\r\n--x--", 400, "invalid_form"),
        ("application/json", "[]", 400, "invalid_json"),
        ("application/json", "", 400, "invalid_json"),
    ] {
        let (found, text) = post(&node, body.as_bytes().to_vec(), media_type).await;
        let error = error_of(&text);
        assert_eq!((found, error.code.as_deref()), (status, Some(code)), "{media_type}: {text}");
    }
}

/// The head of a request whose body never comes, and the answer's head.
async fn answer_to_head(node: &TestNode, path: &str, headers: &str, length: u64) -> String {
    let address = node.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = timeout(TIMEOUT, socket.read(&mut answer)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

const ROUTES: [&str; 2] = ["/v1/images/edits", "/v1/confidential/images/edits"];

/// Credentials, lengths, and models that take no images: all before a byte of a body.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_refused_by_its_head_is() {
    let keyed = Config {
        allow_plaintext: true,
        api_keys_sha256: vec![ApiKeyDigest::of("key")],
        ..Config::default()
    };
    let keyed = editing_node(keyed).await;
    let open = node().await;
    let from_text = TestNode::start(OneColour::instant()).await;
    for path in ROUTES {
        let answer = answer_to_head(&keyed, path, "", 1000).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let answer = answer_to_head(&open, path, "", 50_000_000).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        let answer = answer_to_head(&from_text, path, "", 1000).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("no_input_images"),
            "{answer}"
        );
        assert!(answer.contains("FLUX.2-klein") && answer.contains(MODEL), "{answer}");
        let answer = answer_to_head(&open, path, "Origin: https://elsewhere.example\r\n", 9).await;
        let is_clear = path == ROUTES[0];
        assert_eq!(answer.starts_with("HTTP/1.1 403"), is_clear, "{answer}");
    }
    // The other routes take no more than before.
    let answer = answer_to_head(&open, "/v1/confidential/images/generations", "", 300_000).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let sealed_alone = editing_node(Config::default()).await;
    let answer = answer_to_head(&sealed_alone, ROUTES[0], "", 1000).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("route_off"), "{answer}");
}

/// Twenty megabytes of files are let in, sealed too; one byte more is not.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_edits_pass() {
    let node = node().await;
    // What follows a PNG's end is nobody's.
    let mut file = png(64, 64);
    file.resize(20_000_000, 0);
    let fields = body(&json!({"images": [data_url(&file)]}));
    let (status, text) = post(&node, fields.to_string().into_bytes(), "application/json").await;
    assert_eq!(status, 200, "{}", &text[..text.len().min(300)]);
    let sealed = Exchange::of(&node.url, fields).await.to_edits().send().await;
    assert_eq!(sealed.images().data.len(), 1);
    let parts: [(&str, &[u8]); 2] = [("model", MODEL.as_bytes()), ("prompt", b"a hat")];
    let (whole, media_type) = form(&[&parts[..], &[("image", &file[..])]].concat());
    assert_eq!(post(&node, whole, media_type).await.0, 200);
    let (longer, media_type) =
        form(&[&parts[..], &[("image", &file[..]), ("image", b"x")]].concat());
    let (status, text) = post(&node, longer, media_type).await;
    let error = error_of(&text);
    assert_eq!((status, error.param.as_deref()), (400, Some("images")));
    assert!(error.message.contains("20000000 bytes"), "{}", error.message);
}

/// Input images with holes are told of.
#[tokio::test(flavor = "multi_thread")]
async fn transparency_is_told_in_the_answer() {
    use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

    let node = node().await;
    let mut file = std::io::Cursor::new(Vec::new());
    let clear = [9, 8, 7, 0].repeat(64 * 64);
    PngEncoder::new(&mut file).write_image(&clear, 64, 64, ExtendedColorType::Rgba8).unwrap();
    let fields =
        body(&json!({"images": [data_url(file.get_ref())], "response_format": "b64_json"}));
    let (_, text) = post(&node, fields.to_string().into_bytes(), "application/json").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer["warnings"][0].as_str().unwrap().contains("transparent"), "{text}");
    let (_, text) =
        post(&node, body(&json!({})).to_string().into_bytes(), "application/json").await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert!(answer.get("warnings").is_none());
}
