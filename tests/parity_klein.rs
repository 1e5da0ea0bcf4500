//! The same image as diffusers' `Flux2KleinPipeline`, stage by stage, drawn from text alone and from up to three
//! input images; under a mask, as its `Flux2KleinInpaintPipeline`. The references were recorded by `tests/parity/make_klein.py`.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{Device, Tensor};
use flux::{InputImage, LoadOptions, Pipeline, Precision, StageInputs, Stages};
use protocol::{Seed, Size, Steps};
use serde_json::Value;
use tempfile::TempDir;
use tests::{
    golden::{self, floats, most_in_8_bits, relative_error},
    klein::{
        fixtures, input_image, load, masked_image, model_directory, options, single_file_directory,
    },
};

/// ‖out − ref‖ / ‖ref‖ of every stage.
const STAGE: f64 = 2e-5;
/// The share of 8-bit values that must be within 1 of the reference.
const WITHIN_ONE: f64 = 0.999;

#[test]
fn klein_1x1_from_text_from_an_image_that_is_scaled_down_and_under_a_mask() {
    check("klein-1x1");
}

#[test]
fn klein_2x3_from_three_images_under_a_mask_with_another_and_a_prompt_that_is_cut() {
    check("klein-2x3");
}

#[test]
fn klein_single_blocks_alone() {
    check("klein-0x2");
}

#[test]
fn klein_double_blocks_alone() {
    check("klein-2x0");
}

/// The transformer in Black Forest Labs' single file: the same stages.
#[test]
fn klein_1x1_from_a_single_file() {
    let directory = single_file_directory("klein-1x1");
    for_each_run("klein-1x1", &load(directory.path()), compare);
}

/// With weights in 8 bits each stage stays near, from text and from images.
#[test]
fn in_8_bits_klein_stays_near() {
    let directory = model_directory("klein-1x1");
    let options = LoadOptions { precision: Precision::Int8, ..options() };
    let pipeline = Pipeline::load(directory.path(), options).unwrap();
    assert!(pipeline.place().starts_with("cpu int8 ("), "{}", pipeline.place());
    for_each_run("klein-1x1", &pipeline, |name, stages, golden, rows| {
        for (stage, out, reference) in [
            ("states", &rows_of(stages, rows), golden["states"].clone()),
            ("picture", &stages.image, golden["picture"].permute((1, 2, 0)).unwrap()),
        ] {
            let error = relative_error(out, &reference);
            assert!(error <= most_in_8_bits(), "{name}: {stage} is off by {error:.2e}");
        }
    });
}

/// `vocab.json` and `merges.txt` in place of `tokenizer.json`: the same ids.
#[test]
fn a_vocabulary_and_merges_split_as_the_tokenizers_file_does() {
    let directory = model_directory("klein-2x0");
    let tokenizer = directory.path().join("tokenizer");
    let inputs = StageInputs {
        text: "Don't stop:  İ\u{301} 猫 🦊 <think> 12 <|im_end|>\n\n x",
        size: Size::new(16, 16).unwrap(),
        steps: Steps::new(1).unwrap(),
        seed: Seed::new(0),
        guidance: 0.0,
        images: &[],
    };
    let expected = load(directory.path()).stages(&inputs).unwrap().ids;
    let file: Value = json(&tokenizer.join("tokenizer.json"));
    fs::remove_file(tokenizer.join("tokenizer.json")).unwrap();
    fs::write(tokenizer.join("vocab.json"), file["model"]["vocab"].to_string()).unwrap();
    let merges: Vec<String> = file["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    fs::write(tokenizer.join("merges.txt"), format!("#version: 0.2\n{}", merges.concat())).unwrap();
    assert_eq!(load(directory.path()).stages(&inputs).unwrap().ids, expected);
}

/// A template is a program: only those whose effect is known are taken.
#[test]
fn a_chat_template_that_is_not_known_is_refused_by_its_digest() {
    let directory = model_directory("klein-2x0");
    let template = directory.path().join("tokenizer/chat_template.jinja");
    fs::write(&template, "{{ messages[0].content }}").unwrap();
    let refused = Pipeline::load(directory.path(), options()).err().unwrap().to_string();
    assert!(refused.contains("chat template") && refused.contains("SHA-256"), "{refused}");
    fs::remove_file(template).unwrap();
    let refused = Pipeline::load(directory.path(), options()).err().unwrap().to_string();
    assert!(refused.contains("no chat template"), "{refused}");
}

/// FLUX.1's encoder in klein's directory, an undistilled model, and a configuration of another kind.
#[test]
fn parts_of_other_models_are_refused_by_name() {
    for (file, field, value, says) in [
        (
            "text_encoder/config.json",
            "architectures",
            serde_json::json!(["T5EncoderModel"]),
            "T5EncoderModel",
        ),
        ("text_encoder/config.json", "num_hidden_layers", 27.into(), "num_hidden_layers"),
        ("text_encoder/config.json", "num_key_value_heads", 3.into(), "num_key_value_heads"),
        ("model_index.json", "is_distilled", false.into(), "is_distilled"),
        ("model_index.json", "_class_name", "Flux2Pipeline".into(), "Flux2Pipeline"),
        ("transformer/config.json", "guidance_embeds", true.into(), "guidance_embeds"),
        ("vae/config.json", "_class_name", "AutoencoderKL".into(), "AutoencoderKL"),
    ] {
        let directory = model_directory("klein-2x0");
        let path = directory.path().join(file);
        let mut config: Value = json(&path);
        config[field] = value;
        fs::write(path, config.to_string()).unwrap();
        let refused = Pipeline::load(directory.path(), options()).err().unwrap().to_string();
        assert!(refused.contains(says), "{file} {field}: {refused}");
    }
}

/// FLUX.1's own encoders, whose configurations have none of Qwen3's fields, and the other way round.
#[test]
fn another_models_encoder_is_named_rather_than_what_it_lacks() {
    let flux = golden::fixtures().join("schnell-1x1/model");
    let klein = fixtures().join("klein-1x1/model");
    let refused = |directory: TempDir, config: &Path, to: &str| {
        fs::copy(config, directory.path().join(to).join("config.json")).unwrap();
        Pipeline::load(directory.path(), options()).err().unwrap().to_string()
    };
    let in_klein = || model_directory("klein-2x0");
    let in_flux = || golden::model_directory("schnell-1x1");
    let qwen3 = klein.join("text_encoder/config.json");
    for (directory, config, to, says) in [
        (in_klein(), flux.join("text_encoder/config.json"), "text_encoder", "CLIPTextModel"),
        (in_klein(), flux.join("text_encoder_2/config.json"), "text_encoder", "T5EncoderModel"),
        (in_klein(), flux.join("transformer/config.json"), "transformer", "FluxTransformer2DModel"),
        (in_klein(), flux.join("vae/config.json"), "vae", "AutoencoderKL"),
        (in_flux(), qwen3.clone(), "text_encoder", "Qwen3ForCausalLM"),
        (in_flux(), qwen3, "text_encoder_2", "Qwen3ForCausalLM"),
    ] {
        let refused = refused(directory, &config, to);
        assert!(refused.contains(says) && refused.contains(to), "{to}: {refused}");
    }
}

#[test]
fn more_input_images_than_are_read_are_refused() {
    let directory = model_directory("klein-2x0");
    let pipeline = load(directory.path());
    let images: Vec<InputImage> = (0..5).map(|_| input_image(64, 64)).collect();
    let refused = pipeline.stages(&StageInputs {
        text: "a",
        size: Size::new(16, 16).unwrap(),
        steps: Steps::new(1).unwrap(),
        seed: Seed::new(0),
        guidance: 0.0,
        images: &images,
    });
    assert!(refused.err().unwrap().to_string().contains("5 input images"));
}

fn check(case: &str) {
    let directory = model_directory(case);
    for_each_run(case, &load(directory.path()), compare);
}

/// Given its name, what was drawn and what diffusers drew, by stages, and the rows of states that those have.
fn for_each_run(
    case: &str,
    pipeline: &Pipeline,
    check: impl Fn(&str, &Stages, &HashMap<&str, &Tensor>, &[usize]),
) {
    let golden = candle_core::safetensors::load(
        fixtures().join(case).join("golden.safetensors"),
        &Device::Cpu,
    )
    .unwrap();
    let described: Value = json(&fixtures().join(case).join("case.json"));
    let rows: Vec<usize> = serde_json::from_value(described["rows"].clone()).unwrap();
    for run in described["runs"].as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let of_run: HashMap<&str, &Tensor> = golden
            .iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix(name)?.strip_prefix('/')?, tensor)))
            .collect();
        let number = |key: &str| run[key].as_u64().unwrap();
        let images: Vec<InputImage> = run["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(place, size)| {
                let [width, height] = [0, 1].map(|side| size[side].as_u64().unwrap() as u32);
                match place == 0 && run["masked"] == true {
                    true => masked_image(width, height),
                    false => input_image(width, height),
                }
            })
            .collect();
        let stages = pipeline
            .stages(&StageInputs {
                text: run["prompt"].as_str().unwrap(),
                size: Size::new(number("width") as u32, number("height") as u32).unwrap(),
                steps: Steps::new(number("steps") as i64).unwrap(),
                seed: Seed::new(number("seed")),
                guidance: 4.0,
                images: &images,
            })
            .unwrap();
        check(&format!("{case}/{name}"), &stages, &of_run, &rows);
    }
}

fn compare(name: &str, stages: &Stages, golden: &HashMap<&str, &Tensor>, rows: &[usize]) {
    let near = |stage: &str, out: &[f32], reference: &Tensor| {
        let error = relative_error(out, reference);
        assert!(error <= STAGE, "{name}: {stage} is off by {error:.2e}");
    };
    let ids: Vec<f32> = stages.ids[0].iter().map(|id| *id as f32).collect();
    assert_eq!(ids, floats(golden["ids"]), "{name}: ids");
    near("states", &rows_of(stages, rows), golden["states"]);
    near("sigmas", &stages.sigmas, golden["sigmas"]);
    near("noise", &stages.noise, golden["noise"]);
    match golden.get("inputs") {
        Some(inputs) => near("inputs", &stages.inputs, inputs),
        None => assert!(stages.inputs.is_empty(), "{name}"),
    }
    match golden.get("mask") {
        Some(mask) => assert_eq!(stages.mask, floats(mask), "{name}: mask"),
        None => assert!(stages.mask.is_empty(), "{name}"),
    }
    for (step, latents) in (1..).zip(&stages.latents) {
        let stage = format!("latents.{step}");
        near(&stage, latents, golden[&*stage]);
    }
    near("picture", &stages.image, &golden["picture"].permute((1, 2, 0)).unwrap());
    let reference = floats(golden["picture_u8"]);
    let within = stages
        .image_u8
        .iter()
        .zip(&reference)
        .filter(|(mine, theirs)| (f32::from(**mine) - **theirs).abs() <= 1.0)
        .count();
    let share = within as f64 / reference.len() as f64;
    assert!(share >= WITHIN_ONE, "{name}: {share} of the image is within 1/255");
}

/// Of the text encoder's states.
fn rows_of(stages: &Stages, rows: &[usize]) -> Vec<f32> {
    let width = stages.states.len() / stages.ids[0].len();
    rows.iter().flat_map(|row| &stages.states[row * width..(row + 1) * width]).copied().collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
