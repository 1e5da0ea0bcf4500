//! The loader asks for exactly the tensors of the true FLUX.1-schnell and FLUX.1-dev: their names
//! and shapes, listed in `tests/fixtures/flux/names`, and not one more or less.

use std::{collections::BTreeMap, fs, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;

use crate::{
    architecture::{Blueprint, ModelConfig},
    bench::klein_configs,
    checkpoint::{Weights, bfl, bfl2, renaming::Renaming},
    config::{Configs, flux2},
    demo,
    flux1::{Flux1, is_unread_of_autoencoder},
    flux2::Flux2,
    text::{ChatTokenizer, Qwen3},
    transformer::Transformer,
};

type Tensors = BTreeMap<String, Tensor>;

#[test]
fn schnell_in_diffusers_layout() {
    asks_for_exactly("flux1-schnell", diffusers(&["flux1-schnell/diffusers.txt"]));
}

#[test]
fn dev_in_diffusers_layout() {
    let lists = ["flux1-schnell/diffusers.txt", "flux1-dev/diffusers-added.txt"];
    asks_for_exactly("flux1-dev", diffusers(&lists));
}

#[test]
fn schnell_in_black_forest_labs_layout() {
    asks_for_exactly("flux1-schnell", single_files(&["flux1-schnell/bfl.txt"]));
}

#[test]
fn dev_in_black_forest_labs_layout() {
    let lists = ["flux1-schnell/bfl.txt", "flux1-dev/bfl-added.txt"];
    asks_for_exactly("flux1-dev", single_files(&lists));
}

#[test]
fn klein_in_diffusers_layout() {
    builds_klein(diffusers(&["../../klein/names/diffusers.txt"]));
}

#[test]
fn klein_in_black_forest_labs_layout() {
    let mut components = diffusers(&["../../klein/names/diffusers.txt"]);
    let mut single = diffusers(&["../../klein/names/bfl.txt"]);
    let transformer = renamed(&bfl2::TRANSFORMER, single.remove("transformer").unwrap());
    components.insert("transformer".to_owned(), transformer);
    builds_klein(components);
}

fn builds_klein(components: BTreeMap<String, Tensors>) {
    let configs = klein_configs().unwrap();
    let vocab_size = configs.text.vocab_size;
    let tokens = ChatTokenizer::of_bytes(vocab_size, flux2::TEXT_TOKENS).unwrap();
    build_all(&mut Flux2::new(configs, tokens), components, &|component, name| {
        component == "text_encoder" && Qwen3::is_unread(name)
    });
}

/// Of FLUX.2-klein's blocks, those that the memory plan has in 8 bits.
#[test]
fn kleins_values_are_counted() {
    let dimensions = klein_configs().unwrap().dimensions();
    let lists = ["diffusers.txt", "bfl.txt"].map(|list| format!("../../klein/names/{list}"));
    for list in lists {
        let transformer = diffusers(&[&list]).remove("transformer").unwrap();
        let transformer = renamed(&bfl2::TRANSFORMER, transformer);
        let layers = transformer.iter().filter(|(name, _)| Transformer::is_block_weight(name));
        let found: usize = layers.map(|(_, tensor)| tensor.elem_count()).sum();
        assert_eq!(found as u64, dimensions.block_values, "{list}");
    }
}

/// What is quantised as it is read is what the memory plan counts on, under the names of both layouts.
#[test]
fn the_layers_in_8_bits_are_found_by_their_names() {
    let configs = configs("flux1-schnell");
    let of_diffusers = diffusers(&["flux1-schnell/diffusers.txt"]).remove("transformer").unwrap();
    let of_bfl = diffusers(&["flux1-schnell/bfl.txt"]).remove("flux1").unwrap();
    let of_bfl = renamed(&bfl::TRANSFORMER, of_bfl);
    for tensors in [of_diffusers, of_bfl] {
        let layers = tensors.iter().filter(|(name, _)| Transformer::is_block_weight(name));
        let values: usize = layers.map(|(_, tensor)| tensor.elem_count()).sum();
        assert_eq!(values as u64, configs.dimensions().block_values);
    }
}

/// Builds every listed component; a tensor that is missing, left over or misshapen is an error.
fn asks_for_exactly(model: &str, components: BTreeMap<String, Tensors>) {
    let configs = configs(model);
    let (clip_tokens, t5_tokens) = demo::tokenizers(&configs).unwrap();
    build_all(&mut Flux1::new(configs, clip_tokens, t5_tokens), components, &|component, name| {
        component == "vae" && is_unread_of_autoencoder(name)
    });
}

fn build_all(
    blueprint: &mut dyn Blueprint,
    mut components: BTreeMap<String, Tensors>,
    is_unread: &dyn Fn(&str, &str) -> bool,
) {
    let mut built = 0;
    for (i, &(component, _)) in blueprint.components().iter().enumerate() {
        if let Some(mut tensors) = components.remove(component) {
            tensors.retain(|name, _| !is_unread(component, name));
            blueprint.build(i, Weights::new(component, tensors), &Device::Cpu).unwrap();
            built += 1;
        }
    }
    assert!(built >= 2 && components.is_empty(), "{:?}", components.keys());
}

fn renamed(renaming: &Renaming, tensors: Tensors) -> Tensors {
    let each = tensors.into_iter();
    each.flat_map(|(name, tensor)| renaming.rename(name, tensor).unwrap()).collect()
}

fn diffusers(lists: &[&str]) -> BTreeMap<String, Tensors> {
    let mut components = BTreeMap::<String, Tensors>::new();
    for (name, tensor) in listed(lists) {
        let (component, name) = name.split_once('/').unwrap();
        components.entry(component.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    components
}

fn single_files(lists: &[&str]) -> BTreeMap<String, Tensors> {
    let mut files = diffusers(lists);
    let transformer = renamed(&bfl::TRANSFORMER, files.remove("flux1").unwrap());
    let autoencoder = bfl::autoencoder(files.remove("ae").unwrap()).unwrap();
    BTreeMap::from([("transformer".to_owned(), transformer), ("vae".to_owned(), autoencoder)])
}

/// Tensors of the listed names and shapes that share one memory: their values do not matter here.
fn listed(lists: &[&str]) -> Vec<(String, Tensor)> {
    let shapes: Vec<(String, Vec<usize>)> = lists
        .iter()
        .flat_map(|list| {
            let text = fs::read_to_string(fixture(list)).unwrap();
            text.lines().map(name_and_shape).collect::<Vec<_>>()
        })
        .collect();
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let most = shapes.iter().map(|(_, shape)| elements(shape)).max().unwrap();
    let memory = Tensor::zeros(most, DType::U8, &Device::Cpu).unwrap();
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let tensor = memory.narrow(0, 0, elements(&shape)).unwrap().reshape(shape).unwrap();
            (name, tensor)
        })
        .collect()
}

fn name_and_shape(line: &str) -> (String, Vec<usize>) {
    let (name, shape) = line.split_once(' ').unwrap();
    (name.to_owned(), shape.split(',').map(|side| side.parse().unwrap()).collect())
}

fn configs(model: &str) -> Configs {
    let configs = Configs {
        clip: config(model, "text_encoder/config.json"),
        t5: config(model, "text_encoder_2/config.json"),
        transformer: config(model, "transformer/config.json"),
        autoencoder: config(model, "vae/config.json"),
        scheduler: config(model, "scheduler/scheduler_config.json"),
    };
    configs.check().unwrap();
    configs
}

fn config<T: DeserializeOwned>(model: &str, name: &str) -> T {
    let text = fs::read_to_string(fixture(&format!("{model}/{name}"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/flux/names").join(name)
}
