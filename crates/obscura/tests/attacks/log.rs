//! Clients who would fill a log, or write what is in it.

use reqwest::Method;

use crate::target::{Target, in_time};

/// Of a line, in bytes. What a node says of itself at the start is the longest.
const MAX_LINE_BYTES: usize = 500;

/// A method of 30,000 letters was once logged whole.
pub(crate) async fn no_line_is_long(node: Target) {
    let [one, two] = &node.clients;
    // A head of HTTP/2 is bounded to 16 KiB.
    for (client, letters) in [(one, 30_000), (two, 3_000)] {
        let long = "X".repeat(letters);
        let method = Method::from_bytes(long.as_bytes()).unwrap();
        let url = |path: &str| format!("{}{path}", node.url);
        for request in [
            client.request(method.clone(), url("/v1/models")),
            client.request(method, url("/nowhere")),
            client.post(url(&format!("/{long}"))),
            client.post(url(&format!("/v1/images/generations?{long}"))),
            client.post(url("/v1/nodes/lock")).header("x-request-id", &long),
            client.post(url("/v1/nodes/lock")).header("traceparent", format!("00-{long}-01")),
            client.post(url("/v1/nodes/lock")).header("user-agent", &long),
            client.post(url("/v1/nodes/lock")).header("content-type", &long),
        ] {
            let status = in_time(request.send()).await.unwrap().status();
            assert!(status.is_client_error(), "{status}");
        }
    }
    let log = node.stop();
    assert!(log.contains("method=\"other\""), "{log}");
    for line in log.lines() {
        assert!(!line.contains("XXXX") && line.len() <= MAX_LINE_BYTES, "{line}");
    }
}
