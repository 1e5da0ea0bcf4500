//! Small models of FLUX.2-klein's kind, whose weights follow from a rule: `fixtures/klein/PROVENANCE.md`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use flux::{InputImage, InputMask, LoadOptions, Pins, Pipeline, Precision};
use tempfile::TempDir;

use crate::golden::{by_recipe, copy, write_weights};

/// `tests/fixtures/klein`.
#[must_use]
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/klein")
}

/// Writes a case's model as a directory in the diffusers layout.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
pub fn model_directory(case: &str) -> TempDir {
    let directory = TempDir::new().expect("room for a small model");
    write_model(case, directory.path());
    directory
}

/// The same into a directory that is there.
///
/// # Panics
/// Where it cannot be written.
pub fn write_model(case: &str, directory: &Path) {
    let model = fixtures().join(case).join("model");
    copy(&model, directory);
    copy(&fixtures().join("tokenizer"), &directory.join("tokenizer"));
    write_weights(&model.join("tensors.txt"), directory);
}

/// The same model in Black Forest Labs' layout: the transformer is one file, under the publisher's names. The
/// configurations stay, since the published ones are of another size.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
pub fn single_file_directory(case: &str) -> TempDir {
    let directory = model_directory(case);
    let path = directory.path().join("transformer/diffusion_pytorch_model.safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).expect("just written");
    fs::remove_file(path).expect("just written");
    let recipe = fixtures().join(case).join("model/bfl.txt");
    let made = by_recipe(&recipe, &HashMap::from([("flux2", tensors)]));
    let path = directory.path().join("flux-2-klein-4b.safetensors");
    candle_core::safetensors::save(&made["flux2"], path).expect("it is written");
    directory
}

/// Loads a model directory, in f32 on the CPU.
///
/// # Panics
/// Where it is none.
#[must_use]
pub fn load(directory: &Path) -> Pipeline {
    Pipeline::load(directory, options()).expect("a model that loads")
}

/// On the CPU, in f32, whatever the bytes are.
#[must_use]
pub fn options() -> LoadOptions {
    LoadOptions {
        device: Device::Cpu,
        precision: Precision::F32,
        pins: Pins::None,
        memory_limit: None,
        loras: Vec::new(),
    }
}

/// Red, green and blue of what `klein_models.input_picture` makes, in wrapping integers of 32 bits.
#[must_use]
pub fn pattern(width: u32, height: u32) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(3 * (width * height) as usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..3_u32 {
            let mixed = x.wrapping_mul(73_856_093)
                ^ y.wrapping_mul(19_349_663)
                ^ (c + 1).wrapping_mul(83_492_791);
            let waves = x * (c + 1) / 3 + y * (3 - c) / 2;
            rgb.push((waves + (mixed >> 7 & 31)) as u8);
        }
    }
    rgb
}

/// The same as an input image.
///
/// # Panics
/// Where it is no size of one.
#[must_use]
pub fn input_image(width: u32, height: u32) -> InputImage {
    let rgb = pattern(width, height).into();
    InputImage::new(width as usize, height as usize, rgb).expect("a size that is read")
}

/// The alpha channel that `klein_models.mask_picture` makes: what is transparent is drawn anew.
#[must_use]
pub fn mask_alpha(width: u32, height: u32) -> Vec<u8> {
    let (w, h) = (i64::from(width), i64::from(height));
    let alpha = |(x, y): (i64, i64)| {
        if x / 3 + y / 3 >= (w + h) / 3 - 8 {
            return 0;
        }
        let far = (x - w / 3).pow(2) + (y - h / 2).pow(2);
        (far * 255 * 4 / (h * h)).min(255) as u8
    };
    (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).map(alpha).collect()
}

/// [`input_image`] with that mask.
///
/// # Panics
/// Where it is no size of one.
#[must_use]
pub fn masked_image(width: u32, height: u32) -> InputImage {
    let alpha = mask_alpha(width, height).into();
    let mask = InputMask::new(width as usize, height as usize, alpha).expect("a mask");
    input_image(width, height).masked(mask).expect("of the same size")
}
