//! Models merged with LoRAs draw what diffusers draws with the same, whichever names the files use. The references
//! were recorded by `tests/parity/make_lora.py`; files that cannot be merged are in `lora/refused.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use flux::{
    Error, InputImage, LoadOptions, Lora, LoraWeight, Manifest, Pins, Pipeline, Precision,
    StageInputs, Stages,
};
use protocol::{Seed, Size, Steps};
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    golden::{floats, model_directory, relative_error, single_file_directory, weight},
    klein,
};

#[path = "lora/refused.rs"]
mod refused;

/// ‖out − ref‖ / ‖ref‖ of every stage.
const STAGE: f64 = 2e-5;
/// The share of 8-bit values that must be within 1 of the reference.
const WITHIN_ONE: f64 = 0.999;

#[test]
fn flux1_merged_is_diffusers_fused() {
    check("dev-1x2", &model_directory("dev-1x2"));
}

/// Where queries, keys and values are one tensor, and other names are in the file.
#[test]
fn flux1_in_black_forest_labs_layout_is_the_same() {
    check("dev-1x2", &single_file_directory("dev-1x2"));
}

#[test]
fn klein_merged_is_diffusers_fused() {
    check("klein-2x3", &klein::model_directory("klein-2x3"));
}

/// What is fused in Kohya's form is three pairs in diffusers', and ComfyUI's has other names: the same bits.
#[test]
fn every_form_of_names_gives_the_same_bits() {
    let folder = TempDir::new().unwrap();
    for (case, model) in [
        ("dev-1x2", model_directory("dev-1x2")),
        ("klein-2x3", klein::model_directory("klein-2x3")),
    ] {
        let mut kohya = tensors(case, "kohya");
        kohya.extend(tensors(case, "kohya_outer"));
        let renamed = |rename: &dyn Fn(&str) -> String| -> HashMap<String, Tensor> {
            kohya.iter().map(|(key, tensor)| (rename(key), tensor.clone())).collect()
        };
        let forms = [
            kohya.clone(),
            renamed(&|key| key.replace("lora_down", "lora_A").replace("lora_up", "lora_B")),
            split(&kohya, case),
        ];
        let pictures = forms.into_iter().enumerate().map(|(i, form)| {
            let lora = write(&folder.path().join(format!("{case}-{i}.safetensors")), &form, 0.7);
            stages(&load(model.path(), vec![lora]).unwrap(), &run_of(case)).image
        });
        let pictures: Vec<Vec<f32>> = pictures.collect();
        assert!(pictures[0] == pictures[1] && pictures[0] == pictures[2], "{case}");
        let plain = stages(&load(model.path(), Vec::new()).unwrap(), &run_of(case)).image;
        assert!(pictures[0] != plain, "{case}");
    }
}

/// bf16 rounds once, behind the sum.
#[test]
fn a_model_in_bf16_is_merged_before_it_is_rounded() {
    let folder = TempDir::new().unwrap();
    let model = klein::model_directory("klein-2x3");
    let lora = lora(folder.path(), "klein-2x3", "kohya", 1.0);
    let load = |precision| {
        let options = LoadOptions { precision, loras: vec![lora.clone()], ..klein::options() };
        stages(&Pipeline::load(model.path(), options).unwrap(), &run_of("klein-2x3")).image
    };
    let (exact, rounded) = (load(Precision::F32), load(Precision::Bf16));
    let exact = Tensor::new(exact, &Device::Cpu).unwrap();
    assert!(relative_error(&rounded, &exact) < 0.1);
}

#[test]
fn a_merged_model_is_known_by_its_loras_too() {
    let folder = TempDir::new().unwrap();
    let model = model_directory("dev-1x2");
    let [one, other] = ["kohya", "diffusers"].map(|file| lora(folder.path(), "dev-1x2", file, 0.5));
    let digest = |loras: &[&Lora]| {
        let loras = loras.iter().map(|&lora| lora.clone()).collect();
        load(model.path(), loras).unwrap().digest()
    };
    let heavier = Lora { weight: LoraWeight::ONE, ..one.clone() };
    let digests = [
        digest(&[]),
        digest(&[&one]),
        digest(&[&heavier]),
        digest(&[&other]),
        digest(&[&one, &other]),
        digest(&[&other, &one]),
    ];
    for (i, digest) in digests.iter().enumerate() {
        assert!(!digests[..i].contains(digest), "{i}");
    }
    // Whoever has the files finds the same digest without a node.
    let mut manifest = Manifest::of_directory(model.path(), &mut |_| {}).unwrap();
    assert_eq!(manifest.digest().unwrap(), digests[0]);
    manifest.loras = vec![flux::ManifestLora::of(&one).unwrap()];
    assert_eq!(manifest.digest().unwrap(), digests[1]);
    let listing = manifest.listing().unwrap();
    let sha256 = manifest.loras[0].sha256;
    assert!(listing.contains(&format!("lora 0.5  {sha256}  ")), "{listing}");

    // Pinned, it is that LoRA by that weight or none.
    let pinned = |loras: Vec<Lora>| {
        let pins = Pins::Exactly(manifest.clone());
        Pipeline::load(model.path(), LoadOptions { pins, loras, ..klein::options() })
    };
    assert_eq!(pinned(vec![one.clone()]).unwrap().digest(), digests[1]);
    for others in [vec![], vec![heavier], vec![other.clone()], vec![one.clone(), other]] {
        assert!(matches!(pinned(others).err().unwrap(), Error::PinnedLoras { expected: 1, .. }));
    }
    // A manifest that pins none leaves them to whoever loads.
    manifest.loras.clear();
    let pins = Pins::Exactly(manifest.clone());
    let options = LoadOptions { pins, loras: vec![one], ..klein::options() };
    assert_eq!(Pipeline::load(model.path(), options).unwrap().digest(), digests[1]);
}

#[test]
fn a_weight_of_nothing_leaves_the_image_as_it_is() {
    let folder = TempDir::new().unwrap();
    let model = klein::model_directory("klein-2x3");
    let none = lora(folder.path(), "klein-2x3", "comfy", 0.0);
    let [plain, merged] = [vec![], vec![none]].map(|loras| load(model.path(), loras).unwrap());
    let run = run_of("klein-2x3");
    assert_eq!(stages(&plain, &run).image, stages(&merged, &run).image);
    assert_ne!(plain.digest(), merged.digest());
}

fn check(case: &str, model: &TempDir) {
    let folder = TempDir::new().unwrap();
    let golden = candle_core::safetensors::load(
        fixtures().join(case).join("golden.safetensors"),
        &Device::Cpu,
    );
    let golden = golden.unwrap();
    for run in described(case)["runs"].as_array().unwrap() {
        let loras = run["loras"].as_array().unwrap().iter().map(|told| {
            let weight = told["weight"].as_f64().unwrap();
            lora(folder.path(), case, told["file"].as_str().unwrap(), weight)
        });
        let stages = stages(&load(model.path(), loras.collect()).unwrap(), run);
        let name = run["name"].as_str().unwrap();
        let near = |stage: &str, out: &[f32], reference: &Tensor| {
            let error = relative_error(out, reference);
            assert!(error <= STAGE, "{case}/{name}: {stage} is off by {error:.2e}");
        };
        for (step, latents) in (1..).zip(&stages.latents) {
            near("latents", latents, &golden[&format!("{name}/latents.{step}")]);
        }
        let picture = golden[&format!("{name}/picture")].permute((1, 2, 0)).unwrap();
        near("picture", &stages.image, &picture);
        let reference = floats(&golden[&format!("{name}/picture_u8")]);
        let pairs = stages.image_u8.iter().zip(&reference);
        let within = pairs.filter(|(mine, theirs)| (f32::from(**mine) - **theirs).abs() <= 1.0);
        let share = within.count() as f64 / reference.len() as f64;
        assert!(share >= WITHIN_ONE, "{case}/{name}: {share} of the image is within 1/255");
    }
}

fn stages(pipeline: &Pipeline, run: &Value) -> Stages {
    let number = |key: &str| run[key].as_u64().unwrap();
    let images = run["inputs"].as_array().unwrap().iter().map(|size| {
        let [width, height] = [0, 1].map(|side| size[side].as_u64().unwrap() as u32);
        let rgb = klein::pattern(width, height);
        InputImage::new(width as usize, height as usize, rgb.into()).unwrap()
    });
    let images: Vec<InputImage> = images.collect();
    let inputs = StageInputs {
        text: run["prompt"].as_str().unwrap(),
        size: Size::new(number("width") as u32, number("height") as u32).unwrap(),
        steps: Steps::new(number("steps") as i64).unwrap(),
        seed: Seed::new(number("seed")),
        guidance: run["guidance"].as_f64().unwrap_or_default() as f32,
        images: &images,
    };
    pipeline.stages(&inputs).unwrap()
}

/// Two pairs or more out of each that is fused, in diffusers' form: B cut, A repeated.
fn split(kohya: &HashMap<String, Tensor>, case: &str) -> HashMap<String, Tensor> {
    let own: Vec<String> = tensors(case, "diffusers").into_keys().collect();
    let mut made = HashMap::new();
    for (key, up) in kohya.iter().filter(|(key, _)| key.ends_with(".lora_up.weight")) {
        let layer = key.strip_suffix(".lora_up.weight").unwrap();
        let down = &kohya[&format!("{layer}.lora_down.weight")];
        let parts = diffusers_parts(layer.strip_prefix("lora_unet_").unwrap(), case);
        let rows_of = |part: &str| {
            let name = format!("transformer.{part}.lora_B.weight");
            assert!(own.contains(&name), "{name}");
            tensors(case, "diffusers")[&name].dims()[0]
        };
        let mut row = 0;
        for part in parts {
            let rows = rows_of(&part);
            let mut up = up.narrow(0, row, rows).unwrap().contiguous().unwrap();
            if part == "norm_out.linear" {
                // Shift before scale there, scale before shift here.
                let halves = up.chunk(2, 0).unwrap();
                up = Tensor::cat(&[&halves[1], &halves[0]], 0).unwrap();
            }
            let name = format!("transformer.{part}");
            made.insert(format!("{name}.lora_A.weight"), down.clone());
            made.insert(format!("{name}.lora_B.weight"), up);
            made.insert(format!("{name}.alpha"), kohya[&format!("{layer}.alpha")].clone());
            row += rows;
        }
        assert_eq!(row, up.dims()[0], "{layer}");
    }
    made
}

/// What diffusers calls the parts of a layer of Kohya's; written down here once more.
fn diffusers_parts(layer: &str, case: &str) -> Vec<String> {
    let is_klein = case.starts_with("klein");
    let block = |at: &str, names: &[(&str, &[&str])]| -> Option<Vec<String>> {
        let (number, part) = layer.strip_prefix(at)?.split_once('_')?;
        let (_, parts) = names.iter().find(|(name, _)| *name == part)?;
        let at =
            if at == "double_blocks_" { "transformer_blocks" } else { "single_transformer_blocks" };
        Some(parts.iter().map(|part| format!("{at}.{number}.{part}")).collect())
    };
    let [fc1, fc2] = if is_klein { ["linear_in", "linear_out"] } else { ["net.0.proj", "net.2"] };
    let [ff1, ff2] = [fc1, fc2].map(|name| format!("ff.{name}"));
    let [context1, context2] = [fc1, fc2].map(|name| format!("ff_context.{name}"));
    let double: &[(&str, &[&str])] = &[
        ("img_mod_lin", &["norm1.linear"]),
        ("txt_mod_lin", &["norm1_context.linear"]),
        ("img_attn_qkv", &["attn.to_q", "attn.to_k", "attn.to_v"]),
        ("txt_attn_qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
        ("img_attn_proj", &["attn.to_out.0"]),
        ("txt_attn_proj", &["attn.to_add_out"]),
        ("img_mlp_0", &[&ff1]),
        ("img_mlp_2", &[&ff2]),
        ("txt_mlp_0", &[&context1]),
        ("txt_mlp_2", &[&context2]),
    ];
    let of_klein: &[(&str, &[&str])] =
        &[("linear1", &["attn.to_qkv_mlp_proj"]), ("linear2", &["attn.to_out"])];
    let of_flux1: &[(&str, &[&str])] = &[
        ("modulation_lin", &["norm.linear"]),
        ("linear1", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
        ("linear2", &["proj_out"]),
    ];
    let single = if is_klein { of_klein } else { of_flux1 };
    if let Some(parts) = block("double_blocks_", double).or_else(|| block("single_blocks_", single))
    {
        return parts;
    }
    let time = if is_klein { "time_guidance_embed" } else { "time_text_embed" };
    let outer = match layer {
        "img_in" => "x_embedder".to_owned(),
        "txt_in" => "context_embedder".to_owned(),
        "time_in_in_layer" => format!("{time}.timestep_embedder.linear_1"),
        "time_in_out_layer" => format!("{time}.timestep_embedder.linear_2"),
        "double_stream_modulation_img_lin" => "double_stream_modulation_img.linear".to_owned(),
        "double_stream_modulation_txt_lin" => "double_stream_modulation_txt.linear".to_owned(),
        "single_stream_modulation_lin" => "single_stream_modulation.linear".to_owned(),
        "vector_in_out_layer" => format!("{time}.text_embedder.linear_2"),
        "guidance_in_in_layer" => format!("{time}.guidance_embedder.linear_1"),
        "final_layer_adaLN_modulation_1" => "norm_out.linear".to_owned(),
        "final_layer_linear" => "proj_out".to_owned(),
        other => panic!("{other}"),
    };
    vec![outer]
}

/// A LoRA of a case, written by the rule of the weights.
fn lora(folder: &Path, case: &str, file: &str, weight: f64) -> Lora {
    let path = folder.join(format!("{case}-{file}.safetensors"));
    write(&path, &tensors(case, file), weight)
}

fn write(path: &Path, tensors: &HashMap<String, Tensor>, weight: f64) -> Lora {
    candle_core::safetensors::save(tensors, path).unwrap();
    Lora { file: path.to_owned(), weight: LoraWeight::new(weight).unwrap(), sha256: None }
}

/// Lines of `name d0,d1`, and of `name = alpha`.
fn tensors(case: &str, file: &str) -> HashMap<String, Tensor> {
    let text = fs::read_to_string(fixtures().join(case).join(format!("{file}.txt"))).unwrap();
    let tensor = |line: &str| match line.split_once(" = ") {
        Some((name, alpha)) => {
            let alpha = Tensor::new(alpha.parse::<f32>().unwrap(), &Device::Cpu).unwrap();
            (name.to_owned(), alpha)
        }
        None => {
            let (name, shape) = line.split_once(' ').unwrap();
            let shape: Vec<usize> = shape.split(',').map(|side| side.parse().unwrap()).collect();
            let values = weight(&format!("lora/{name}"), &shape);
            (name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        }
    };
    text.lines().map(tensor).collect::<BTreeMap<_, _>>().into_iter().collect()
}

fn run_of(case: &str) -> Value {
    described(case)["runs"][1].clone()
}

fn described(case: &str) -> Value {
    let path = fixtures().join(case).join("case.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn load(directory: &Path, loras: Vec<Lora>) -> Result<Pipeline, Error> {
    Pipeline::load(directory, LoadOptions { loras, ..klein::options() })
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/lora")
}
