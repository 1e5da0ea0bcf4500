//! Readers that read nothing.

use serde_json::json;
use tests::http_builder;

use crate::target::{Target, in_time, small};

/// As many sealed streams as there are places, over one connection that lets the node send nothing of them.
/// Drawn they are, and then let go: nobody else waits for their reader.
pub(crate) async fn streams_hold_no_places(node: &Target) {
    let unread = http_builder().http2_prior_knowledge().http2_initial_stream_window_size(0);
    let unread = unread.build().unwrap();
    let fields = json!({"prompt": "a red star", "size": "16x16", "steps": 8, "stream": true,
        "progress": true, "partial_images": 3});
    let mut held = Vec::new();
    for _ in 0..33 {
        let answer = node.ask(&unread, fields.clone()).await;
        assert_eq!(answer.status(), 200);
        held.push(answer);
    }
    node.idle().await;
    for client in &node.clients {
        assert_eq!(node.ask(client, small()).await.status(), 200);
    }
    for answer in held {
        let error = in_time(answer.bytes()).await.expect_err("nobody read it");
        assert!(!error.is_timeout(), "the node lets it go, and not its client");
    }
    assert_eq!(node.ask(&unread, small()).await.status(), 200, "its connection serves on");
}
