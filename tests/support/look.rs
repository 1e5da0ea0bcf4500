//! What somebody on the way sees of a sealed answer: everything but what looks random.

use std::collections::BTreeMap;

use reqwest::Response;
use serde_json::{Value, json};

/// Status, headers, and each text of the body with its length in its place. What names an answer, its date and
/// its id, is left out.
///
/// # Panics
/// Where the answer breaks off.
pub async fn look(answer: Response) -> String {
    let headers: BTreeMap<String, String> = answer
        .headers()
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().expect("plain").to_owned()))
        .collect();
    let status = answer.status();
    let text = answer.text().await.expect("a body");
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let bodies: Vec<Value> = match data.is_empty() {
        true => vec![outline(&text)],
        false => data.into_iter().map(outline).collect(),
    };
    format!("{status} {headers:?} {} {}", text.len(), json!(bodies))
}

/// Of JSON, its texts' lengths; a text that is none as it is.
fn outline(text: &str) -> Value {
    serde_json::from_str(text).map_or_else(|_| json!(text), |body| lengths(&body))
}

fn lengths(body: &Value) -> Value {
    match body {
        Value::String(text) => json!(text.len()),
        Value::Array(entries) => entries.iter().map(lengths).collect(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.clone(), lengths(value))).collect()
        }
        other => other.clone(),
    }
}
