//! A model, whichever kind it is: loaded from a directory, or made in memory.
//!
//! What is particular to a kind is in a file of its own (`flux1.rs`, `flux2.rs`): its configurations, its text
//! encoders, the names in its files. It is made known in [`ARCHITECTURES`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::{Device, Tensor};
use kernels::Precision;

use crate::{
    Error, LoadProgress, Manifest, Pins, Result,
    architecture::{Architecture, ModelConfig, Parts, Sources},
    autoencoder::AutoEncoder,
    checkpoint::{Component, Directory, Files, Weights},
    config::ModelIndex,
    dimensions::Dimensions,
    flux1, flux2,
    host_memory::HostMemory,
    latents::Grid,
    layers,
    lora::Adapters,
    lora_choice::Lora,
    memory::{LargestBatch, MemoryLimit, MemoryNeeds, MemoryPlan, WeightBytes},
    role::Role,
    storage::Storage,
    text::{self, TextEncoder},
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
    /// What its transformer is merged with, in this order.
    pub loras: Vec<Lora>,
}

/// A model, ready to compute.
pub(crate) struct Model {
    pub(crate) text: Box<dyn TextEncoder>,
    pub(crate) transformer: Transformer,
    pub(crate) autoencoder: AutoEncoder,
    pub(crate) config: Box<dyn ModelConfig>,
    pub(crate) dimensions: Dimensions,
    pub(crate) device: Device,
    pub(crate) precision: Precision,
    pub(crate) memory: MemoryPlan,
    /// All that it was made from, a line a file; its SHA-256 names the model.
    pub(crate) listing: Vec<u8>,
}

/// All kinds; the first is taken where a directory does not say.
const ARCHITECTURES: [&Architecture; 2] = [&flux1::ARCHITECTURE, &flux2::ARCHITECTURE];

impl Model {
    /// Loads the files of one. A panic of a library that they provoke costs this load alone.
    pub(crate) fn load(
        files: Files,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let host = HostMemory::of_this_machine();
        let load = AssertUnwindSafe(|| Self::load_on(host, files, options, progress));
        catch_unwind(load).unwrap_or(Err(Error::Fault))
    }

    /// Reads everything but weights, and says what they will take while such a batch is drawn.
    pub(crate) fn needs(
        files: Files,
        options: LoadOptions,
        batch: LargestBatch,
    ) -> Result<MemoryNeeds> {
        let needs = AssertUnwindSafe(|| Self::needs_unguarded(files, options, batch));
        catch_unwind(needs).unwrap_or(Err(Error::Fault))
    }

    fn needs_unguarded(
        files: Files,
        options: LoadOptions,
        batch: LargestBatch,
    ) -> Result<MemoryNeeds> {
        let LoadOptions { device, precision, pins, loras, .. } = options;
        let mut directory = Directory::new(files, pins);
        let (architecture, sources) = read_sources(&mut directory)?;
        let adapters = Adapters::read(&loras, architecture.renaming)?;
        let dimensions = sources.blueprint.config().dimensions();
        let on_gpu = !device.is_cpu();
        let weights = weight_bytes(&directory, &sources, precision, on_gpu)?;
        let needs = MemoryNeeds::new(weights, &dimensions, precision.dtype(), (batch, on_gpu));
        Ok(needs.at_least(adapters.merging_bytes()))
    }

    /// Those of a directory, of which no weights are read.
    pub(crate) fn dimensions_of(files: Files) -> Result<Dimensions> {
        let (_, sources) = read_sources(&mut Directory::new(files, Pins::None))?;
        Ok(sources.blueprint.config().dimensions())
    }

    /// Loads on a host with so much memory, and lets a library's panic pass.
    pub(crate) fn load_on(
        host: HostMemory,
        files: Files,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let LoadOptions { device, precision, pins, memory_limit, loras } = options;
        if device.is_cpu() && precision == Precision::Bf16 {
            // What the environment asks for wrongly is said before anything is read.
            kernels::cpu::level().map_err(candle_core::Error::wrap)?;
        }
        let mut directory = Directory::new(files, pins);
        let (architecture, sources) = read_sources(&mut directory)?;
        let adapters = Adapters::read(&loras, architecture.renaming)?;
        directory.check_loras(adapters.files())?;
        let on_gpu = !device.is_cpu();
        let weights = weight_bytes(&directory, &sources, precision, on_gpu)?;
        let Sources { mut blueprint, shards } = sources;
        let (config, components) = (blueprint.config(), blueprint.components());
        let dimensions = config.dimensions();
        let memory =
            MemoryPlan::new(memory_limit, weights, &dimensions, precision.dtype(), on_gpu)?;
        memory.check_beside(adapters.merging_bytes())?;
        let merging_bytes = if on_gpu { 0 } else { adapters.merging_bytes() };
        memory.check_host(adapters.bytes() + merging_bytes, host.total_bytes)?;
        let resting = memory.text_encoders(&device);
        let dtype = precision.dtype();
        let in_int8 = precision == Precision::Int8;
        let as_read = |name: String, tensor: Tensor| Ok(vec![(name, tensor.to_dtype(dtype)?)]);
        let of_text = |name: String, tensor: Tensor| {
            let tensor = tensor.to_dtype(dtype)?;
            if in_int8 && text::is_layer_weight(&name, &tensor) {
                return layers::int8_as_read(name, &tensor);
            }
            Ok(vec![(name, tensor)])
        };
        let of_transformer = |name: String, tensor: Tensor| {
            let tensor = adapters.merge(&name, tensor)?.to_dtype(dtype)?;
            if precision == Precision::Fp8 && Transformer::is_block_weight(&name) {
                return layers::e4m3_as_read(name, &tensor);
            }
            if in_int8 && tensor.rank() == 2 {
                return layers::int8_as_read(name, &tensor);
            }
            Ok(vec![(name, tensor)])
        };
        let to_read: Vec<Component<'_>> = components
            .iter()
            .zip(&shards)
            .map(|((_, role), shards)| match role {
                Role::TextEncoder => Component { shards, device: resting, keep: &of_text },
                Role::Transformer => Component { shards, device: &device, keep: &of_transformer },
                Role::AutoEncoder => Component { shards, device: &device, keep: &as_read },
            })
            .collect();
        // Each is built while the others are still being read.
        let mut build = |component: usize, weights: Weights| {
            let role = components[component].1;
            if role == Role::Transformer {
                adapters.check_all_merged()?;
            }
            let storage = Storage::of(role, &device, precision);
            blueprint.build(component, weights.stored(storage), &device)
        };
        directory.weights(&to_read, &mut build, progress)?;
        let Some(Parts { text, transformer, autoencoder }) = blueprint.finish() else {
            return Err(Error::NoWeights { path: directory.path(""), instead: Vec::new() });
        };
        Ok(Self {
            text,
            transformer,
            autoencoder,
            config,
            dimensions,
            listing: directory.finish(adapters.files())?.listing()?.into_bytes(),
            device,
            precision,
            memory,
        })
    }
}

impl Model {
    /// The latents of an image of so many pixels, width and height.
    pub(crate) fn grid_px(&self, sides_px: [usize; 2]) -> Grid {
        Grid::new(sides_px, self.dimensions.downscale(), self.dimensions.latent_channels)
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
        let (_, Sources { shards, .. }) = read_sources(&mut directory)?;
        directory.hash(&shards, progress)?;
        directory.finish(&[])
    }
}

/// What the weights of a directory take, by the headers of their files.
fn weight_bytes(
    directory: &Directory,
    Sources { blueprint, shards }: &Sources,
    precision: Precision,
    on_gpu: bool,
) -> Result<WeightBytes> {
    let roles = blueprint.components().iter().map(|(_, role)| *role);
    let values = roles.zip(directory.count_values(shards)?);
    Ok(WeightBytes::of_values(values, &blueprint.config().dimensions(), precision, on_gpu))
}

/// By the kind that the directory says it is of.
fn read_sources(directory: &mut Directory) -> Result<(&'static Architecture, Sources)> {
    const INDEX: &str = "model_index.json";
    let index: Option<ModelIndex> =
        if directory.has(INDEX) { Some(directory.json(INDEX)?) } else { None };
    let architecture = match &index {
        Some(index) => {
            let named = |kind: &&&Architecture| kind.pipeline == index.pipeline();
            let unknown = || Error::Unsupported {
                component: INDEX,
                field: "_class_name",
                value: index.pipeline().to_owned(),
            };
            *ARCHITECTURES.iter().find(named).ok_or_else(unknown)?
        }
        None => {
            let has_file = |kind: &&&Architecture| directory.has_weights_like(kind.single_file);
            *ARCHITECTURES.iter().find(has_file).unwrap_or(&ARCHITECTURES[0])
        }
    };
    Ok((architecture, (architecture.read)(directory, index.as_ref())?))
}
