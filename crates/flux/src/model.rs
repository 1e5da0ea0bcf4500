//! All components of a FLUX.1 model, built from a directory or from memory.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::Device;
use kernels::Precision;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, LoadProgress, Manifest, Pins, Result,
    autoencoder::AutoEncoder,
    checkpoint::{Component, Convert, Directory, Files, Layout, Part, Shards, Weights, as_read},
    config::{ClipConfig, Configs, T5Config},
    layers,
    memory::{MemoryLimit, MemoryPlan, WeightBytes},
    storage::Storage,
    text::{Clip, ClipTokenizer, T5, T5Tokenizer},
    transformer::Transformer,
};

/// Where a model is put.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where it computes.
    pub device: Device,
    /// What it computes in. (F16 is not there: it overflows in T5.)
    pub precision: Precision,
    /// Which bytes it must be made of.
    pub pins: Pins,
    /// How much of the device's memory it may take; `None`: as much as there is. To stay within, the
    /// text encoders may rest in the host's memory and travel to a GPU for each prompt, and large
    /// images be decoded in tiles, which changes them a little.
    pub memory_limit: Option<MemoryLimit>,
}

/// A model, ready to compute.
pub(crate) struct Model {
    pub(crate) clip_tokens: ClipTokenizer,
    pub(crate) t5_tokens: T5Tokenizer,
    pub(crate) clip: Clip,
    pub(crate) t5: T5,
    pub(crate) transformer: Transformer,
    pub(crate) autoencoder: AutoEncoder,
    pub(crate) configs: Configs,
    pub(crate) device: Device,
    pub(crate) precision: Precision,
    pub(crate) memory: MemoryPlan,
    /// All that it was made from, a line a file; its SHA-256 names the model.
    pub(crate) listing: Vec<u8>,
}

impl Model {
    /// Loads the files of one. A panic of a library that they provoke costs this load alone.
    pub(crate) fn load(
        files: Files,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let load = AssertUnwindSafe(|| Self::load_unguarded(files, options, progress));
        catch_unwind(load).unwrap_or(Err(Error::Fault))
    }

    fn load_unguarded(
        files: Files,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let LoadOptions { device, precision, pins, memory_limit } = options;
        if device.is_cpu() && precision == Precision::Bf16 {
            // What the environment asks for wrongly is said before anything is read.
            kernels::cpu::level().map_err(candle_core::Error::wrap)?;
        }
        let mut directory = Directory::new(files, pins);
        let Sources { configs, clip_tokens, t5_tokens, shards } = Sources::read(&mut directory)?;
        let on_gpu = !device.is_cpu();
        let files = shards.each_ref().map(Shards::bytes);
        let weights = WeightBytes::of_files(files, &configs, precision, on_gpu);
        let memory = MemoryPlan::new(memory_limit, weights, &configs, precision.dtype(), on_gpu)?;
        let resting = memory.text_encoders(&device);
        let [clip, t5, transformer, autoencoder] = &shards;
        let part = |shards, device| Component { shards, device, keep: as_read };
        let components = [
            part(clip, resting),
            part(t5, resting),
            Component { keep: kept_by_transformer(precision), ..part(transformer, &device) },
            part(autoencoder, &device),
        ];
        let storage = Storage::new(&device, precision);
        let mut parts = Parts::default();
        // Each is built while the others are still being read.
        let mut build = |component, weights| match component {
            0 => build_clip(&configs, weights, &device).map(|it| parts.clip = Some(it)),
            1 => build_t5(&configs, weights, &device).map(|it| parts.t5 = Some(it)),
            2 => build_transformer(&configs, weights.stored(storage))
                .map(|it| parts.transformer = Some(it)),
            _ => build_autoencoder(&configs, weights.stored(storage))
                .map(|it| parts.autoencoder = Some(it)),
        };
        directory.weights(&components, precision.dtype(), &mut build, progress)?;
        let lacking =
            |folder: &str| Error::NoWeights { path: directory.path(folder), instead: Vec::new() };
        let Parts { clip, t5, transformer, autoencoder } = parts;
        Ok(Self {
            clip_tokens,
            t5_tokens,
            clip: clip.ok_or_else(|| lacking("text_encoder"))?,
            t5: t5.ok_or_else(|| lacking("text_encoder_2"))?,
            transformer: transformer.ok_or_else(|| lacking("transformer"))?,
            autoencoder: autoencoder.ok_or_else(|| lacking("vae"))?,
            configs,
            listing: directory.finish()?.listing()?.into_bytes(),
            device,
            precision,
            memory,
        })
    }
}

/// The components that are built, while others are still being read.
#[derive(Default)]
struct Parts {
    clip: Option<Clip>,
    t5: Option<T5>,
    transformer: Option<Transformer>,
    autoencoder: Option<AutoEncoder>,
}

/// What becomes of the transformer's tensors as they arrive.
fn kept_by_transformer(precision: Precision) -> Convert {
    match precision {
        Precision::F32 | Precision::Bf16 => as_read,
        Precision::Fp8 => |name, tensor| {
            if Transformer::is_block_weight(&name) {
                layers::quantise_as_read(name, tensor)
            } else {
                as_read(name, tensor)
            }
        },
    }
}

impl Manifest {
    /// Reads and hashes every file of a model directory that loading would read, and builds nothing.
    ///
    /// # Errors
    /// Where a file is missing or malformed.
    pub fn of_directory(
        root: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, Error> {
        Self::held_against(root, Pins::None, progress)
    }

    /// Checks a model directory against this manifest: the same files with the same bytes.
    ///
    /// # Errors
    /// Names the first file that differs, what was expected, and what was found.
    pub fn check(&self, root: &Path, progress: &mut dyn FnMut(LoadProgress)) -> Result<(), Error> {
        Self::held_against(root, Pins::Exactly(self.clone()), progress).map(|_| ())
    }

    fn held_against(
        root: &Path,
        pins: Pins,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let mut directory = Directory::new(Files::Folder(root.to_owned()), pins);
        let shards = Sources::read(&mut directory)?.shards;
        directory.hash(&shards, progress)?;
        directory.finish()
    }
}

/// Everything of a directory but the weights themselves.
struct Sources {
    configs: Configs,
    clip_tokens: ClipTokenizer,
    t5_tokens: T5Tokenizer,
    /// Of CLIP, T5, transformer, autoencoder.
    shards: [Shards; 4],
}

impl Sources {
    fn read(directory: &mut Directory) -> Result<Self> {
        let layout = Layout::find(directory)?;
        let configs = Configs {
            clip: directory.json("text_encoder/config.json")?,
            t5: directory.json("text_encoder_2/config.json")?,
            transformer: layout.config(Part::Transformer, directory)?,
            autoencoder: layout.config(Part::AutoEncoder, directory)?,
            scheduler: layout.scheduler(directory)?,
        };
        configs.check()?;
        let clip_tokens = clip_tokenizer(directory, &configs.clip)?;
        let t5_tokens = t5_tokenizer(directory, &configs.t5, configs.text_tokens())?;
        let shards = [
            directory.shards("text_encoder")?,
            directory.shards("text_encoder_2")?,
            layout.shards(Part::Transformer, directory)?,
            layout.shards(Part::AutoEncoder, directory)?,
        ];
        Ok(Self { configs, clip_tokens, t5_tokens, shards })
    }
}

/// Computes on `device`, wherever the weights rest.
pub(crate) fn build_clip(configs: &Configs, weights: Weights, device: &Device) -> Result<Clip> {
    weights
        .stored(Storage::of_text_encoder(device))
        .build(|vb| Clip::load(&configs.clip, device, vb))
}

/// Computes on `device`, wherever the weights rest.
pub(crate) fn build_t5(configs: &Configs, weights: Weights, device: &Device) -> Result<T5> {
    // The embedding may be there under both of its names.
    weights
        .ignore(&["encoder.embed_tokens.weight"])
        .stored(Storage::of_text_encoder(device))
        .build(|vb| T5::load(&configs.t5, configs.text_tokens(), device, vb))
}

pub(crate) fn build_transformer(configs: &Configs, weights: Weights) -> Result<Transformer> {
    weights.build(|vb| Transformer::load(&configs.transformer, vb))
}

pub(crate) fn build_autoencoder(configs: &Configs, weights: Weights) -> Result<AutoEncoder> {
    weights.build(|vb| AutoEncoder::load(&configs.autoencoder, vb))
}

/// The parts of `tokenizer_config.json` that matter here.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<f64>,
    /// A string, or an object with the string as its `content`.
    #[serde(default)]
    pad_token: Value,
}

/// From `vocab.json` and `merges.txt`, as FLUX.1 is published, or from `tokenizer.json`, as newer
/// releases of transformers write it.
pub(crate) fn clip_tokenizer(
    directory: &mut Directory,
    config: &ClipConfig,
) -> Result<ClipTokenizer> {
    let settings: TokenizerConfig = if directory.has("tokenizer/tokenizer_config.json") {
        directory.json("tokenizer/tokenizer_config.json")?
    } else {
        TokenizerConfig::default()
    };
    let path = directory.path("tokenizer");
    let tokenizer = if directory.has("tokenizer/vocab.json") {
        let vocabulary = directory.tokenizer_bytes("tokenizer/vocab.json")?;
        let merges = directory.tokenizer_bytes("tokenizer/merges.txt")?;
        let merges = String::from_utf8_lossy(&merges);
        ClipTokenizer::from_vocabulary(&path, &vocabulary, &merges, config.vocab_size)?
    } else {
        let json = directory.tokenizer_bytes("tokenizer/tokenizer.json")?;
        ClipTokenizer::from_json(&path, &json, config.vocab_size)?
    };
    let positions = config.max_position_embeddings;
    // Where a tokenizer knows no limit, transformers writes one of about 1e30.
    let length = settings.model_max_length.map_or(positions, |most| positions.min(most as usize));
    // Room for where a text starts and ends.
    if length < 2 {
        let (component, field, value) = ("tokenizer", "model_max_length", length.to_string());
        return Err(Error::Unsupported { component, field, value });
    }
    let padding = settings.pad_token.get("content").unwrap_or(&settings.pad_token).as_str();
    Ok(tokenizer.padded(length, padding))
}

/// Padding every text to `length` tokens.
pub(crate) fn t5_tokenizer(
    directory: &mut Directory,
    config: &T5Config,
    length: usize,
) -> Result<T5Tokenizer> {
    let json = directory.tokenizer_bytes("tokenizer_2/tokenizer.json")?;
    let path = directory.path("tokenizer_2/tokenizer.json");
    T5Tokenizer::from_json(&path, &json, config.vocab_size, length)
}
