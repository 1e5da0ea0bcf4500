//! Who is let in, and what is passed on.

use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    caller::{PROMPT, config, key, pair, run},
    stand_in::{MODEL, StandIn},
};
use crate::{Config, ConfigError, MAX_BODY_BYTES, StartError};

#[tokio::test]
async fn pages_of_other_sites_are_not_let_in() {
    let (node, proxy) = pair().await;
    let body = json!({ "model": MODEL, "prompt": PROMPT }).to_string();
    let send = async |headers: &[(header::HeaderName, &str)]| {
        let mut request = proxy.http().post(format!("{}/v1/images/generations", proxy.url));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let answer = request.body(body.clone()).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["error"]["code"].as_str().unwrap_or("none").to_owned())
    };
    let json = (header::CONTENT_TYPE, "application/json");
    for (headers, status, code) in [
        (vec![json.clone(), (header::HOST, "evil.example")], 403, "unknown_host"),
        (vec![json.clone(), (header::ORIGIN, "http://evil.example")], 403, "foreign_origin"),
        (vec![json.clone(), (header::ORIGIN, "null")], 403, "foreign_origin"),
        (vec![(header::CONTENT_TYPE, "text/plain")], 415, "unsupported_media_type"),
        (vec![], 415, "unsupported_media_type"),
        (vec![json.clone(), (header::ORIGIN, &proxy.url)], 200, "none"),
    ] {
        assert_eq!(send(&headers).await, (status, code.to_owned()), "{headers:?}");
    }
    assert_eq!(node.opened(), 1);
}

#[tokio::test]
async fn what_is_not_sealed_is_not_passed_on() {
    let (node, proxy) = pair().await;
    let before = node.wire.requests("HTTP/1.1");
    for path in [
        "/v1/chat/completions",
        "/v1/images/edits/",
        "/v1/images/variations",
        "/v1/embeddings",
        "/v1/attestation?nonce=00",
        "/metrics",
        "//v1/images/generations",
        "/v1/images/generations/",
        "http://evil.example/v1/chat/completions",
    ] {
        let url = if path.starts_with("http") {
            proxy.url.clone() + "/x"
        } else {
            proxy.url.clone() + path
        };
        let answer =
            proxy.http().post(url).json(&json!({ "prompt": PROMPT })).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "not_sealed", "{path}");
        assert!(body["error"]["message"].as_str().unwrap().contains("nothing was sent"));
    }
    let url = format!("{}/v1/images/generations", proxy.url);
    let wrong = proxy.http().request(Method::PUT, url).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(node.wire.requests("HTTP/1.1"), before, "nothing at all went out");
}

#[tokio::test]
async fn bodies_are_bounded_and_read_strictly() {
    let (node, proxy) = pair().await;
    let post = async |body: Vec<u8>| {
        let request = proxy.http().post(format!("{}/v1/images/generations", proxy.url));
        let request = request.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!(!text.contains("secret words"), "an error quotes nothing: {text}");
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    for (body, param) in [
        (r#"{"prompt": ["secret words"]}"#, "prompt"),
        (r#"{"n": "secret words"}"#, "n"),
        (r#"{"model": 7}"#, "model"),
    ] {
        let (status, answer) = post(body.into()).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{body}");
    }
    for body in ["", "[]", "null", "\"secret words\"", "{\"prompt\": \"secret words\"", "{} {}"] {
        let (status, answer) = post(body.into()).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_json")), "{body}");
    }
    let (status, _) = post(vec![b' '; MAX_BODY_BYTES + 1]).await;
    assert_eq!(status, 413);
    assert_eq!(node.sealed_requests(), 0);
    // The longest that is taken is one that a node takes, padded and sealed.
    let prompt = "x".repeat(MAX_BODY_BYTES - 100);
    let body = json!({ "model": MODEL, "prompt": prompt }).to_string();
    assert_eq!(post(body.into()).await.0, 200);
    let length = |from: &str| {
        let (_, rest) = from.split_once("content-length: ").unwrap();
        rest.split_once("\r\n").unwrap().0.parse::<usize>().unwrap()
    };
    let (_, sealed) = node
        .wire
        .text()
        .split_once("POST /v1/confidential")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(length(&sealed) <= 256 * 1024, "{}", length(&sealed));
}

#[tokio::test]
async fn beyond_loopback_there_is_a_door() {
    let node = StandIn::start().await;
    let open = Config { listen: "0.0.0.0:0".parse().unwrap(), ..config(&[&node.url]) };
    let refused = run(open).await.err().unwrap();
    assert!(matches!(refused, StartError::Config(ConfigError::OpenToAll { .. })), "{refused}");
    assert_eq!(node.questions(), 0);
    let guarded = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        client_key: key("door"),
        ..config(&[&node.url])
    };
    let proxy = run(guarded).await.unwrap();
    for path in ["/v1/models", "/verification", "/"] {
        assert_eq!(proxy.get(path).await.status(), 401, "{path}");
    }
    assert_eq!(proxy.ask().await.0, 401);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(proxy.get(path).await.status(), 200, "{path}");
    }
    let with_key = proxy.http().get(format!("{}/verification", proxy.url)).bearer_auth("door");
    assert_eq!(with_key.send().await.unwrap().status(), 200);
}

/// A program that writes all of its body before it reads sees why nobody wanted it.
#[tokio::test]
async fn a_refusal_reaches_those_who_write_before_they_read() {
    const BODY: usize = 20_000_000;
    let (_node, proxy) = pair().await;
    for (path, media_type, status) in [
        ("/v1/images/generations", "application/json", 413),
        ("/v1/images/generations", "text/plain", 415),
        ("/v1/chat/completions", "application/json", 404),
    ] {
        let mut socket =
            TcpStream::connect(proxy.url.strip_prefix("http://").unwrap()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n\
             Content-Length: {BODY}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&vec![b' '; BODY]).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.ends_with("}}"), "the whole answer: {answer}");
    }
}
