//! Small models of FLUX.2-klein's kind, whose weights follow from a rule: `fixtures/klein/PROVENANCE.md`.

use std::path::{Path, PathBuf};

use candle_core::Device;
use flux::{InputImage, LoadOptions, Pins, Pipeline, Precision};
use tempfile::TempDir;

use crate::golden::{copy, write_weights};

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
