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
    let found = json(&obscura(&["doctor", "--device", "cpu", "--short", "--json"]));
    assert_eq!(found["card"], "CPU");
    assert_eq!(found["result"], "pass");
    let machine = found["machine"].as_array().unwrap();
    assert!(machine.iter().any(|item| item["name"] == "TEE"));
    let kernels = found["kernels"].as_array().unwrap();
    assert!(kernels.len() > 30, "{}", kernels.len());
    for kernel in kernels {
        assert_eq!(kernel["result"], "agrees", "{kernel}");
        assert!(kernel["error"].as_f64().unwrap() < kernel["tolerance"].as_f64().unwrap());
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
