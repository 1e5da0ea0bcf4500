//! `bench/gpu` with a card and a program that are made up: the form of what it writes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use serde_json::Value;

const CARD: &str = "#!/bin/sh
echo 'NVIDIA H200, 580.00'
";

/// Answers as `obscura` does, and fails in fp8.
const PROGRAM: &str = r#"#!/bin/sh
case "$*" in
doctor*) echo '{"card": "NVIDIA H200", "result": "pass", "kernels": []}' ;;
*fp8*) echo 'no such tier' >&2; exit 1 ;;
*) echo '{"card": "NVIDIA H200", "seconds_per_image": 0.5, "spread": [0.4, 0.6], "stages": {
  "denoising": {"milliseconds": 400.0, "tflops": 700.0, "share_of_floor": 0.9},
  "png": {"milliseconds": 5.0, "tflops": null, "share_of_floor": null}},
  "tflops": 580.0, "peak_bytes": 1}' | tr -d '\n'; echo ;;
esac
"#;

#[test]
fn results_say_what_was_measured_and_what_failed() {
    let here = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = here.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    script("nvidia-smi", CARD);
    let program = script("obscura", PROGRAM);
    let output = here.path().join("result.json");
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gpu");
    let path = format!("{}:{}", here.path().display(), std::env::var("PATH").unwrap());
    let done = Command::new("python3")
        .arg(bench)
        .arg(program)
        .args(["--peers", "--no-truth", "--commit=0123", "--output"])
        .arg(&output)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let result: Value = serde_json::from_slice(&fs::read(output).unwrap()).unwrap();
    assert_eq!(result["card"], "NVIDIA H200");
    assert_eq!(result["driver"], "580.00");
    assert_eq!(result["commit"], "0123");
    assert_eq!(result["doctor"]["result"], "pass");
    let bf16 = &result["tiers"]["bf16"];
    assert_eq!(bf16["seconds_per_image"], 0.5);
    assert_eq!(bf16["stages"]["denoising"]["tflops"], 700.0);
    assert_eq!(bf16["peak_bytes"], 1);
    assert_eq!(result["tiers"]["fp8"]["result"], "fail");
    assert!(result["tiers"]["fp8"]["seconds_per_image"].is_null());
    assert!(result["peers"].as_object().unwrap().is_empty());
    assert_eq!(result["batches"]["512x512 by 3"]["seconds_per_image"], 0.5);
    assert_eq!(result["memory_limits"]["28GB"]["peak_bytes"], 1);
    assert_eq!(result["ratios"]["256x256 by 8/256x256 by 1"], 1.0);
}

#[test]
fn without_a_card_nothing_is_written() {
    let here = tempfile::tempdir().unwrap();
    let output = here.path().join("result.json");
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/gpu");
    let python = ["-c", "import sys; print(sys.executable)"];
    let python = Command::new("python3").args(python).output().unwrap().stdout;
    let python = String::from_utf8(python).unwrap();
    let done = Command::new(python.trim())
        .arg(bench)
        .args(["obscura", "--output"])
        .arg(&output)
        .env("PATH", here.path())
        .output()
        .unwrap();
    assert!(!done.status.success());
    assert!(!output.exists());
}
