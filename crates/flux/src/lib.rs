//! FLUX.1 and FLUX.2-klein on candle tensors: text encoders, transformer, sampler, autoencoder.
//!
//! [`Pipeline::load`] reads a model directory in diffusers' or in Black Forest Labs' layout; [`Pipeline::demo`] is a
//! FLUX in miniature that this crate carries. [`Pipeline::generate`] makes images that are, in f32, those of
//! diffusers' `FluxPipeline` or `Flux2KleinPipeline` for the same model, prompt, input images, size, steps and seed;
//! [`Pipeline::stages`] shows what lies between, for tests that compare the two.
//!
//! What a prompt becomes is wiped where this crate owns the memory (token ids, text states, latents,
//! the image); intermediate activations are candle's and are freed without being wiped.

mod architecture;
mod autoencoder;
pub mod bench;
mod checkpoint;
mod clock;
mod config;
mod demo;
mod denoise;
mod dimensions;
mod error;
mod file_digest;
mod flux1;
mod flux2;
#[doc(hidden)]
pub mod fuzzing;
mod generate;
#[cfg(feature = "cuda")]
pub mod gpu;
mod host_memory;
mod input;
mod job;
mod latents;
mod layers;
mod lora;
mod lora_choice;
mod lora_error;
mod manifest;
mod memory;
mod model;
#[cfg(test)]
mod names;
mod noise;
mod pipeline;
mod regular_file;
mod resample;
mod role;
mod sampler;
mod stages;
mod storage;
mod text;
mod transformer;
mod warm_up;
mod wiped;
mod work;

pub use checkpoint::LoadProgress;
pub use error::{Error, ManifestError};
pub use file_digest::{FileDigest, NotADigest};
pub use host_memory::HostMemory;
pub use input::{InputImage, InputImageError, InputMask, InputMaskError};
pub use job::{
    GUIDANCE, Generated, Image, Job, Preview, Progress, ProgressObserver, PromptTokens, Timings,
};
pub use kernels::{
    Precision,
    cpu::{
        Level as CpuLevel, LevelError as CpuLevelError, int8_description, int8_row_bits,
        level as cpu_level,
    },
    doctor, groups,
};
pub use lora_choice::{InvalidLora, Lora, LoraWeight};
pub use lora_error::LoraError;
pub use manifest::{Manifest, ManifestFile, ManifestLora, Pins};
pub use memory::{LargestBatch, MemoryLimit, MemoryNeeds};
pub use model::LoadOptions;
pub use pipeline::Pipeline;
pub use stages::{StageInputs, Stages};

use error::Result;
