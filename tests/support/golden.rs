//! The golden cases of `fixtures/flux`: models whose weights follow from a rule, and what diffusers
//! made of them. `fixtures/flux/PROVENANCE.md` specifies all that is read and repeated here.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

/// `tests/fixtures/flux`.
#[must_use]
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/flux")
}

/// Reads a JSON file below the fixtures.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn json(path: impl AsRef<Path>) -> Value {
    let path = fixtures().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("a fixture is valid JSON")
}

/// Reads a safetensors file below the fixtures.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn tensors(path: impl AsRef<Path>) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join(path), &Device::Cpu).expect("a golden file")
}

/// How far a stage may be from diffusers' in f32 where weights have 8 bits: with AVX-512 VNNI, rows have no more.
#[must_use]
pub fn most_in_8_bits() -> f64 {
    if flux::int8_row_bits() == 8 { 8e-2 } else { 5e-2 }
}

/// Writes a case's model as a directory in the diffusers layout.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
pub fn model_directory(case: &str) -> TempDir {
    let directory = TempDir::new().expect("room for a small model");
    let model = fixtures().join(case).join("model");
    copy(&model, directory.path());
    let tokenizers = fixtures().join("tokenizers");
    copy(&tokenizers.join("clip"), &directory.path().join("tokenizer"));
    copy(&tokenizers.join("t5"), &directory.path().join("tokenizer_2"));
    write_weights(&model.join("tensors.txt"), directory.path());
    directory
}

/// Writes all listed tensors by the rule, a file for each folder.
///
/// # Panics
/// Where they cannot be written.
pub fn write_weights(list: &Path, directory: &Path) {
    let mut folders: BTreeMap<String, HashMap<String, Tensor>> = BTreeMap::new();
    for (name, shape) in listed(list) {
        let (folder, tensor) = name.split_once('/').expect("folder/name");
        let values = weight(&name, &shape);
        let values = Tensor::from_vec(values, shape, &Device::Cpu).expect("as many as the shape");
        folders.entry(folder.to_owned()).or_default().insert(tensor.to_owned(), values);
    }
    for (folder, tensors) in folders {
        let stem = if folder.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        let path = directory.join(folder).join(format!("{stem}.safetensors"));
        candle_core::safetensors::save(&tensors, path).expect("it is written");
    }
}

/// Writes a case's model in Black Forest Labs' layout: `flux1-*.safetensors` and `ae.safetensors`
/// in place of diffusers' two folders of weights. The configurations stay, since the published ones
/// are of another size.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
pub fn single_file_directory(case: &str) -> TempDir {
    let directory = model_directory(case);
    let load = |folder: &str| {
        let path = directory.path().join(folder).join("diffusion_pytorch_model.safetensors");
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("just written");
        fs::remove_file(path).expect("just written");
        tensors
    };
    let sources = HashMap::from([("flux1", load("transformer")), ("ae", load("vae"))]);
    let recipe = fixtures().join(case).join("model/bfl.txt");
    for (file, tensors) in by_recipe(&recipe, &sources) {
        let name = if file == "flux1" { "flux1-schnell" } else { &file };
        let path = directory.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&tensors, path).expect("it is written");
    }
    directory
}

/// The publisher's files, by name, out of tensors under diffusers' names: a line `file/name how source,…` each.
///
/// # Panics
/// Where the recipe is none for these tensors.
#[must_use]
pub fn by_recipe(
    recipe: &Path,
    sources: &HashMap<&str, HashMap<String, Tensor>>,
) -> HashMap<String, HashMap<String, Tensor>> {
    let mut files: HashMap<String, HashMap<String, Tensor>> = HashMap::new();
    let recipe = fs::read_to_string(recipe).expect("a recipe");
    for line in recipe.lines() {
        let [target, how, from] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("target, how, sources: {line}")
        };
        let (file, name) = target.split_once('/').expect("file/name");
        let from: Vec<&Tensor> = from.split(',').map(|name| &sources[file][name]).collect();
        let tensor = match how {
            "cat" => Tensor::cat(&from, 0),
            "swap" => {
                from[0].chunk(2, 0).and_then(|halves| Tensor::cat(&[&halves[1], &halves[0]], 0))
            }
            "conv" => from[0].unsqueeze(2).and_then(|tensor| tensor.unsqueeze(3)),
            other => panic!("no recipe {other}"),
        };
        let tensor = tensor.expect("a recipe that fits");
        files.entry(file.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    files
}

/// Lines of `name d0,d1,…`.
fn listed(path: &Path) -> Vec<(String, Vec<usize>)> {
    let text = fs::read_to_string(path).expect("a list of tensors");
    text.lines()
        .map(|line| {
            let (name, shape) = line.split_once(' ').expect("name and shape");
            let shape = shape.split(',').map(|side| side.parse().expect("a number")).collect();
            (name.to_owned(), shape)
        })
        .collect()
}

/// The values of the tensor of this name and shape.
#[must_use]
pub fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let (centre, spread) = centre_and_spread(name, shape);
    let hash = fnv1a64(name.as_bytes());
    (0..shape.iter().product::<usize>() as u64)
        .map(|index| centre + spread * unit(hash, index))
        .collect()
}

/// Value `index` of the sequence of `hash`: splitmix64, its upper 24 bits as −1 … 1.
fn unit(hash: u64, index: u64) -> f32 {
    let mut z = hash.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as i64 - (1 << 23)) as f32 / (1 << 23) as f32
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn centre_and_spread(name: &str, shape: &[usize]) -> (f32, f32) {
    const TABLES: [&str; 4] = [
        "token_embedding.weight",
        "position_embedding.weight",
        "shared.weight",
        "relative_attention_bias.weight",
    ];
    let gain = gain(name);
    let (centre, spread) = match shape {
        [_] if name.ends_with(".weight") || name.ends_with(".running_var") => (1.0, 0.25 * gain),
        [_] => (0.0, 0.3 * gain),
        _ if TABLES.iter().any(|table| name.ends_with(table)) => (0.0, gain),
        [_, inner @ ..] => (0.0, gain * (3.0 / inner.iter().product::<usize>() as f64).sqrt()),
        [] => (0.0, 0.0),
    };
    (centre, spread as f32)
}

/// How much louder or quieter than usual a tensor is, by the end of its name.
fn gain(name: &str) -> f64 {
    const GAINS: [(&str, f64); 19] = [
        ("shared.weight", 0.02),
        ("SelfAttention.q.weight", 0.35),
        ("relative_attention_bias.weight", 2.0),
        ("token_embedding.weight", 0.05),
        ("position_embedding.weight", 0.05),
        ("/x_embedder.weight", 0.02),
        ("/context_embedder.weight", 0.02),
        ("/x_embedder.bias", 0.05),
        ("/context_embedder.bias", 0.05),
        ("attn.to_q.weight", 0.03),
        ("attn.to_k.weight", 0.03),
        ("attn.add_q_proj.weight", 0.03),
        ("attn.add_k_proj.weight", 0.03),
        ("attn.to_q.bias", 0.03),
        ("attn.to_k.bias", 0.03),
        ("attn.add_q_proj.bias", 0.03),
        ("attn.add_k_proj.bias", 0.03),
        ("decoder.conv_in.weight", 0.02),
        ("decoder.conv_in.bias", 0.02),
    ];
    if name.ends_with("decoder.conv_out.weight") {
        return 0.75;
    }
    GAINS.iter().find(|(end, _)| name.ends_with(end)).map_or(1.0, |(_, gain)| *gain)
}

/// ‖out − reference‖ / ‖reference‖.
///
/// # Panics
/// Where they differ in length.
#[must_use]
pub fn relative_error(out: &[f32], reference: &Tensor) -> f64 {
    let reference = floats(reference);
    assert_eq!(out.len(), reference.len(), "lengths differ");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = square(&mut out.iter().zip(&reference).map(|(a, b)| f64::from(a - b)));
    (off / square(&mut reference.iter().map(|b| f64::from(*b)))).sqrt()
}

/// A golden tensor's values, row-major.
///
/// # Panics
/// Where it is no tensor of numbers.
#[must_use]
pub fn floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all());
    flat.and_then(|t| t.to_vec1()).expect("numbers")
}

/// Copies what a model directory holds, with all below it.
///
/// # Panics
/// Where it cannot be written.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a fixture") {
        let entry = entry.expect("a file");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else if entry.file_name() != "tensors.txt" && entry.file_name() != "bfl.txt" {
            fs::copy(source, target).expect("a copy");
        }
    }
}
