//! LoRAs and several models, as an operator says them to the program; by the demo model.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
};

use program::Program;
use serde_json::{Value, json};

/// Writes a LoRA of rank 1 for the demo model's last layer, (64, 128): all its halves' values are these.
fn write_lora(path: &Path, value: f32) {
    let shapes = [("lora_A", [1, 128]), ("lora_B", [64, 1])];
    let (mut header, mut from) = ("{".to_owned(), 0);
    for (half, [rows, columns]) in shapes {
        let to = from + 4 * rows * columns;
        let comma = if from > 0 { "," } else { "" };
        write!(
            header,
            "{comma}\"transformer.proj_out.{half}.weight\":{{\"dtype\":\"F32\",\"shape\":[{rows},{columns}],\
             \"data_offsets\":[{from},{to}]}}"
        )
        .unwrap();
        from = to;
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..from / 4).flat_map(|i| (value * (i % 7) as f32).to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

fn obscura(folder: &Path, words: &[&str]) -> Output {
    Command::new(program::path()).current_dir(folder).args(words).output().unwrap()
}

#[test]
fn an_image_is_drawn_with_a_lora_or_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    write_lora(&here.join("ink.safetensors"), 0.02);
    let draw = |name: &str, more: &[&str]| {
        let words = ["generate", "a red circle", "--size", "64x64", "--steps", "1", "--seed", "1"];
        let words = [&words[..], &["--output", name], more].concat();
        let output = obscura(here, &words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        fs::read(here.join(name)).unwrap()
    };
    let plain = draw("plain.png", &[]);
    let merged = draw("merged.png", &["--lora", "ink.safetensors:0.5"]);
    let twice = ["--lora", "ink.safetensors:0.25", "--lora", "ink.safetensors:0.25"];
    assert_ne!(plain, merged);
    assert_eq!(merged, draw("twice.png", &twice));
    assert_eq!(plain, draw("none.png", &["--lora", "ink.safetensors:0"]));

    fs::write(here.join("text.safetensors"), "no LoRA").unwrap();
    for (lora, says) in [
        ("nowhere.safetensors:1", "nowhere.safetensors"),
        ("text.safetensors:1", "text.safetensors"),
        (".:1", "not a regular file"),
    ] {
        let words = ["generate", "a", "--output", "x.png", "--lora", lora];
        let output = obscura(here, &words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(says), "{lora}: {said}");
    }
}

#[tokio::test]
async fn one_node_serves_a_model_as_it_is_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let lora = folder.path().join("ink.safetensors");
    write_lora(&lora, 0.02);
    let config = folder.path().join("obscura.toml");
    let text = format!(
        "[[model]]\nmodel = \"demo\"\n\n[[model]]\nmodel = \"demo\"\nmodel_id = \"ink\"\n\
         lora = [{{ file = {lora:?}, weight = 0.5 }}]\n"
    );
    fs::write(&config, text).unwrap();
    let serve = || {
        let mut command = Command::new(program::path());
        command.args(["serve", "--tee", "simulated", "--device", "cpu", "--allow-plaintext"]);
        command.args(["--listen", "127.0.0.1:0", "--config"]).arg(&config);
        command
    };
    let node = Program::start(&mut serve());
    node.ready().await;
    let get = async |path: &str| -> Value {
        let answer = tests::http().get(format!("{}{path}", node.url)).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let expected = ["obscura/demo", "ink"].map(|id| json!({ "id": id, "input_images": 0 }));
    assert_eq!(get("/info").await["models"], json!(expected));
    let mut images = Vec::new();
    for model in [None, Some("obscura/demo"), Some("ink")] {
        let mut body = json!({
            "prompt": "a red circle", "size": "64x64", "steps": 1, "seed": 1, "response_format": "b64_json",
        });
        if let Some(model) = model {
            body["model"] = model.into();
        }
        let url = format!("{}/v1/images/generations", node.url);
        let answer: Value =
            tests::http().post(url).json(&body).send().await.unwrap().json().await.unwrap();
        images.push(answer["data"][0]["b64_json"].as_str().unwrap().to_owned());
    }
    assert!(images[0] == images[1] && images[1] != images[2]);

    // Evidence tells both, and the LoRA by its bytes and its weight.
    let saved = folder.path().join("report.json");
    let words = ["verify", &node.url, "--accept-simulated", "--save", saved.to_str().unwrap()];
    let output = obscura(folder.path(), &words);
    assert!(output.status.success(), "{}", String::from_utf8(output.stderr).unwrap());
    let report = attest::Report::parse(&fs::read(saved).unwrap()).unwrap();
    let manifest = String::from_utf8(report.model_manifest).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    assert_eq!(lines[0], "model obscura/demo");
    let second = lines.iter().position(|line| *line == "model ink").unwrap();
    assert_eq!(lines[1..second], lines[second + 1..lines.len() - 1]);
    assert!(lines[lines.len() - 1].starts_with("lora 0.5  "), "{manifest}");

    // Two of one name cannot be told apart.
    fs::write(&config, "[[model]]\nmodel = \"demo\"\n[[model]]\nmodel = \"demo\"\n").unwrap();
    let output = serve().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("two models are called obscura/demo"),
        "{said}"
    );
}
