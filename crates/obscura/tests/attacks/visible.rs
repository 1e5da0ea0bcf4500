//! What somebody on the way sees of sealed answers. Once, `usage` and length told 84 of 96 prompts apart.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::target::Target;

/// What differs from client to client, and is not to be seen.
fn secrets() -> [Value; 6] {
    [
        json!({"prompt": "x"}),
        json!({"prompt": "a red star left of a blue circle. ".repeat(29), "seed": u32::MAX}),
        json!({"prompt": "\u{1}\"狐".repeat(333), "seed": 0, "style": "vivid"}),
        json!({"prompt": "a small yellow star above a red house", "user": "somebody"}),
        json!({"prompt": "a white circle on a black field", "quality": "low"}),
        json!({"prompt": "a green square", "provenance": "receipt"}),
    ]
}

/// Sends them all over either HTTP; each version sees one look, which is given.
async fn looks(node: &Target, secrets: &[Value], shape: &Value) -> [String; 2] {
    let mut looks = Vec::new();
    for client in &node.clients {
        let mut seen = BTreeSet::new();
        for fields in secrets {
            let mut fields = fields.clone();
            fields.as_object_mut().unwrap().extend(shape.as_object().unwrap().clone());
            seen.insert(tests::look(node.ask(client, fields).await).await);
        }
        assert_eq!(seen.len(), 1, "{shape}: {seen:#?}");
        looks.extend(seen);
    }
    looks.try_into().unwrap()
}

pub(crate) async fn answers_look_alike(node: &Target) {
    let mut shapes = BTreeSet::new();
    for (size, n, format) in [("64x64", 1, "png"), ("96x64", 2, "jpeg"), ("64x64", 1, "webp")] {
        let shape = json!({"size": size, "n": n, "output_format": format, "steps": 1});
        let [one, two] = looks(node, &secrets(), &shape).await;
        assert!(one.starts_with("200") && two.starts_with("200"), "{one}");
        shapes.insert(one);
    }
    assert_eq!(shapes.len(), 3, "what may be seen is seen: {shapes:#?}");
}

pub(crate) async fn streams_look_alike(node: &Target) {
    for (n, format) in [(2, "png"), (1, "webp")] {
        let shape = json!({"size": "64x64", "n": n, "output_format": format, "steps": 3,
            "stream": true, "progress": true, "partial_images": 1});
        for look in looks(node, &secrets(), &shape).await {
            assert!(look.starts_with("200") && look.contains("text/event-stream"), "{look}");
        }
    }
}

pub(crate) async fn refusals_look_alike(node: &Target) {
    let refused = [
        json!({"prompt": ""}),
        json!({"prompt": "x".repeat(1001)}),
        json!({"prompt": 7}),
        json!({"prompt": "x", "size": "100x100"}),
        json!({"prompt": "x", "n": 11}),
        json!({"prompt": "x", "output_format": "gif"}),
        json!({"prompt": "x", "negative_prompt": "y"}),
    ];
    for look in looks(node, &refused, &json!({})).await {
        assert!(look.starts_with("400"), "{look}");
    }
}
