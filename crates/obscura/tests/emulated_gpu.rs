//! A build with CUDA on a GPU in software: that its images are a CPU's, and what it asks the driver for.
//! Not how fast it is. Needs `OBSCURA_GPU_PROGRAM`, that build, and `EMULATED_GPU`, as
//! `tools/emulated-gpu` prints it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tests::klein;

/// The GPU build with the emulated libraries.
fn obscura() -> Command {
    let named = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"));
    let mut command = Command::new(named("OBSCURA_GPU_PROGRAM"));
    command.env("LD_LIBRARY_PATH", named("EMULATED_GPU"));
    command
}

fn done(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The demo model's image, drawn as the words say; its RGB bytes.
fn draw(directory: &Path, words: &[&str]) -> Vec<u8> {
    draw_with(obscura(), directory, words)
}

fn draw_with(command: Command, directory: &Path, words: &[&str]) -> Vec<u8> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    draw_from(&model, command, directory, words)
}

/// The same of another model.
fn draw_from(model: &Path, mut command: Command, directory: &Path, words: &[&str]) -> Vec<u8> {
    let image = directory.join("image.png");
    command.args(["generate", "a red circle above a blue square", "--seed", "7", "--force"]);
    command.arg("--model").arg(model).arg("--output").arg(&image).args(words);
    done(command.output().unwrap());
    image::open(image).unwrap().to_rgb8().into_raw()
}

/// Peak signal-to-noise ratio in dB.
fn likeness(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares).log10()
}

#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn a_gpus_images_are_a_cpus() {
    let here = tempfile::tempdir().unwrap();
    let expected = draw(here.path(), &["--device", "cpu", "--dtype", "f32"]);
    // In bf16 and in 8 bits a model draws nearly the same.
    for (dtype, least) in [("f32", 80.0), ("bf16", 45.0), ("fp8", 36.0)] {
        let found = draw(here.path(), &["--device", "cuda:0", "--dtype", dtype]);
        let likeness = likeness(&expected, &found);
        assert!(likeness > least, "{dtype}: {likeness:.1} dB");
    }
}

/// FLUX.2-klein's, from text and from an input image, by a small model of random weights.
#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn a_gpus_images_of_klein_are_a_cpus() {
    let (here, model) = (tempfile::tempdir().unwrap(), klein::model_directory("klein-1x1"));
    let input = here.path().join("input.png");
    let pattern = image::RgbImage::from_raw(96, 80, klein::pattern(96, 80)).unwrap();
    pattern.save(&input).unwrap();
    let edit = ["--image", input.to_str().unwrap()];
    for inputs in [&[][..], &edit] {
        let drawn = |device, dtype| {
            let words = [&["--device", device, "--dtype", dtype, "--size", "96x64"], inputs];
            draw_from(model.path(), obscura(), here.path(), &words.concat())
        };
        let expected = drawn("cpu", "f32");
        // As near as a CPU is in bf16: 44 dB.
        for (dtype, least) in [("f32", 80.0), ("bf16", 42.0), ("fp8", 36.0)] {
            let likeness = likeness(&expected, &drawn("cuda:0", dtype));
            assert!(likeness > least, "{dtype}, {inputs:?}: {likeness:.1} dB");
        }
    }
}

/// What a library's product leaves out, bias or activation, a kernel of ours does behind it.
#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn products_without_epilogues_are_completed() {
    let here = tempfile::tempdir().unwrap();
    for dtype in ["bf16", "fp8"] {
        let words = ["--device", "cuda:0", "--dtype", dtype];
        let whole = draw(here.path(), &words);
        let (mut command, trace) = (obscura(), here.path().join("trace"));
        command.env("EMULATED_GPU_BARE", "1").env("EMULATED_GPU_TRACE", &trace);
        let likeness = likeness(&whole, &draw_with(command, here.path(), &words));
        assert!(likeness > 45.0, "{dtype}: {likeness:.1} dB");
        let calls = fs::read_to_string(trace).unwrap();
        let count = |what: &str| calls.lines().filter(|call| call.starts_with(what)).count();
        // Each block's layers at each step, and not their reference.
        assert!(count("launch activate") > 100, "{dtype}: {}", count("launch activate"));
        assert_eq!(count("launch dequantise"), 0);
    }
}

/// The text encoders' weights then rest in the host's memory.
#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn a_memory_limit_changes_no_pixel() {
    let here = tempfile::tempdir().unwrap();
    let words = ["--device", "cuda:0", "--dtype", "bf16"];
    let free = draw(here.path(), &words);
    let limited = draw(here.path(), &[&words[..], &["--memory-limit", "80.4MB"]].concat());
    assert!(free == limited);
}

/// `obscura bench` of FLUX.1-schnell's shapes where nothing is computed.
fn watch(directory: &Path, words: &[&str]) -> (Value, Vec<String>) {
    let trace = directory.join("trace");
    let mut command = obscura();
    command.env("EMULATED_GPU_IDLE", "1").env("EMULATED_GPU_TRACE", &trace);
    command.args(["bench", "--device", "cuda:0", "--runs", "1", "--warmups", "1", "--json"]);
    let found = serde_json::from_slice(&done(command.args(words).output().unwrap())).unwrap();
    let lines = fs::read_to_string(trace).unwrap();
    (found, lines.lines().map(str::to_owned).collect())
}

#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn while_it_denoises_the_host_neither_waits_nor_copies() {
    let here = tempfile::tempdir().unwrap();
    for dtype in ["bf16", "fp8"] {
        let (_, calls) = watch(here.path(), &["--dtype", dtype]);
        // The last image's: from the noise, the last thing that is copied up, to the latents.
        let end = calls.iter().rposition(|call| call.starts_with("launch unpack")).unwrap();
        let start = calls[..end].iter().rposition(|call| call.starts_with("upload")).unwrap();
        let steps = &calls[start + 1..end];
        let count = |what: &str| steps.iter().filter(|call| call.starts_with(what)).count();
        for waits in ["synchronise", "download", "fill", "copy", "wait"] {
            assert_eq!(count(waits), 0, "{dtype}: {waits}");
        }
        // Four steps of 19 + 38 blocks, each of them one attention; no reference's.
        assert_eq!(count("graph"), 4 * (19 + 38));
        assert_eq!(count("launch softmax"), 0);
        assert_eq!(count("linear"), 4 * (19 * 8 + 38 * 3 + 2));
    }
}

#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn memory_limits_are_kept() {
    let here = tempfile::tempdir().unwrap();
    let peak = |words: &[&str]| watch(here.path(), words).0["peak_bytes"].as_f64().unwrap() / 1e9;
    let free = peak(&[]);
    assert!(33.6 < free && free < 36.0, "{free}");
    for (limit, size) in
        [(36.0, "1024x1024"), (26.0, "1024x1024"), (25.0, "1024x1024"), (28.0, "2048x1024")]
    {
        let limited = peak(&["--memory-limit", &format!("{limit}GB"), "--size", size]);
        assert!(limited < limit, "{size}: {limited} of {limit} GB");
    }
}

#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn a_card_that_is_too_small_is_called_so() {
    // Too small for the weights; for what is computed with them.
    for bytes in ["8000000", "90000000"] {
        let mut command = obscura();
        command.env("EMULATED_GPU_BYTES", bytes).env_remove("RUST_BACKTRACE");
        command.args(["generate", "a red circle", "--device", "cuda:0", "--output", "none.png"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(said.contains("memory is full") && said.contains("OUT_OF_MEMORY"), "{said}");
    }
}

#[test]
#[ignore = "needs a build with CUDA, and tools/emulated-gpu"]
fn a_card_that_computes_wrongly_does_not_serve() {
    let mut command = obscura();
    command.env("EMULATED_GPU_IDLE", "1").args(["serve", "--model", "demo", "--device", "cuda:0"]);
    command.args(["--tee", "simulated", "--listen", "127.0.0.1:0"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("disagrees with its reference: layer norm"), "{said}");
}
