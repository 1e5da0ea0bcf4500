//! `obscura doctor` and `obscura bench` where there is no GPU.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use serde_json::Value;

fn obscura(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_obscura")).args(words).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_cpus_kernels_agree_with_their_references() {
    let output = obscura(&["doctor", "--device", "cpu", "--short", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lines(&output);
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert!(of_kind("machine").iter().any(|item| item["name"] == "TEE"));
    let device = of_kind("device")[0];
    assert!(device["card"].as_str().unwrap().starts_with("CPU (bf16: "), "{device}");
    assert!(device["reference"].as_array().unwrap().is_empty());
    let findings = of_kind("finding");
    assert!(findings.len() > 60, "{}", findings.len());
    for dtype in ["F32", "BF16"] {
        assert!(findings.iter().any(|found| found["case"].as_str().unwrap().contains(dtype)));
    }
    for finding in &findings {
        assert_eq!(finding["result"], "agrees", "{finding}");
        assert!(finding["error"].as_f64().unwrap() < finding["tolerance"].as_f64().unwrap());
        assert!(!finding["groups"].as_array().unwrap().is_empty());
    }
    let summary = lines.last().unwrap();
    assert_eq!((&summary["kind"], &summary["result"]), (&"summary".into(), &"pass".into()));
    assert_eq!(summary["comparisons"], findings.len());
    assert!(summary["bad_groups"].as_array().unwrap().is_empty() && summary["lost"].is_null());
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Groups that are named are the reference's; a name that there is not ends all of it at once.
#[test]
fn named_groups_are_left_to_the_reference() {
    let doctor = ["doctor", "--device", "cpu", "--short", "--json"];
    let bench = ["bench", "--device=cpu", "--preset=small", "--size=64x64", "--steps=1"];
    let bench = [&bench[..], &["--warmups=0", "--runs=1", "--json"]].concat();
    let with = |groups: &str, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obscura"));
        command.args(words).env("OBSCURA_REFERENCE", groups).output().unwrap()
    };
    let found = lines(&with("attention, conv", &doctor));
    let of = |kernel: &str| found.iter().find(|line| line["kernel"] == kernel).unwrap();
    assert_eq!(
        (&of("convolution")["result"], &of("linear")["result"]),
        (&"no kernel".into(), &"agrees".into())
    );
    assert_eq!(found.last().unwrap()["result"], "pass");
    let found = json(&with("conv,linear", &bench));
    assert_eq!(found["reference"], serde_json::json!(["linear", "conv"]));
    assert!(found["refusals"].as_array().unwrap().is_empty());

    let generate = ["generate", "a red circle", "--output", "never.png"];
    for words in [&doctor[..], &bench, &generate] {
        let output = with("conv,attentoin", words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(said.contains("attentoin") && said.contains("linear, norm, heads"), "{said}");
    }
    for words in [&["serve", "--tee", "simulated"][..], &["demo", "--once"]] {
        let output = with("conv", words);
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("OBSCURA_REFERENCE"));
    }
}

#[test]
fn a_small_model_is_measured_and_nothing_is_made_up() {
    let words = ["bench", "--device", "cpu", "--preset", "small", "--size", "64x64", "--steps=1"];
    let found = json(&obscura(&[&words[..], &["--warmups=0", "--runs=2", "--json"]].concat()));
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&found["seconds_per_image"]) > 0.0 && number(&found["tflops"]) > 0.0);
    assert!(number(&found["spread"][0]) <= number(&found["spread"][1]));
    for stage in ["text_encoders", "preparation", "denoising", "decoding", "png"] {
        assert!(number(&found["stages"][stage]["milliseconds"]) > 0.0, "{stage}");
        assert!(found["stages"][stage]["share_of_floor"].is_null());
    }
    assert!(found["peak_bytes"].is_null());
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_gpu_is_not_replaced_by_a_cpu() {
    for words in [&["doctor", "--gpu"][..], &["bench", "--device", "cuda:0"]] {
        let output = obscura(words);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--features cuda,cudnn"));
    }
}
