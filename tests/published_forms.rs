//! Directories as people have them: files in the forms that tools write, with others beside them. Each is read,
//! or refused by what is wrong with it; none is drawn from by a guess.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use flux::{Error, Pins};
use serde_json::{Value, json};
use tests::golden::{model_directory, single_file_directory};

use super::{TRANSFORMER, load, pin};

const CASE: &str = "schnell-1x1";

#[test]
fn of_several_single_files_the_exact_name_wins_and_a_guess_is_refused() {
    let directory = single_file_directory(CASE);
    let at = |name: &str| directory.path().join(name);
    let alone = load(directory.path(), Pins::None).unwrap().digest();
    for sibling in ["flux1-schnell-backup.safetensors", "flux1-lora.sft", "ae.backup.safetensors"] {
        fs::write(at(sibling), "no model").unwrap();
    }
    assert_eq!(load(directory.path(), Pins::None).unwrap().digest(), alone);
    let pinned = pin(&directory);

    fs::rename(at("flux1-schnell.safetensors"), at("flux1-schnell-fp8.safetensors")).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    let Error::AmbiguousWeights { names, .. } = &error else { panic!("{error}") };
    let candidates =
        ["flux1-lora.sft", "flux1-schnell-backup.safetensors", "flux1-schnell-fp8.safetensors"];
    assert_eq!(names, &candidates);
    assert!(candidates.iter().all(|name| error.to_string().contains(name)), "{error}");

    // A manifest says which is meant.
    let mut renamed = pinned;
    for file in &mut renamed.files {
        if file.path == "flux1-schnell.safetensors" {
            "flux1-schnell-fp8.safetensors".clone_into(&mut file.path);
        }
    }
    load(directory.path(), Pins::Exactly(renamed)).unwrap();

    fs::copy(at("flux1-schnell-fp8.safetensors"), at("flux1-schnell.safetensors")).unwrap();
    fs::copy(at("flux1-schnell-fp8.safetensors"), at("flux1-dev.safetensors")).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(error, Error::AmbiguousWeights { names, .. } if names.len() == 2));
}

#[test]
fn other_endings_and_prefixes_of_single_files_are_read() {
    let directory = single_file_directory(CASE);
    let at = |name: &str| directory.path().join(name);
    fs::rename(at("ae.safetensors"), at("ae.sft")).unwrap();
    change(&at("flux1-schnell.safetensors"), |tensors| {
        tensors
            .into_iter()
            .map(|(name, it)| (format!("model.diffusion_model.{name}"), it))
            .collect()
    });
    fs::rename(at("flux1-schnell.safetensors"), at("flux1-schnell.sft")).unwrap();
    load(directory.path(), Pins::None).unwrap();
}

#[test]
fn weights_in_a_folder_twice_or_in_another_form_are_named() {
    let directory = model_directory(CASE);
    let (single, folder) =
        (directory.path().join(TRANSFORMER), directory.path().join("transformer"));
    let other = folder.join("model.safetensors");
    fs::copy(&single, &other).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(&error, Error::AmbiguousWeights { names, .. } if names.len() == 2), "{error}");
    fs::remove_file(&other).unwrap();

    fs::rename(&single, folder.join("diffusion_pytorch_model.fp16.safetensors")).unwrap();
    fs::write(folder.join("pytorch_model.bin"), "").unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap().to_string();
    for name in ["diffusion_pytorch_model.fp16.safetensors", "pytorch_model.bin"] {
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn what_is_not_used_may_be_of_any_type() {
    let directory = model_directory(CASE);
    let integers = || Tensor::zeros((1, 77), DType::I64, &Device::Cpu).unwrap();
    let bytes = || Tensor::zeros(3, DType::U8, &Device::Cpu).unwrap();
    let floats = || Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    let with = |file: &str, more: Vec<(&str, Tensor)>| {
        change(&directory.path().join(file), |mut tensors| {
            tensors.extend(more.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)));
            tensors
        });
    };
    with(
        "text_encoder/model.safetensors",
        vec![
            ("text_model.embeddings.position_ids", integers()),
            ("text_projection.weight", floats()),
        ],
    );
    with("text_encoder_2/model.safetensors", vec![("lm_head.weight", floats())]);
    with(
        "vae/diffusion_pytorch_model.safetensors",
        vec![("encoder.steps", integers()), ("encoder.flags", bytes())],
    );
    load(directory.path(), Pins::None).unwrap();
    // What is not known is not ignored.
    with("text_encoder/model.safetensors", vec![("text_model.steps", integers())]);
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(
        matches!(&error, Error::TensorDtype { name, .. } if name == "text_model.steps"),
        "{error}"
    );
}

#[test]
fn a_scale_of_a_layer_in_eight_bits_is_a_surplus_tensor_by_its_name() {
    let directory = single_file_directory(CASE);
    let scale = || Tensor::new(1.0f32, &Device::Cpu).unwrap();
    for name in [
        "final_layer.adaLN_modulation.1.scale_weight",
        "single_blocks.0.linear1.scale_weight",
        "double_blocks.0.img_attn.qkv.scale_input",
        "scaled_fp8",
    ] {
        let path = directory.path().join("flux1-schnell.safetensors");
        let good = fs::read(&path).unwrap();
        change(&path, |mut tensors| {
            tensors.insert(name.to_owned(), scale());
            tensors
        });
        let error = load(directory.path(), Pins::None).err().unwrap();
        assert!(
            matches!(&error, Error::SurplusTensors { names, .. } if names == &[name]),
            "{name}: {error}"
        );
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn configurations_of_other_models_are_refused_by_the_field_that_says_so() {
    let cases = [
        ("model_index.json", "scheduler", json!(["diffusers", "FlowMatchLCMScheduler"])),
        ("model_index.json", "transformer", json!(["diffusers", "SD3Transformer2DModel"])),
        ("scheduler/scheduler_config.json", "_class_name", json!("FlowMatchHeunDiscreteScheduler")),
        ("scheduler/scheduler_config.json", "prediction_type", json!("v_prediction")),
        ("transformer/config.json", "_class_name", json!("FluxControlNetModel")),
        ("transformer/config.json", "quantization_config", json!({"quant_method": "bitsandbytes"})),
        ("text_encoder_2/config.json", "model_type", json!("umt5")),
        ("text_encoder/config.json", "architectures", json!(["SiglipTextModel"])),
        ("vae/config.json", "latents_mean", json!([0.1])),
    ];
    for (file, field, value) in cases {
        let directory = model_directory(CASE);
        set(&directory.path().join(file), field, value);
        let error = load(directory.path(), Pins::None).err().unwrap();
        assert!(matches!(&error, Error::Unsupported { .. }), "{file}: {error}");
        assert!(error.to_string().contains(field), "{file}, {field}: {error}");
    }
}

#[test]
fn whole_numbers_of_a_configuration_may_have_a_point() {
    let directory = model_directory(CASE);
    set(
        &directory.path().join("scheduler/scheduler_config.json"),
        "num_train_timesteps",
        json!(1000.0),
    );
    load(directory.path(), Pins::None).unwrap();
}

fn set(file: &Path, field: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    config[field] = value;
    fs::write(file, config.to_string()).unwrap();
}

fn change(file: &Path, change: impl FnOnce(HashMap<String, Tensor>) -> HashMap<String, Tensor>) {
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&change(tensors), file).unwrap();
}
