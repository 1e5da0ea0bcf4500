//! Pages of other sites, in a browser on the node's machine (CSRF), and names that somebody else's DNS points
//! at it (DNS rebinding).

use reqwest::{Client, Method, Response};
use serde_json::json;
use tests::{error_of, http_builder};

use crate::target::{MODEL, Target, in_time};

const EVIL: &str = "evil.example";
const ROUTES: [&str; 7] =
    ["/", "/docs", "/openapi.json", "/v1/models", "/v1/attestation", "/metrics", "/info"];
const PROBES: [&str; 4] = ["/health", "/healthz", "/readyz", "/metrics"];
const LOCK: &str = "/v1/nodes/lock";
const CLEAR: &str = "/v1/images/generations";

/// What such a page would have drawn.
fn body() -> String {
    json!({"model": MODEL, "prompt": "a red star", "size": "16x16", "steps": 1}).to_string()
}

async fn send(client: &Client, method: Method, url: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = client.request(method.clone(), url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == Method::POST {
        request = request.body(body());
    }
    in_time(request.send()).await.unwrap()
}

async fn assert_refused(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{}", answer.url());
    let error = error_of(&answer.text().await.unwrap());
    assert_eq!(error.code.as_deref(), Some(code));
}

pub(crate) async fn of_other_sites_use_nothing(node: &Target, probes: &str) {
    let drawn = node.metric(&images()).await;
    let json = ("content-type", "application/json");
    for client in &node.clients {
        for path in [LOCK, CLEAR] {
            let url = format!("{}{path}", node.url);
            for origin in ["http://evil.example", "null", "http://localhost:1"] {
                let headers = [("origin", origin), json];
                let answer = send(client, Method::POST, &url, &headers).await;
                assert!(!answer.headers().contains_key("access-control-allow-origin"), "{path}");
                assert_refused(answer, 403, "foreign_origin").await;
            }
            let asked =
                [("origin", "http://evil.example"), ("access-control-request-method", "POST")];
            let preflight = send(client, Method::OPTIONS, &url, &asked).await;
            assert!(!preflight.headers().contains_key("access-control-allow-origin"), "{path}");
        }
    }
    // Once its name leads here, a page of that site is of the same origin.
    let rebound = node.url.replace("127.0.0.1", EVIL);
    for client in led_here() {
        for path in ROUTES {
            let answer = send(&client, Method::GET, &format!("{rebound}{path}"), &[]).await;
            assert_refused(answer, 403, "unknown_host").await;
        }
        for path in PROBES {
            let url = format!("{}{path}", probes.replace("127.0.0.1", EVIL));
            let answer = send(&client, Method::GET, &url, &[]).await;
            assert_refused(answer, 403, "unknown_host").await;
        }
        for path in [LOCK, CLEAR] {
            let headers = [("origin", rebound.as_str()), json];
            let answer = send(&client, Method::POST, &format!("{rebound}{path}"), &headers).await;
            assert_refused(answer, 403, "unknown_host").await;
        }
    }
    assert_eq!(node.metric(&images()).await, drawn, "none of these drew anything");
    // A page of this very node.
    for client in &node.clients {
        let headers = [("origin", node.url.as_str()), json];
        for path in [LOCK, CLEAR] {
            let answer = send(client, Method::POST, &format!("{}{path}", node.url), &headers).await;
            assert_eq!(answer.status(), 200, "{path}");
        }
    }
}

/// What a page may send anywhere without being asked (a "simple" request), and programs that say nothing.
pub(crate) async fn without_a_type_no_body_is_read(node: &Target) {
    let drawn = node.metric(&images()).await;
    for client in &node.clients {
        for path in [LOCK, CLEAR, "/v1/confidential/images/generations"] {
            let url = format!("{}{path}", node.url);
            for media_type in [
                "",
                "text/plain",
                "text/plain;charset=UTF-8",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
            ] {
                let answer =
                    send(client, Method::POST, &url, &[("content-type", media_type)]).await;
                assert_eq!(answer.status(), 415, "{path} {media_type}");
            }
            assert_eq!(send(client, Method::POST, &url, &[]).await.status(), 415, "{path}");
        }
    }
    assert_eq!(node.metric(&images()).await, drawn, "none of these drew anything");
}

/// Clients whose DNS has been told that the name is this machine's.
fn led_here() -> [Client; 2] {
    // The port is the URL's.
    let led = || http_builder().resolve(EVIL, ([127, 0, 0, 1], 0).into());
    [led().build().unwrap(), led().http2_prior_knowledge().build().unwrap()]
}

fn images() -> String {
    format!("obscura_images_total{{model=\"{MODEL}\"}}")
}
