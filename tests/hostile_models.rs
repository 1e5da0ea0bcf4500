//! Model directories that somebody made to do harm: each ends in an error that names the file or the field,
//! without waiting, without much memory, and without a word that steers a terminal.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flux::{Error, Manifest, Pins};
use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::golden::model_directory;

use super::{TRANSFORMER, load, names};

#[test]
fn what_is_no_file_is_named_and_not_waited_for() {
    // The alarm of a test that hangs is its runner's; none of these may be opened as a file is.
    let names = [
        "model_index.json",
        "transformer/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer_2/tokenizer.json",
        "text_encoder/model.safetensors",
        TRANSFORMER,
    ];
    for name in names {
        for make in [pipe, folder, socket, loop_of_links, device] {
            let directory = model_directory("schnell-1x1");
            let path = directory.path().join(name);
            fs::remove_file(&path).unwrap();
            let kept = make(&path);
            for error in [
                load(directory.path(), Pins::None).err().unwrap(),
                Manifest::of_directory(directory.path(), &mut |_| {}).unwrap_err(),
            ] {
                let (Error::NotAFile { path: named } | Error::Read { path: named, .. }) = &error
                else {
                    panic!("{name}: {error}")
                };
                assert_eq!(*named, path);
            }
            drop(kept);
        }
    }
}

#[test]
fn links_to_files_load_as_a_download_cache_has_them() {
    let directory = model_directory("schnell-1x1");
    let blobs = TempDir::new().unwrap();
    for name in [TRANSFORMER, "vae/config.json", "tokenizer/merges.txt"] {
        let (path, blob) = (directory.path().join(name), blobs.path().join(name.replace('/', "-")));
        fs::rename(&path, &blob).unwrap();
        symlink(&blob, &path).unwrap();
    }
    load(directory.path(), Pins::None).unwrap();
}

#[test]
fn sparse_files_of_any_length_are_refused_at_once() {
    let tera = 4_400_000_000_000;
    let bound = |error: Error, name: &str| match &error {
        Error::TooLong { path, .. } => assert!(names(path, name), "{error}"),
        _ => panic!("{name}: {error}"),
    };
    for name in ["model_index.json", "vae/config.json", "tokenizer_2/tokenizer.json", TRANSFORMER] {
        let directory = model_directory("schnell-1x1");
        lengthen(&directory.path().join(name), tera);
        bound(load(directory.path(), Pins::None).err().unwrap(), name);
        bound(Manifest::of_directory(directory.path(), &mut |_| {}).unwrap_err(), name);
    }

    // A header that describes the hole as one tensor.
    let directory = model_directory("schnell-1x1");
    let path = directory.path().join(TRANSFORMER);
    let hole: u64 = 8 << 30;
    let header =
        format!(r#"{{"x":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{hole}]}}}}"#, hole / 4);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(&path, &bytes).unwrap();
    lengthen(&path, bytes.len() as u64 + hole);
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(&error, Error::TensorLength { name, .. } if name == "x"), "{error}");

    // As many shards as it takes to be larger than any machine that runs this.
    let directory = model_directory("schnell-1x1");
    let folder = directory.path().join("transformer");
    let shards: Vec<String> = (0..200).map(|i| format!("{i}.safetensors")).collect();
    for shard in &shards {
        fs::write(folder.join(shard), []).unwrap();
        lengthen(&folder.join(shard), 2 << 30);
    }
    let map: HashMap<&String, &String> = shards.iter().zip(&shards).collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::remove_file(directory.path().join(TRANSFORMER)).unwrap();
    fs::write(directory.path().join(format!("{TRANSFORMER}.index.json")), index).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap();
    assert!(matches!(error, Error::TooLong { .. } | Error::HostMemory { .. }), "{error}");
}

#[test]
fn configurations_are_bounded_and_each_field_is_named() {
    let bad = [
        ("transformer/config.json", "num_layers", json!(u64::MAX)),
        ("transformer/config.json", "num_attention_heads", json!(1u64 << 60)),
        ("transformer/config.json", "attention_head_dim", json!(0)),
        ("transformer/config.json", "axes_dims_rope", json!([u64::MAX, 2, u64::MAX])),
        ("vae/config.json", "block_out_channels", json!(vec![32; 100_000])),
        ("vae/config.json", "block_out_channels", json!([1u64 << 40, 32])),
        ("vae/config.json", "latent_channels", json!(1u64 << 62)),
        ("vae/config.json", "scaling_factor", json!(0.0)),
        ("vae/config.json", "sample_size", json!(u64::MAX)),
        ("text_encoder/config.json", "hidden_size", json!(1u64 << 50)),
        ("text_encoder/config.json", "max_position_embeddings", json!(u64::MAX)),
        ("text_encoder/config.json", "layer_norm_eps", json!(-1.0)),
        ("text_encoder_2/config.json", "num_heads", json!(u64::MAX)),
        ("text_encoder_2/config.json", "relative_attention_num_buckets", json!(u64::MAX - 3)),
        ("text_encoder_2/config.json", "relative_attention_max_distance", json!(0)),
        ("scheduler/scheduler_config.json", "num_train_timesteps", json!(u64::MAX)),
        ("scheduler/scheduler_config.json", "shift", json!(0)),
        ("tokenizer/tokenizer_config.json", "model_max_length", json!(-1e30)),
    ];
    for (file, field, value) in bad {
        let directory = model_directory("schnell-1x1");
        let path = directory.path().join(file);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[field] = value;
        fs::write(&path, config.to_string()).unwrap();
        let error = load(directory.path(), Pins::None).err().unwrap();
        assert!(
            matches!(&error, Error::Unsupported { field: named, .. } if *named == field),
            "{file} {field}: {error}"
        );
        assert!(error.to_string().len() < 300, "a message of bounded length");
    }
}

#[test]
fn json_that_two_readers_would_read_differently_is_refused() {
    let deep = "[".repeat(100_000);
    let bad = [
        (r#"{"shift":1.0,"shift":3.0}"#, r#""shift" is there twice"#),
        (r#"{"shift":NaN}"#, "expected value"),
        (r#"{"shift":1e999}"#, "number out of range"),
        (&deep, "recursion limit"),
    ];
    for (text, says) in bad {
        let directory = model_directory("schnell-1x1");
        let path = directory.path().join("scheduler/scheduler_config.json");
        fs::write(&path, text).unwrap();
        let error = load(directory.path(), Pins::None).err().unwrap();
        let Error::Json { path: named, source } = &error else { panic!("{error}") };
        assert_eq!(*named, path);
        assert!(source.to_string().contains(says), "{source}");
    }
}

#[test]
fn hostile_tokenizers_are_refused_within_bounds() {
    let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    let doubling: Vec<Value> = vec![replace("a", "aa"); 16];
    let long = "x".repeat(20 << 20);
    let charsmap = |bytes: &[u8]| json!({ "type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(bytes) });
    let bad = [
        json!({ "type": "Sequence", "normalizers": doubling }),
        json!({ "type": "Prepend", "prepend": long }),
        replace("a", &long),
        // Half of a length; a trie of 4 GB that is not there; a trie that leads out of itself.
        charsmap(b"\0\0"),
        charsmap(&[0xff; 8]),
        charsmap(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]),
    ];
    let pristine = model_directory("schnell-1x1");
    let name = "tokenizer_2/tokenizer.json";
    let good: Value =
        serde_json::from_slice(&fs::read(pristine.path().join(name)).unwrap()).unwrap();
    for normalizer in bad {
        let mut file = good.clone();
        file["normalizer"] = normalizer;
        fs::write(pristine.path().join(name), file.to_string()).unwrap();
        let error = load(pristine.path(), Pins::None).err().unwrap();
        let Error::Tokenizer { path, source } = &error else { panic!("{error}") };
        assert!(names(path, name));
        assert!(source.to_string().len() < 300, "a message of bounded length");
    }
    let mut file = good.clone();
    file["model"]["vocab"] = json!(vec![json!(["▁", 0.0]); 300_001]);
    fs::write(pristine.path().join(name), file.to_string()).unwrap();
    let error = load(pristine.path(), Pins::None).err().unwrap();
    assert!(matches!(error, Error::Tokenizer { .. }), "{error}");
}

#[test]
fn words_of_a_file_cannot_steer_a_terminal() {
    let directory = model_directory("schnell-1x1");
    let path = directory.path().join("model_index.json");
    fs::write(&path, r#"{"_class_name":"\u001b[2J\u001b[1;1HACCEPTED"}"#).unwrap();
    let error = load(directory.path(), Pins::None).err().unwrap().to_string();
    assert!(!error.contains('\u{1b}'), "{error:?}");
    assert!(Manifest::parse("# \u{1b}[2J\n").is_err());
    assert!(Manifest::parse("[[file]]\npath = \"a\\u001b[2J\"\n").is_err());
    let manifest = directory.path().join("obscura.toml");
    pipe(&manifest);
    assert!(matches!(Manifest::read(&manifest), Err(Error::NotAFile { .. })));
}

fn lengthen(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// What takes a file's place, and what must live as long as it is there.
type Impostor = Option<UnixListener>;

fn pipe(path: &Path) -> Impostor {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    None
}

fn folder(path: &Path) -> Impostor {
    fs::create_dir(path).unwrap();
    None
}

fn socket(path: &Path) -> Impostor {
    Some(UnixListener::bind(path).unwrap())
}

fn loop_of_links(path: &Path) -> Impostor {
    symlink(path, path).unwrap();
    None
}

fn device(path: &Path) -> Impostor {
    symlink("/dev/zero", path).unwrap();
    None
}
