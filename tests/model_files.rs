//! Model directories that are not what they should be: each is refused, and the error names what is
//! wrong with it.

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use flux::{Error, FileDigest, LoadOptions, Manifest, Pins, Pipeline, Precision};
use tempfile::TempDir;
use tests::golden::model_directory;

mod hostile_models;
mod published_forms;

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

#[test]
fn a_pinned_directory_loads_and_is_known_by_its_manifests_digest() {
    let directory = model_directory("schnell-1x1");
    let manifest = pin(&directory);
    assert!(manifest.file(TRANSFORMER).unwrap().sha256.is_some());
    assert!(manifest.file("tokenizer/merges.txt").is_some());
    let reread = Manifest::parse(&manifest.to_toml()).unwrap();
    let pipeline = load(directory.path(), Pins::Exactly(reread)).unwrap();
    assert_eq!(pipeline.digest(), manifest.digest().unwrap());
    assert_eq!(pipeline.digest(), load(directory.path(), Pins::None).unwrap().digest());
    manifest.check(directory.path(), &mut |_| {}).unwrap();
}

#[test]
fn one_changed_byte_is_named_with_both_digests() {
    let directory = model_directory("schnell-1x1");
    let manifest = pin(&directory);
    for name in [TRANSFORMER, "vae/config.json", "tokenizer/merges.txt"] {
        let path = directory.path().join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        // A weight's last bit; a blank in a text.
        match bad.last_mut().unwrap() {
            last if name == TRANSFORMER => *last ^= 1,
            last => *last = b' ',
        }
        fs::write(&path, bad).unwrap();
        let pinned = manifest.file(name).unwrap().sha256.unwrap();
        let errors = [
            load(directory.path(), Pins::Exactly(manifest.clone())).err().unwrap(),
            manifest.check(directory.path(), &mut |_| {}).unwrap_err(),
        ];
        for error in errors {
            let Error::PinnedDigest { path: blamed, expected, found } = &error else {
                panic!("{name}: {error}")
            };
            assert_eq!((blamed, *expected), (&path, pinned));
            assert_ne!(*found, pinned);
            assert!(error.to_string().contains(&pinned.to_string()));
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn another_length_is_found_before_a_byte_is_hashed() {
    let directory = model_directory("schnell-1x1");
    let mut manifest = pin(&directory);
    let file = manifest.files.iter_mut().find(|file| file.path == TRANSFORMER).unwrap();
    file.bytes = Some(7);
    let error = load(directory.path(), Pins::Exactly(manifest)).err().unwrap();
    assert!(matches!(error, Error::PinnedLength { expected_bytes: 7, .. }), "{error}");
}

#[test]
fn files_beyond_the_manifest_and_pins_beyond_the_files_are_refused() {
    let directory = model_directory("schnell-1x1");
    let full = pin(&directory);

    let mut less = full.clone();
    less.files.retain(|file| file.path != "scheduler/scheduler_config.json");
    let error = load(directory.path(), Pins::Exactly(less)).err().unwrap();
    assert!(matches!(error, Error::NotPinned { .. }), "{error}");

    let mut open = full.clone();
    open.files[0].sha256 = None;
    let error = load(directory.path(), Pins::Exactly(open)).err().unwrap();
    assert!(matches!(error, Error::NotPinned { .. }), "{error}");

    let mut more = full.clone();
    more.files.push(flux::ManifestFile {
        path: "readme.txt".to_owned(),
        bytes: Some(0),
        sha256: Some(FileDigest([0; 32])),
    });
    let error = load(directory.path(), Pins::Exactly(more)).err().unwrap();
    assert!(matches!(error, Error::NotRead { .. }), "{error}");
}

#[test]
fn missing_surplus_and_misshapen_tensors_are_named() {
    let directory = model_directory("schnell-1x1");
    let path = directory.path().join(TRANSFORMER);
    let good = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let name = "transformer_blocks.0.attn.to_q.weight";
    let write = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        load(directory.path(), Pins::None).err().unwrap()
    };
    let one = || Tensor::zeros((3, 5), DType::F32, &Device::Cpu).unwrap();

    let error = write(&|tensors| drop(tensors.remove(name)));
    assert!(matches!(&error, Error::MissingTensor { name: n, .. } if n == name), "{error}");
    let error = write(&|tensors| drop(tensors.insert(name.to_owned(), one())));
    assert!(matches!(&error, Error::MisshapenTensor { name: n, .. } if n == name), "{error}");
    let error = write(&|tensors| drop(tensors.insert("lora.A".to_owned(), one())));
    assert!(
        matches!(&error, Error::SurplusTensors { names, .. } if names == &["lora.A"]),
        "{error}"
    );
}

#[test]
fn files_that_are_no_safetensors_are_refused_whatever_they_claim() {
    let directory = model_directory("schnell-1x1");
    let path = directory.path().join(TRANSFORMER);
    let good = fs::read(&path).unwrap();
    let mut endless = good.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut longer = good.clone();
    longer.push(0);
    let bad: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("short", good[..5].to_vec()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("longer", longer),
        ("endless header", endless),
        ("pickled", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00.".to_vec()),
    ];
    for (name, bytes) in bad {
        fs::write(&path, bytes).unwrap();
        let error = load(directory.path(), Pins::None).err().unwrap();
        assert!(error.to_string().contains("diffusion_pytorch_model"), "{name}: {error}");
    }
    fs::remove_file(&path).unwrap();
    fs::write(path.with_extension("bin"), good).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(error, Error::NoWeights { .. }), "pickled weights are never read: {error}");
}

#[test]
fn an_index_stays_in_its_folder_and_its_shards_are_there() {
    let directory = model_directory("schnell-1x1");
    let single = directory.path().join(TRANSFORMER);
    let index = directory.path().join(format!("{TRANSFORMER}.index.json"));
    // Beside a single file it would not be clear which is meant.
    fs::remove_file(single).unwrap();
    let write = |file: &str| {
        fs::write(&index, format!(r#"{{"weight_map": {{"a": {file:?}}}}}"#)).unwrap();
        load(directory.path(), Pins::None).err().unwrap()
    };
    assert!(matches!(write("../../secret"), Error::StrayShard { .. }));
    let error = write("diffusion_pytorch_model-00001-of-00002.safetensors");
    assert!(matches!(&error, Error::Read { path, .. } if names(path, "00001-of-00002")), "{error}");
    fs::write(&index, r#"{"weight_map": {}}"#).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(error, Error::MissingTensor { component: "transformer", .. }), "{error}");
}

#[test]
fn bf16_and_f16_files_load() {
    for dtype in [DType::BF16, DType::F16] {
        let directory = model_directory("schnell-1x1");
        let path = directory.path().join(TRANSFORMER);
        let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(&path, &Device::Cpu)
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
            .collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        load(directory.path(), Pins::None).unwrap();
    }
}

fn pin(directory: &TempDir) -> Manifest {
    Manifest::of_directory(directory.path(), &mut |_| {}).unwrap()
}

fn load(directory: &Path, pins: Pins) -> Result<Pipeline, Error> {
    Pipeline::load(
        directory,
        LoadOptions {
            device: Device::Cpu,
            precision: Precision::F32,
            pins,
            memory_limit: None,
            loras: Vec::new(),
        },
    )
}

fn names(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
}
