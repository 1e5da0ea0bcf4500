//! What is fuzzed: each target is one function over bytes from outside, with the inputs it starts from.
//!
//! The fuzzer (`scripts/fuzz.sh`) and an ordinary test (`tests/fuzz.rs`) share these files. A target fails
//! where it panics, hangs or takes memory that its input did not pay for; what it returns does not matter.

mod evidence;
mod images;
mod models;
mod wire;

use std::path::Path;

/// A target.
pub struct Target {
    /// As `scripts/fuzz.sh` and the corpus's folder call it.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// The inputs it starts from, made of the fixtures in this folder.
    pub seeds: fn(&Path) -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "envelope", run: wire::envelope, seeds: wire::envelope_seeds },
    Target { name: "request", run: wire::request, seeds: wire::request_seeds },
    Target { name: "form", run: wire::form, seeds: wire::form_seeds },
    Target { name: "input_image", run: engine::fuzzing::input_image, seeds: images::image_seeds },
    Target { name: "response", run: wire::response, seeds: wire::response_seeds },
    Target { name: "stream", run: wire::stream, seeds: wire::stream_seeds },
    Target { name: "report", run: evidence::report, seeds: evidence::report_seeds },
    Target { name: "quote", run: evidence::quote, seeds: evidence::quote_seeds },
    Target { name: "gpu", run: evidence::gpu, seeds: evidence::gpu_seeds },
    Target { name: "event_log", run: evidence::event_log, seeds: evidence::event_log_seeds },
    Target { name: "measure", run: evidence::measure, seeds: evidence::measure_seeds },
    Target {
        name: "safetensors",
        run: flux::fuzzing::safetensors,
        seeds: models::safetensors_seeds,
    },
    Target { name: "lora", run: flux::fuzzing::lora, seeds: models::lora_seeds },
    Target { name: "config", run: flux::fuzzing::config, seeds: models::config_seeds },
    Target { name: "tokenizer", run: flux::fuzzing::tokenizer, seeds: models::tokenizer_seeds },
    Target { name: "manifest", run: models::manifest, seeds: models::manifest_seeds },
    Target { name: "provenance", run: images::provenance, seeds: images::provenance_seeds },
];

/// Runs the target of this name.
///
/// # Panics
/// Where there is none, or the input is a finding.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(input);
}
