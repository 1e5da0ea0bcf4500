//! Everything wrong that a request can be: it is refused with the right words, and the node serves
//! the next one.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use node::Config;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{Exchange, MODEL, OneColour, PANIC_PROMPT, TestNode, error_of, http};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

mod fuzz;

/// The fields that carry bytes in base64, and how many.
const BINARY_FIELDS: [(&str, usize); 6] = [
    ("ciphertext", 0),
    ("client_dh_public_key", 32),
    ("node_dh_public_key", 32),
    ("nonce", 12),
    ("plaintext_body_hash", 32),
    ("salt", 16),
];

#[tokio::test]
async fn bodies_that_are_no_envelope_have_one_answer() {
    let node = TestNode::start(OneColour::instant()).await;
    let expected = malformed(&node).await;
    let good = envelope(&node).await;
    let mut bodies: Vec<String> =
        ["", "{", "null", "[]", "\"x\"", "7", "\u{0}", "{}{}"].map(str::to_owned).to_vec();
    for required in good.as_object().unwrap().keys() {
        if matches!(required.as_str(), "num_compute_units" | "stream") {
            continue;
        }
        let mut missing = good.clone();
        missing.as_object_mut().unwrap().remove(required);
        bodies.push(missing.to_string());
        let mut wrong_type = good.clone();
        wrong_type[required] = json!({"a": 1});
        bodies.push(wrong_type.to_string());
    }
    for body in bodies {
        assert_eq!(post(&node, body.clone()).await, (400, expected.clone()), "{body:.80}");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn fields_that_are_wrong_have_the_same_answer() {
    let node = TestNode::start(OneColour::instant()).await;
    let expected = malformed(&node).await;
    for (field, bytes) in BINARY_FIELDS {
        let good = envelope(&node).await;
        let mut wrong = vec!["*not base64*".to_owned(), String::new(), "AAA".to_owned()];
        wrong.push(BASE64_STANDARD.encode(vec![0; bytes + 1]));
        if bytes > 0 {
            wrong.push(BASE64_STANDARD.encode(vec![0; bytes - 1]));
        }
        for value in wrong {
            let mut broken = good.clone();
            broken[field] = value.clone().into();
            let answer = post(&node, broken.to_string()).await;
            assert_eq!(answer, (400, expected.clone()), "{field} = {value}");
        }
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn a_flipped_bit_in_any_field_has_the_same_answer() {
    let node = TestNode::start(OneColour::instant()).await;
    let expected = malformed(&node).await;
    let good = envelope(&node).await;
    for (field, _) in BINARY_FIELDS {
        let bytes = BASE64_STANDARD.decode(good[field].as_str().unwrap()).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let mut broken = good.clone();
            broken[field] = BASE64_STANDARD.encode(bytes).into();
            let (status, text) = post(&node, broken.to_string()).await;
            match field {
                "node_dh_public_key" => {
                    assert_eq!(status, 422);
                    assert_eq!(error_of(&text).code.as_deref(), Some("stale_key"));
                }
                _ => assert_eq!((status, text), (400, expected.clone()), "{field}, byte {at}"),
            }
        }
    }
    // None of these used the request up.
    assert_eq!(post(&node, good.to_string()).await.0, 200);
}

#[tokio::test]
async fn a_client_key_that_agrees_on_nothing_is_refused() {
    let node = TestNode::start(OneColour::instant()).await;
    let expected = malformed(&node).await;
    let mut one = [0; 32];
    one[0] = 1;
    for low_order in [[0; 32], one] {
        let mut broken = envelope(&node).await;
        broken["client_dh_public_key"] = BASE64_STANDARD.encode(low_order).into();
        assert_eq!(post(&node, broken.to_string()).await, (400, expected.clone()));
    }
}

#[tokio::test]
async fn someone_elses_node_key_is_stale() {
    let node = TestNode::start(OneColour::instant()).await;
    let other = TestNode::start(OneColour::instant()).await;
    let exchange = Exchange::of(&other.url, json!({"prompt": "x"})).await;
    let (status, text) = post(&node, serde_json::to_string(&exchange.envelope).unwrap()).await;
    assert_eq!(status, 422);
    let error = error_of(&text);
    assert!(error.message.ends_with(&node.key_id), "{text}");
}

#[tokio::test]
async fn ten_megabytes_are_too_large() {
    let node = TestNode::start(OneColour::instant()).await;
    for (field, _) in BINARY_FIELDS {
        let mut broken = envelope(&node).await;
        broken[field] = "A".repeat(10_000_000).into();
        // The node answers before it has read all of it, and the client sees the answer.
        let answer = json_post(&node, broken.to_string()).send().await.expect("an answer");
        assert_eq!(answer.status(), 413, "{field}");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn sealed_bodies_that_are_no_object_have_the_one_answer() {
    let node = TestNode::start(OneColour::instant()).await;
    let expected = malformed(&node).await;
    for body in ["", "not json", "[]", "null", "[{\"prompt\": \"x\"}]", "{\"prompt\": \"x\""] {
        let sent = Exchange::seal(&node.url, body.as_bytes()).await.send().await;
        assert_eq!((sent.status, sent.text), (400, expected.clone()), "{body}");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn rules_that_a_sealed_body_breaks_are_told_to_the_client_alone() {
    let node = TestNode::start(OneColour::instant()).await;
    for (fields, param) in [
        (json!({"prompt": "x", "n": 0}), "n"),
        (json!({"prompt": "x", "n": 11}), "n"),
        (json!({"prompt": "x", "n": -1}), "n"),
        (json!({"prompt": "x", "n": "1"}), "n"),
        (json!({"prompt": "x", "size": "0x0"}), "size"),
        (json!({"prompt": "x", "size": "100x100"}), "size"),
        (json!({"prompt": "x", "size": "99999x99999"}), "size"),
        (json!({"prompt": "x", "size": "1024"}), "size"),
        (json!({"prompt": "x", "size": "4096x4096"}), "size"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": "x".repeat(1001)}), "prompt"),
        (json!({}), "prompt"),
        (json!({"prompt": "x", "model": "unknown/model"}), "model"),
        (json!({"prompt": "x", "quality": "best"}), "quality"),
        (json!({"prompt": "x", "style": "baroque"}), "style"),
        (json!({"prompt": "x", "response_format": "gif"}), "response_format"),
        (json!({"prompt": "x", "steps": 1000}), "steps"),
    ] {
        let sent = Exchange::of(&node.url, fields.clone()).await.send().await;
        assert_eq!(sent.status, 400, "{fields}");
        let outside = error_of(&sent.text);
        assert!(outside.param.is_none() && !outside.message.contains(param), "{}", sent.text);
        assert!(!sent.text.contains("\"usage\":{"), "nothing was made, nothing is billed");
        let inside = error_of(&sent.open());
        assert_eq!(inside.param.as_deref(), Some(param), "{fields}");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn what_the_envelope_says_must_be_what_was_sealed() {
    let node = TestNode::start(OneColour::instant()).await;
    let sealed = || Exchange::of(&node.url, json!({"prompt": "x", "size": "64x64"}));

    let mut units = sealed().await;
    units.envelope.num_compute_units = Some(64 * 64 + 1);
    let mut stream = sealed().await;
    stream.envelope.stream = Some(true);
    for (exchange, param) in [(units, "num_compute_units"), (stream, "stream")] {
        let sent = exchange.send().await;
        assert_eq!(sent.status, 400);
        assert_eq!(error_of(&sent.open()).param.as_deref(), Some(param));
    }
    let mut model = sealed().await;
    model.envelope.model_name = "unknown/model".to_owned();
    assert_eq!(model.send().await.status, 404);
}

#[tokio::test]
async fn a_second_copy_is_refused() {
    let node = TestNode::start(OneColour::instant()).await;
    let body = envelope(&node).await.to_string();
    assert_eq!(post(&node, body.clone()).await.0, 200);
    let (status, text) = post(&node, body).await;
    assert_eq!((status, error_of(&text).code.as_deref()), (409, Some("replayed")));
}

#[tokio::test]
async fn an_envelope_that_names_no_model_is_told_which_there_are() {
    let node = TestNode::start(OneColour::instant()).await;
    let mut body = envelope(&node).await;
    body["model_name"] = "".into();
    let (status, text) = post(&node, body.to_string()).await;
    let error = error_of(&text);
    assert_eq!((status, error.param.as_deref(), error.code), (400, Some("model"), None));
    assert!(error.message.contains("`model` is required") && error.message.contains(MODEL));
}

#[tokio::test]
async fn a_panic_in_the_model_costs_one_request() {
    let node = TestNode::start(OneColour::instant()).await;
    let sent = Exchange::of(&node.url, json!({"prompt": PANIC_PROMPT})).await.send().await;
    assert_eq!(sent.status, 500);
    assert!(!sent.text.contains("panic"), "{}", sent.text);
    still_serves(&node).await;
}

#[tokio::test]
async fn the_route_in_clear_text_names_what_is_wrong() {
    let node = TestNode::start(OneColour::instant()).await;
    let url = format!("{}/v1/images/generations", node.url);
    for (body, status, param) in [
        (json!({"model": MODEL, "prompt": "x", "n": 0}), 400, "n"),
        (json!({"model": MODEL, "prompt": 7}), 400, "prompt"),
        (json!({"model": "other", "prompt": "x"}), 404, "model"),
        (json!({"model": "", "prompt": "x"}), 400, "model"),
    ] {
        let answer = http().post(&url).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}");
        assert_eq!(error_of(&answer.text().await.unwrap()).param.as_deref(), Some(param));
    }
}

/// Evidence and sealed requests may come from pages of other sites, where the operator lets them.
#[tokio::test]
async fn pages_of_other_sites_may_seal_where_they_are_listed() {
    const APP: (&str, &str) = ("origin", "https://app.example");
    let sealed = "/v1/confidential/images/generations";
    for (cors, allowed) in [
        (Config::default().cors_origins, Some("*")),
        (vec!["https://app.example".parse().unwrap()], Some("https://app.example")),
        (vec!["https://other.example".parse().unwrap()], None),
        (Vec::new(), None),
    ] {
        let config = Config { cors_origins: cors, ..Config::default() };
        let node = TestNode::with_config(OneColour::instant(), config).await;
        let exchange = Exchange::of(&node.url, json!({"prompt": "x"})).await;
        let answer = exchange.request().header(APP.0, APP.1).send().await.unwrap();
        assert_eq!(answer.status(), if allowed.is_some() { 200 } else { 403 });
        let header = |answer: &reqwest::Response, name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap().to_ascii_lowercase())
        };
        assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), allowed);
        assert!(!answer.headers().contains_key("access-control-allow-credentials"));
        if allowed.is_some() {
            let exposed = header(&answer, "access-control-expose-headers").unwrap();
            assert!(exposed.contains("retry-after") && exposed.contains("x-request-id"));
        }
        let preflight = http()
            .request(Method::OPTIONS, format!("{}{sealed}", node.url))
            .header(APP.0, APP.1)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .await
            .unwrap();
        assert_eq!(header(&preflight, "access-control-allow-origin").as_deref(), allowed);
    }
}

/// A page can read why it is refused, by bounds too.
#[tokio::test]
async fn refusals_tell_pages_why() {
    let config = Config { max_requests_per_address: 1, ..Config::default() };
    let node = TestNode::with_config(OneColour::instant(), config).await;
    let mut open = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /v1/confidential/images/generations HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 10\r\n\r\n";
    open.write_all(head.as_bytes()).await.unwrap();
    let refused = async {
        loop {
            let asked =
                http().get(format!("{}/info", node.url)).header("origin", "https://app.example");
            let answer = asked.send().await.unwrap();
            if answer.status() == 429 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = timeout(Duration::from_secs(20), refused).await.expect("it is counted");
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
    assert_eq!(refused.headers()["retry-after"], "1");
}

fn route(node: &TestNode) -> String {
    format!("{}/v1/confidential/images/generations", node.url)
}

async fn post(node: &TestNode, body: String) -> (u16, String) {
    let answer = json_post(node, body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn json_post(node: &TestNode, body: String) -> reqwest::RequestBuilder {
    http().post(route(node)).header("content-type", "application/json").body(body)
}

/// A good envelope, never sent.
async fn envelope(node: &TestNode) -> Value {
    let exchange = Exchange::of(&node.url, json!({"prompt": "x"})).await;
    serde_json::to_value(&exchange.envelope).unwrap()
}

/// The one body for everything that cannot be opened.
async fn malformed(node: &TestNode) -> String {
    let (status, text) = post(node, "no".to_owned()).await;
    assert_eq!(status, 400);
    text
}

async fn still_serves(node: &TestNode) {
    Exchange::of(&node.url, json!({"prompt": "x"})).await.send().await.images();
}
