//! Files that cannot be merged: each is refused, and the error names what is wrong with it.

use candle_core::DType;
use flux::{FileDigest, LargestBatch, LoraError, MemoryLimit};

use super::*;

const CASE: &str = "dev-1x2";

/// Changes a sound file's tensors, loads, and gives the error with its causes.
fn refused(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> String {
    let folder = TempDir::new().unwrap();
    let mut all = tensors(CASE, "diffusers");
    change(&mut all);
    let lora = write(&folder.path().join("x.safetensors"), &all, 1.0);
    told(load(model_directory(CASE).path(), vec![lora]).err().unwrap())
}

fn told(error: Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        told = format!("{told}: {inner}");
        cause = inner.source();
    }
    told
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

const Q: &str = "transformer.transformer_blocks.0.attn.to_q";

#[test]
fn a_lora_for_another_model() {
    let folder = TempDir::new().unwrap();
    let [of_flux1, of_klein] = [("dev-1x2", "diffusers"), ("klein-2x3", "kohya")]
        .map(|(case, file)| lora(folder.path(), case, file, 1.0));
    let error = told(load(model_directory(CASE).path(), vec![of_klein]).err().unwrap());
    assert!(error.contains("another model"), "{error}");
    let error = told(
        load(klein::model_directory("klein-2x3").path(), vec![of_flux1.clone()]).err().unwrap(),
    );
    assert!(error.contains("another model"), "{error}");
    // The same kind, of another width.
    let error = told(load(model_directory("schnell-2x3").path(), vec![of_flux1]).err().unwrap());
    assert!(error.contains("another model"), "{error}");
    // A block that is not there.
    let error = refused(|all| {
        let (down, up) = (zeros(&[2, 56]), zeros(&[56, 2]));
        all.insert("transformer.transformer_blocks.7.attn.to_q.lora_A.weight".to_owned(), down);
        all.insert("transformer.transformer_blocks.7.attn.to_q.lora_B.weight".to_owned(), up);
    });
    assert!(error.contains("transformer_blocks.7.attn.to_q"), "{error}");
}

#[test]
fn ranks_and_shapes_that_do_not_fit() {
    let down = format!("{Q}.lora_A.weight");
    let up = format!("{Q}.lora_B.weight");
    let shapes = tensors(CASE, "diffusers");
    let [rank, inputs] = shapes[&down].dims().try_into().unwrap();
    let outputs = shapes[&up].dims()[0];
    for (key, shape) in [
        (&down, vec![rank + 1, inputs]),
        (&down, vec![inputs]),
        (&down, vec![rank, inputs, 1, 1]),
        (&up, vec![outputs, rank + 1]),
        (&up, vec![outputs, rank, 1, 1]),
    ] {
        let error = refused(|all| drop(all.insert(key.clone(), zeros(&shape))));
        assert!(error.contains("no common rank") && error.contains("0.attn.to_q"), "{error}");
    }
    for (key, shape) in [(&down, vec![rank, inputs + 1]), (&up, vec![outputs - 1, rank])] {
        let error = refused(|all| drop(all.insert(key.clone(), zeros(&shape))));
        assert!(error.contains("updates a weight of") && error.contains("0.attn.to_q"), "{error}");
    }
    // Rows that are no three of a kind.
    let error = refused(|all| {
        all.retain(|key, _| !key.contains("blocks.0.attn.to_"));
        let layer = "diffusion_model.double_blocks.0.img_attn.qkv";
        all.insert(format!("{layer}.lora_A.weight"), zeros(&[1, inputs]));
        all.insert(format!("{layer}.lora_B.weight"), zeros(&[3 * outputs + 1, 1]));
    });
    assert!(error.contains("img_attn.qkv") || error.contains("to_qkv"), "{error}");
}

#[test]
fn values_that_are_no_numbers() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let key = format!("{Q}.lora_B.weight");
        let error = refused(|all| {
            let shape = all[&key].dims().to_vec();
            let mut values = floats(&all[&key]);
            *values.last_mut().unwrap() = value;
            all.insert(key.clone(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        });
        assert!(error.contains(&key) && error.contains("no numbers"), "{error}");
        let error = refused(|all| {
            all.insert(format!("{Q}.alpha"), Tensor::new(value, &Device::Cpu).unwrap());
        });
        assert!(error.contains("to_q.alpha"), "{error}");
    }
    // Each is one, and their product is none.
    let error = refused(|all| {
        for half in ["lora_A", "lora_B"] {
            let key = format!("{Q}.{half}.weight");
            let shape = all[&key].dims().to_vec();
            all.insert(key, (zeros(&shape) + 3e38).unwrap());
        }
    });
    assert!(error.contains("0.attn.to_q") && error.contains("no numbers"), "{error}");
}

#[test]
fn names_that_mean_something_else() {
    for (key, shape, says) in [
        ("transformer.transformer_blocks.0.attn.to_q.lora_magnitude_vector", vec![8], "DoRA"),
        ("lora_unet_double_blocks_0_img_attn_qkv.dora_scale", vec![8, 1], "DoRA"),
        ("lora_unet_double_blocks_0_img_attn_qkv.hada_w1_a", vec![8, 1], "LoHa"),
        ("transformer.transformer_blocks.0.attn.to_q.lokr_w1", vec![8, 1], "LoKr"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_B.bias", vec![8], "biases"),
        ("diffusion_model.double_blocks.0.img_attn.qkv.diff", vec![8], "differences"),
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
            vec![1, 8],
            "text encoder",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight",
            vec![1, 8],
            "text encoder",
        ),
        ("transformer.transformer_blocks.0.attn.norm_q.weight", vec![8], "no LoRA of this model"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in.alpha", vec![1], "no LoRA of this model"),
        ("\u{1b}[2J", vec![1], "\\u{1b}"),
    ] {
        let error = refused(|all| drop(all.insert(key.to_owned(), zeros(&shape))));
        assert!(error.contains(says), "{key}: {error}");
        assert!(key.starts_with('\u{1b}') || error.contains(key), "{key}: {error}");
    }
}

#[test]
fn pairs_that_are_none() {
    for half in ["lora_A", "lora_B"] {
        let error = refused(|all| drop(all.remove(&format!("{Q}.{half}.weight"))));
        assert!(error.contains("0.attn.to_q") && error.contains(half), "{error}");
    }
    let error =
        refused(|all| drop(all.insert("transformer.proj_outs.alpha".to_owned(), zeros(&[1]))));
    assert!(error.contains("proj_outs"), "{error}");
    let error = refused(|all| drop(all.insert(format!("{Q}.alpha"), zeros(&[2]))));
    assert!(error.contains("one number"), "{error}");
    // The same by another name, and as a part of a whole.
    let error = refused(|all| {
        let other = all[&format!("{Q}.lora_A.weight")].clone();
        all.insert("transformer_blocks.0.attn.to_q.lora_A.weight".to_owned(), other);
    });
    assert!(error.contains("same layer"), "{error}");
    let error = refused(|all| {
        let whole = "lora_unet_double_blocks_0_img_attn_qkv";
        for (kind, tensor) in tensors(CASE, "kohya")
            .into_iter()
            .filter_map(|(key, tensor)| Some((key.strip_prefix(whole)?.to_owned(), tensor)))
        {
            all.insert(format!("{whole}{kind}"), tensor);
        }
    });
    assert!(error.contains("same layer"), "{error}");
    let error = refused(HashMap::clear);
    assert!(error.contains("updates nothing"), "{error}");
}

#[test]
fn files_that_are_something_else() {
    let folder = TempDir::new().unwrap();
    let model = model_directory(CASE);
    let load_file = |bytes: &[u8]| {
        let file = folder.path().join("x.safetensors");
        fs::write(&file, bytes).unwrap();
        let lora = Lora { file, weight: LoraWeight::ONE, sha256: None };
        load(model.path(), vec![lora]).err().unwrap()
    };
    for pickled in
        [&b"PK\x03\x04 an archive of pickles"[..], b"\x80\x02}q\x00(X\x06\x00\x00\x00weight"]
    {
        let error = load_file(pickled);
        assert!(matches!(&error, Error::Lora { source: LoraError::Pickle, .. }), "{error}");
    }
    for (bytes, says) in [(&b""[..], "bytes"), (b"text\n", "bytes"), (&[0xff; 64], "header")] {
        let error = told(load_file(bytes));
        assert!(error.contains(says) && error.contains("x.safetensors"), "{error}");
    }
    let missing = Lora { file: folder.path().join("none"), weight: LoraWeight::ONE, sha256: None };
    let error = load(model.path(), vec![missing]).err().unwrap();
    assert!(matches!(&error, Error::Read { .. }), "{error}");
    let directory = Lora { file: folder.path().to_owned(), weight: LoraWeight::ONE, sha256: None };
    let error = load(model.path(), vec![directory]).err().unwrap();
    assert!(matches!(&error, Error::NotAFile { .. }), "{error}");
}

#[test]
fn a_file_that_was_changed_after_it_was_pinned() {
    let folder = TempDir::new().unwrap();
    let model = model_directory(CASE);
    let mut pinned = lora(folder.path(), CASE, "kohya", 1.0);
    pinned.sha256 = Some(flux::ManifestLora::of(&pinned).unwrap().sha256);
    load(model.path(), vec![pinned.clone()]).unwrap();
    let mut bytes = fs::read(&pinned.file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&pinned.file, bytes).unwrap();
    let error = load(model.path(), vec![pinned.clone()]).err().unwrap();
    let Error::PinnedDigest { path, expected, found } = &error else { panic!("{error}") };
    assert_eq!((path, Some(*expected)), (&pinned.file, pinned.sha256));
    assert_ne!(*found, FileDigest([0; 32]));
}

#[test]
fn what_merging_takes_is_held_against_the_limit() {
    let folder = TempDir::new().unwrap();
    let model = model_directory(CASE);
    let lora = lora(folder.path(), CASE, "kohya", 1.0);
    let limited = |bytes, loras| {
        let memory_limit =
            Some(MemoryLimit { bytes, batch: LargestBatch { images: 1, pixels: 256 } });
        Pipeline::load(model.path(), LoadOptions { memory_limit, loras, ..klein::options() }).err()
    };
    assert!(limited(1 << 30, vec![lora.clone()]).is_none());
    assert!(matches!(limited(1 << 10, vec![lora]), Some(Error::MemoryLimit { .. })));
}

#[test]
fn more_than_anybody_merges() {
    let folder = TempDir::new().unwrap();
    let lora = lora(folder.path(), CASE, "comfy", 0.1);
    let error = load(model_directory(CASE).path(), vec![lora; 17]).err().unwrap();
    assert!(
        matches!(&error, Error::Lora { source: LoraError::TooMany { limit: 16 }, .. }),
        "{error}"
    );
}
