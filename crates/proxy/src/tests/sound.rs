//! What works, and what nobody notices.

use client::{ApiKey, Client, ClientError};
use protocol::{CreateImageRequest, ImageEvent};
use reqwest::header;
use serde_json::json;

use super::{
    caller::{PROMPT, config, key, pair, run},
    stand_in::{Answer, EDITING_MODEL, Evidence, IMAGE, MODEL, StandIn},
};

#[tokio::test]
async fn a_prompt_comes_in_clear_and_goes_out_sealed() {
    let (node, proxy) = pair().await;
    let (status, body) = proxy.ask().await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"][0]["b64_json"], IMAGE);
    assert_eq!(body["data"][0]["url"], format!("data:image/png;base64,{IMAGE}"));
    assert_eq!(body["seed"], 3);
    let every = json!({
        "model": MODEL, "prompt": PROMPT, "n": 2, "size": "16x16", "quality": "low", "style": "vivid",
        "user": "somebody at example", "output_format": "png", "response_format": "b64_json",
        "seed": 1, "steps": 2, "unknown": [1],
    });
    let answer = proxy.post(every).await;
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["data"].as_array().unwrap().len(), 2);
    assert!(body["data"][1].get("url").is_none());
    // A form that is none is the node's to refuse, by its name.
    assert_eq!(node.opened(), 2);
    node.wire.assert_without(PROMPT);
    node.wire.assert_without("somebody at example");
}

#[tokio::test]
async fn an_image_can_be_fetched_by_its_url() {
    let (_node, proxy) = pair().await;
    let body = json!({ "model": MODEL, "prompt": PROMPT, "response_format": "url" });
    let body: serde_json::Value = proxy.post(body).await.json().await.unwrap();
    let url = body["data"][0]["url"].as_str().unwrap();
    assert!(url.starts_with(&proxy.url), "{url}");
    let image = proxy.http().get(url).send().await.unwrap();
    assert_eq!(image.headers()[header::CONTENT_TYPE], "image/png");
    assert_eq!(image.bytes().await.unwrap().as_ref(), [0, 1, 2]);
    assert_eq!(proxy.get("/v1/images/files/00").await.status(), 404);
}

#[tokio::test]
async fn a_stream_is_told_event_by_event() {
    let (node, proxy) = pair().await;
    let events = proxy.ask_stream().await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let progress = "image_generation.progress";
    assert_eq!(names, [progress, progress, progress, "image_generation.completed"]);
    assert_eq!(events[3].1["type"], "image_generation.completed");
    assert_eq!(events[3].1["b64_json"], IMAGE);
    assert!(events[3].1.get("sequence_number").is_none());
    // What a node says at its stream's end comes from within the seal.
    node.answer(Answer::SealedError);
    let events = proxy.ask_stream().await;
    let (name, error) = events.last().unwrap();
    assert_eq!((name.as_str(), &error["error"]["code"]), ("error", &json!("deadline_exceeded")));
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn fresh_keys_cost_one_sealing_that_nobody_sees() {
    let (node, proxy) = pair().await;
    assert_eq!(proxy.ask().await.0, 200);
    assert_eq!((node.questions(), node.sealed_requests()), (1, 1));
    node.rotate();
    let asked = futures_util::future::join_all((0..8).map(|_| proxy.ask())).await;
    assert!(asked.iter().all(|(status, _)| *status == 200), "{asked:?}");
    // One question for all of them; each is opened once.
    assert_eq!((node.questions(), node.opened()), (2, 9));
    node.rotate();
    assert_eq!(proxy.ask_stream().await.len(), 4);
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn another_node_stands_in() {
    let (busy, free) = (StandIn::start().await, StandIn::start().await);
    let nowhere = StandIn::nowhere().await;
    let proxy = run(config(&[&busy.url, &nowhere, &free.url])).await.unwrap();
    busy.answer(Answer::Busy(20));
    for _ in 0..4 {
        assert_eq!(proxy.ask().await.0, 200);
    }
    assert_eq!((busy.opened(), free.opened()), (0, 4));
    // Loading, or stopping: not opened either, if it says when to come back; without that, who knows.
    free.answer(Answer::Status(503));
    let (status, code) = proxy.refused().await;
    assert!((status, code.as_str()) == (503, "because") || status == 429, "{status} {code}");
}

#[tokio::test]
async fn a_nodes_refusal_is_told_with_all_that_programs_read() {
    let (node, proxy) = pair().await;
    node.answer(Answer::Busy(20));
    let body = json!({ "model": MODEL, "prompt": PROMPT });
    let refused = proxy.post(body.clone()).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"20".parse().unwrap())
    );
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&json!("rate_limit_error"), &json!("queue_full"))
    );
    assert_eq!(node.sealed_requests(), 1, "whoever waits for long waits elsewhere");
    node.answer(Answer::Busy(1));
    assert_eq!(proxy.refused().await.0, 429);
    assert_eq!(node.sealed_requests(), 3, "a second is waited for once");

    node.answer(Answer::Sound);
    let refused = proxy.post(json!({ "model": MODEL, "prompt": "refuse me, please" })).await;
    assert_eq!(refused.status(), 400);
    let body: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["param"], "size");
    // The node's quarrel with the proxy is not the caller's.
    for (theirs, ours, code) in [
        (401, 401, "because"),
        (403, 502, "node_refused"),
        (418, 502, "node_refused"),
        (500, 500, "because"),
        (302, 502, "node_refused"),
    ] {
        node.answer(Answer::Status(theirs));
        let answer = proxy.http().post(format!("{}/v1/images/generations", proxy.url));
        let body = json!({ "model": MODEL, "prompt": PROMPT });
        let answer = answer.bearer_auth("callers").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), ours, "{theirs}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{theirs}");
    }
    let ours = run(crate::Config { api_key: key("ours"), ..config(&[&node.url]) }).await.unwrap();
    node.answer(Answer::Status(401));
    assert_eq!(ours.refused().await, (502, "node_credentials".to_owned()));
}

#[tokio::test]
async fn whose_key_goes_where() {
    let node = StandIn::start().await;
    let sent = |config: crate::Config, bearer: &'static str| {
        let node = node.clone();
        async move {
            let proxy = run(config).await.unwrap();
            node.inner.seen.lock().unwrap().clear();
            let body = json!({ "model": MODEL, "prompt": PROMPT });
            let request = proxy.http().post(format!("{}/v1/images/generations", proxy.url));
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
            let request = request.bearer_auth(bearer).header("traceparent", trace);
            let status = request.json(&body).send().await.unwrap().status();
            let seen = node.inner.seen.lock().unwrap().pop();
            if let Some(seen) = &seen {
                assert_eq!(seen["traceparent"], trace);
            }
            let key =
                seen.and_then(|seen| Some(seen.get("authorization")?.to_str().ok()?.to_owned()));
            (status.as_u16(), key)
        }
    };
    let plain = || config(&[&node.url]);
    let bearer = |key: &str| Some(format!("Bearer {key}"));
    assert_eq!(sent(plain(), "callers").await, (200, bearer("callers")));
    let ours = crate::Config { api_key: key("ours"), ..plain() };
    assert_eq!(sent(ours, "callers").await, (200, bearer("ours")));
    let guarded = || crate::Config { client_key: key("door"), ..plain() };
    assert_eq!(sent(guarded(), "door").await, (200, None));
    assert_eq!(sent(guarded(), "window").await, (401, None));
    let both = crate::Config { api_key: key("ours"), ..guarded() };
    assert_eq!(sent(both, "door").await, (200, bearer("ours")));
}

#[tokio::test]
async fn models_are_the_attested_nodes() {
    let (node, proxy) = pair().await;
    let list: serde_json::Value = proxy.get("/v1/models").await.json().await.unwrap();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(proxy.get(&format!("/v1/models/{MODEL}")).await.status(), 200);
    let other = proxy.get("/v1/models/other").await;
    assert_eq!(other.status(), 404);
    let other: serde_json::Value = other.json().await.unwrap();
    assert_eq!(other["error"]["code"], "model_not_found");
    assert!(other["error"]["message"].as_str().unwrap().contains(MODEL), "{other}");
    for path in ["/v1/models/%FF", "/v1/models/a%2F%C3", "/v1/images/files/%FF"] {
        let answer = proxy.get(path).await;
        assert_eq!(answer.status(), 404, "{path}");
        let body: serde_json::Value = answer.json().await.expect("OpenAI's shape");
        assert_eq!(body["error"]["code"], "not_found", "{path}");
    }
    node.set(Evidence::Garbage);
    assert_eq!(node.opened(), 0);
}

/// A client that takes whatever key it is handed, and checks no receipt.
#[tokio::test]
async fn what_atomas_clients_seal_is_sealed_anew() {
    let (node, proxy) = pair().await;
    let client = Client::new(&proxy.url, ApiKey::none()).unwrap();
    let handed = client.lock(MODEL).await.unwrap();
    let request = |prompt: &str| CreateImageRequest {
        model: Some(MODEL.to_owned()),
        prompt: Some(prompt.to_owned().into()),
        ..CreateImageRequest::default()
    };
    let answer = client.dangerous().generate(request(PROMPT), &handed).await.unwrap();
    let url = answer.response.data[0].url.as_ref().unwrap().as_text().unwrap();
    assert_eq!(url, format!("data:image/png;base64,{IMAGE}"));
    let mut events = client.dangerous().generate_stream(request(PROMPT), &handed).await.unwrap();
    let mut images = 0;
    while let Some(event) = events.next().await.unwrap() {
        images += usize::from(matches!(event, ImageEvent::Completed(_)));
    }
    assert_eq!((images, node.opened()), (1, 2));
    // Told to the caller alone, as a node tells it.
    let refused = client.dangerous().generate(request("refuse me, please"), &handed).await;
    let Err(ClientError::Refused(refusal)) = refused else { panic!("it was refused") };
    assert_eq!(refusal.param.as_ref().unwrap().as_str(), "size");
    assert!(refusal.is_sealed);
    node.wire.assert_without(PROMPT);
    // Nothing of the node's key is known to such a client.
    let url = format!("{}/v1/confidential/images/generations", proxy.url);
    let malformed = proxy.http().post(url).json(&json!({ "ciphertext": "" })).send().await.unwrap();
    assert_eq!(malformed.status(), 400);
    node.set(Evidence::Garbage);
    node.rotate();
    let refused = client.dangerous().generate(request(PROMPT), &handed).await;
    let Err(ClientError::Refused(refusal)) = refused else { panic!("it was refused") };
    assert_eq!(refusal.code.unwrap().as_str(), "node_untrusted");
}

/// SDKs send the very same envelope again after 429, 502 and 503: it was not used up, and is answered once.
#[tokio::test]
async fn what_found_no_node_can_be_sent_again_as_it_is() {
    let (node, proxy) = pair().await;
    let envelope = async || {
        let client = Client::new(&proxy.url, ApiKey::none()).unwrap();
        let handed = client.lock(MODEL).await.unwrap();
        let body = json!({ "model": MODEL, "prompt": PROMPT }).to_string().into_bytes();
        let (sealed, _) = seal::seal_request(&handed.encryption_key, body.into()).unwrap();
        protocol::ConfidentialComputeRequest { model_name: MODEL.to_owned(), ..sealed }
    };
    let send = async |envelope: &protocol::ConfidentialComputeRequest| {
        let url = format!("{}/v1/confidential/images/generations", proxy.url);
        proxy.http().post(url).json(envelope).send().await.unwrap().status().as_u16()
    };
    let first = envelope().await;
    node.answer(Answer::Busy(20));
    assert_eq!([send(&first).await, send(&first).await], [429, 429]);
    node.answer(Answer::Status(400));
    assert_eq!(send(&first).await, 400);
    node.answer(Answer::Sound);
    assert_eq!([send(&first).await, send(&first).await], [200, 409]);
    assert_eq!(node.opened(), 1);
    // A caller that hung up was not answered either.
    let second = envelope().await;
    node.answer(Answer::Busy(1));
    let hung_up = tokio::time::timeout(std::time::Duration::from_millis(300), send(&second)).await;
    assert!(hung_up.is_err(), "a second is waited for");
    node.answer(Answer::Sound);
    let again = async {
        loop {
            match send(&second).await {
                // Until the proxy has seen the end of the connection.
                409 => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                status => break status,
            }
        }
    };
    let again = tokio::time::timeout(std::time::Duration::from_secs(20), again).await;
    assert_eq!((again, send(&second).await), (Ok(200), 409));
    // The node may have drawn: nobody asks for that twice.
    for broken in [Answer::Hangup, Answer::Status(500)] {
        let envelope = envelope().await;
        node.answer(broken);
        assert_ne!(send(&envelope).await, 200);
        node.answer(Answer::Sound);
        assert_eq!(send(&envelope).await, 409, "{broken:?}");
    }
    // What names no model inside is refused, as a node refuses it.
    let client = Client::new(&proxy.url, ApiKey::none()).unwrap();
    let handed = client.lock(MODEL).await.unwrap();
    let nameless = CreateImageRequest {
        prompt: Some(PROMPT.to_owned().into()),
        ..CreateImageRequest::default()
    };
    let refused = client.dangerous().generate(nameless, &handed).await;
    let Err(ClientError::Refused(refusal)) = refused else { panic!("it was refused") };
    assert_eq!(refusal.param.as_ref().unwrap().as_str(), "model");
}

#[tokio::test]
async fn a_request_that_names_no_model_is_for_the_nodes_first() {
    let (node, proxy) = pair().await;
    for _ in 0..2 {
        let answer = proxy.post(json!({ "prompt": PROMPT })).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(*node.inner.models.lock().unwrap(), [MODEL, MODEL]);
    assert_eq!(node.wire.requests("GET /v1/models"), 1, "asked once");
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn an_edit_that_names_no_model_is_for_the_first_that_takes_images() {
    let (node, proxy) = pair().await;
    let body = json!({ "prompt": PROMPT, "images": [format!("data:image/png;base64,{IMAGE}")] });
    for _ in 0..2 {
        let url = format!("{}/v1/images/edits", proxy.url);
        let answer = proxy.http().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(proxy.post(json!({ "prompt": PROMPT })).await.status(), 200);
    let asked = [EDITING_MODEL, EDITING_MODEL, MODEL];
    assert_eq!(*node.inner.models.lock().unwrap(), asked);
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn urls_of_images_begin_as_the_owner_says() {
    let node = StandIn::start().await;
    let public_url = Some("https://images.example/drawn/".to_owned());
    let proxy = run(crate::Config { public_url, ..config(&[&node.url]) }).await.unwrap();
    let body = json!({ "model": MODEL, "prompt": PROMPT, "response_format": "url" });
    let body: serde_json::Value = proxy.post(body).await.json().await.unwrap();
    let url = body["data"][0]["url"].as_str().unwrap();
    let path = url.strip_prefix("https://images.example/drawn").unwrap();
    assert_eq!(proxy.get(path).await.status(), 200, "{path}");
}
