//! The demo model of `models/demo`, which is part of every program that uses this crate.

use candle_core::Device;
use kernels::Precision;

use crate::{
    Error, LargestBatch, LoadOptions, Lora, Manifest, MemoryLimit, MemoryNeeds, Pins, Pipeline,
    Result,
    checkpoint::{Directory, Files},
    config::Configs,
    dimensions::Dimensions,
    flux1,
    model::Model,
    text::{ClipTokenizer, T5Tokenizer},
};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        Files::BuiltIn(&[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/", $name)),
        )),*])
    };
}

/// All files that loading reads, in diffusers' layout.
const FILES: Files = built_in!(
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder_2/config.json",
    "text_encoder_2/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/tokenizer.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
);

const MANIFEST: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/obscura.toml"));

impl Pipeline {
    /// A FLUX in miniature that knows shapes, colours and where they stand, in f32; 256×256 is its
    /// own size.
    ///
    /// # Errors
    /// As [`Pipeline::demo_as`].
    pub fn demo(device: &Device) -> Result<Self, Error> {
        Self::demo_as(device, Precision::F32, None)
    }

    /// The same in another precision or within a limit. It is loaded as every other model is, and its
    /// manifest is insisted on.
    ///
    /// # Errors
    /// Where the device has no room for it.
    pub fn demo_as(
        device: &Device,
        precision: Precision,
        memory_limit: Option<MemoryLimit>,
    ) -> Result<Self, Error> {
        Self::demo_merged(device, precision, memory_limit, Vec::new())
    }

    /// The same merged with LoRAs.
    ///
    /// # Errors
    /// As [`Pipeline::demo_as`], and where a LoRA cannot be merged.
    pub fn demo_merged(
        device: &Device,
        precision: Precision,
        memory_limit: Option<MemoryLimit>,
        loras: Vec<Lora>,
    ) -> Result<Self, Error> {
        let manifest = Manifest::parse(MANIFEST).expect("a test reads it");
        let (device, pins) = (device.clone(), Pins::Exactly(manifest));
        let options = LoadOptions { device, precision, pins, memory_limit, loras };
        Ok(Self::of(Model::load(FILES, options, &mut |_| {})?))
    }
}

impl Pipeline {
    /// What the demo model takes of memory; as [`Pipeline::needs`].
    ///
    /// # Errors
    /// Where a LoRA cannot be merged.
    pub fn demo_needs(
        device: &Device,
        precision: Precision,
        loras: Vec<Lora>,
        batch: LargestBatch,
    ) -> Result<MemoryNeeds, Error> {
        let (device, pins) = (device.clone(), Pins::None);
        let options = LoadOptions { device, precision, pins, memory_limit: None, loras };
        Model::needs(FILES, options, batch)
    }
}

/// Its sizes, without its weights.
pub(crate) fn dimensions() -> Result<Dimensions> {
    Model::dimensions_of(FILES)
}

/// Its tokenizers, padding as far as those of another model do.
pub(crate) fn tokenizers(configs: &Configs) -> Result<(ClipTokenizer, T5Tokenizer)> {
    let mut directory = Directory::new(FILES, Pins::None);
    Ok((
        flux1::clip_tokenizer(&mut directory, &configs.clip)?,
        flux1::t5_tokenizer(&mut directory, &configs.t5, configs.text_tokens())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostMemory;

    /// Its files have 16 bits a value, of which a CPU makes 32.
    #[test]
    fn a_host_without_room_is_told_so_before_weights_are_read() {
        const HOST_BYTES: u64 = 10_000_000;
        let load = |precision| {
            let (device, pins) = (Device::Cpu, Pins::None);
            let options =
                LoadOptions { device, precision, pins, memory_limit: None, loras: Vec::new() };
            let host = HostMemory { total_bytes: Some(HOST_BYTES), available_bytes: None };
            let mut read_bytes = 0;
            let loaded = Model::load_on(host, FILES, options, &mut |progress| {
                read_bytes = progress.done_bytes;
            });
            (loaded.err(), read_bytes)
        };
        let (refused, read_bytes) = load(Precision::F32);
        let Some(Error::HostMemory { needed_bytes, host_bytes: HOST_BYTES }) = refused else {
            panic!("{refused:?}")
        };
        assert!((12_000_000..16_000_000).contains(&needed_bytes), "{needed_bytes}");
        assert_eq!(read_bytes, 0);
        for precision in [Precision::Bf16, Precision::Int8] {
            let (refused, read_bytes) = load(precision);
            assert!(refused.is_none() && read_bytes > 6_000_000, "{refused:?}, {read_bytes}");
        }
    }
}
