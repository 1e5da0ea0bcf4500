//! Every stage of the golden cases: what diffusers makes of tiny random models, in f32.
//!
//! What the files hold, where they come from and what counts as agreement is said in
//! `tests/fixtures/flux/PROVENANCE.md`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use flux::{LoadOptions, Pipeline, StageInputs, Stages};
use protocol::{Seed, Size, Steps};
use serde::Deserialize;

/// ‖out − ref‖ / ‖ref‖ of every stage: what the golden files hold a correct implementation to.
const BOUND: f64 = 2e-5;

#[test]
fn one_double_and_one_single_block() {
    check("schnell-1x1");
}

#[test]
fn two_double_and_three_single_blocks() {
    check("schnell-2x3");
}

#[test]
fn no_double_blocks() {
    check("schnell-0x2");
}

#[test]
fn no_single_blocks() {
    check("schnell-2x0");
}

#[test]
fn guidance_and_dynamic_shift() {
    check("dev-1x2");
}

#[test]
fn guidance_with_more_double_blocks() {
    check("dev-3x1");
}

#[test]
fn what_the_format_allows_and_flux_does_not_use() {
    check("unusual");
}

#[test]
fn a_sharded_directory_in_bf16() {
    check("whole");
}

#[derive(Deserialize)]
struct Case {
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    prompt: String,
    width: u32,
    height: u32,
    steps: i64,
    seed: u64,
    guidance: Option<f32>,
}

fn check(name: &str) {
    let case = fixtures().join(name);
    let runs: Case = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
    let golden =
        candle_core::safetensors::load(case.join("golden.safetensors"), &Device::Cpu).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let directory = if case.join("model/tensors.txt").exists() {
        complete(&case.join("model"), temporary.path());
        temporary.path().to_owned()
    } else {
        case.join("model")
    };
    let options = LoadOptions { device: Device::Cpu, dtype: DType::F32 };
    let pipeline = Pipeline::load(&directory, options).unwrap();
    for run in runs.runs {
        let stages = pipeline
            .stages(&StageInputs {
                text: &run.prompt,
                size: Size::new(run.width, run.height).unwrap(),
                steps: Steps::new(run.steps).unwrap(),
                seed: Seed::new(run.seed),
                guidance: run.guidance.unwrap_or(3.5),
            })
            .unwrap();
        compare(&run, &stages, &golden);
    }
}

fn compare(run: &Run, stages: &Stages, golden: &HashMap<String, Tensor>) {
    let expected = |stage: &str| &golden[&format!("{}/{stage}", run.name)];
    let ids = |stage| expected(stage).to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    assert_eq!(stages.clip_ids, ids("clip_ids"), "{}: clip_ids", run.name);
    assert_eq!(stages.t5_ids, ids("t5_ids"), "{}: t5_ids", run.name);
    let close = |stage: &str, found: &[f32]| {
        let expected = expected(stage).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found.len(), expected.len(), "{}: {stage}", run.name);
        let square = |x: f64| x * x;
        let pairs = found.iter().zip(&expected);
        let error: f64 = pairs.map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
        let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
        let error = (error / norm).sqrt();
        assert!(error < BOUND, "{}: {stage}: {error:.1e}", run.name);
    };
    close("pooled", &stages.pooled);
    close("t5_states", &stages.t5_states);
    close("sigmas", &stages.sigmas);
    close("noise", &stages.noise);
    for (step, latents) in stages.latents.iter().enumerate() {
        close(&format!("latents.{}", step + 1), latents);
    }
    let (height, width) = (run.height as usize, run.width as usize);
    // (h, w, 3) → (3, h, w)
    let picture = Tensor::from_slice(&stages.picture, (height, width, 3), &Device::Cpu).unwrap();
    let picture = picture.permute((2, 0, 1)).unwrap().flatten_all().unwrap();
    close("picture", &picture.to_vec1::<f32>().unwrap());
    let expected = expected("picture_u8").flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let pairs = stages.picture_u8.iter().zip(&expected);
    let off = pairs.filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert!(off * 1000 <= expected.len(), "{}: {off} values differ", run.name);
}

/// Copies a model's configuration and tokenizers, and makes its weights.
fn complete(model: &Path, to: &Path) {
    copy(model, to);
    copy(&fixtures().join("tokenizers/clip"), &to.join("tokenizer"));
    copy(&fixtures().join("tokenizers/t5"), &to.join("tokenizer_2"));
    let mut components: BTreeMap<String, HashMap<String, Tensor>> = BTreeMap::new();
    for line in fs::read_to_string(model.join("tensors.txt")).unwrap().lines() {
        let (name, dims) = line.split_once(' ').unwrap();
        let (component, tensor) = name.split_once('/').unwrap();
        let shape: Vec<usize> = dims.split(',').map(|dim| dim.parse().unwrap()).collect();
        let values = Tensor::from_vec(weights::values(name, &shape), shape, &Device::Cpu).unwrap();
        components.entry(component.to_owned()).or_default().insert(tensor.to_owned(), values);
    }
    for (component, tensors) in components {
        let is_encoder = component.starts_with("text_encoder");
        let file = if is_encoder { "model" } else { "diffusion_pytorch_model" };
        let path = to.join(component).join(format!("{file}.safetensors"));
        candle_core::safetensors::save(&tensors, path).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { _ = fs::copy(&path, &target).unwrap() }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/flux")
}

/// The rule that the golden cases' weights follow from, bit for bit.
mod weights {
    /// What a tensor's spread is multiplied by, after the end of its name.
    const GAINS: [(&str, f64); 20] = [
        ("shared.weight", 0.02),
        ("SelfAttention.q.weight", 0.35),
        ("relative_attention_bias.weight", 2.0),
        ("token_embedding.weight", 0.05),
        ("position_embedding.weight", 0.05),
        ("/x_embedder.weight", 0.02),
        ("/x_embedder.bias", 0.05),
        ("/context_embedder.weight", 0.02),
        ("/context_embedder.bias", 0.05),
        ("attn.to_q.weight", 0.03),
        ("attn.to_q.bias", 0.03),
        ("attn.to_k.weight", 0.03),
        ("attn.to_k.bias", 0.03),
        ("attn.add_q_proj.weight", 0.03),
        ("attn.add_q_proj.bias", 0.03),
        ("attn.add_k_proj.weight", 0.03),
        ("attn.add_k_proj.bias", 0.03),
        ("decoder.conv_in.weight", 0.02),
        ("decoder.conv_in.bias", 0.02),
        ("decoder.conv_out.weight", 0.75),
    ];

    const TABLES: [&str; 4] = [
        "token_embedding.weight",
        "position_embedding.weight",
        "shared.weight",
        "relative_attention_bias.weight",
    ];

    pub(crate) fn values(name: &str, shape: &[usize]) -> Vec<f32> {
        let (centre, spread) = centre_and_spread(name, shape);
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let count: usize = shape.iter().product();
        (1..=count as u64).map(|i| centre + spread * unit(seed, i)).collect()
    }

    fn centre_and_spread(name: &str, shape: &[usize]) -> (f32, f32) {
        let gain = GAINS.iter().find(|(end, _)| name.ends_with(end)).map_or(1.0, |(_, gain)| *gain);
        match shape {
            [_] if name.ends_with(".weight") => (1.0, (0.25 * gain) as f32),
            [_] => (0.0, (0.3 * gain) as f32),
            _ if TABLES.iter().any(|end| name.ends_with(end)) => (0.0, gain as f32),
            _ => {
                let inputs: usize = shape[1..].iter().product();
                (0.0, (gain * (3.0 / inputs as f64).sqrt()) as f32)
            }
        }
    }

    /// splitmix64's output number `i`: its top 24 bits, in [−1, 1).
    fn unit(seed: u64, i: u64) -> f32 {
        let z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = z ^ z >> 31;
        ((z >> 40) as i64 - (1 << 23)) as f32 / (1 << 23) as f32
    }
}
