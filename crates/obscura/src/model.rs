//! From `--model` to a loaded model.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use flux::{LargestBatch, LoadOptions, MemoryLimit, MemoryNeeds, Pins, Pipeline};
use node::LoadedModel;

use crate::{
    args::ModelArgs,
    progress,
    settings::LaunchModel,
    store::{self, Known, MANIFEST_FILE},
};

/// The demo model's name, on the command line and, behind its owner, in requests.
pub(crate) const DEMO: &str = "demo";
pub(crate) const DEMO_ID: &str = "obscura/demo";

/// Said wherever the demo model is loaded.
pub(crate) const DEMO_NOTICE: &str =
    "a FLUX in miniature: it draws shapes, their colours and places, and knows no other words";

/// Loads what `--model`, `--device`, `--dtype` and `--manifest` name, for drawing such a batch within
/// `--memory-limit`.
pub(crate) fn load(args: &ModelArgs, batch: LargestBatch) -> anyhow::Result<Pipeline> {
    let device = args.device.open()?;
    let precision = args.dtype.precision(&device)?;
    let memory_limit = args.memory_limit.map(|limit| MemoryLimit { bytes: limit.as_u64(), batch });
    if args.model == DEMO {
        ensure!(args.manifest.is_none(), "the demo model is built in, with its manifest");
        Pipeline::demo_merged(&device, precision, memory_limit, args.lora.clone())
            .context("the demo model could not be loaded")
    } else {
        let directory = directory(&args.model)?;
        let pins = pins(args, &directory)?;
        let loras = args.lora.clone();
        let options = LoadOptions { device, precision, pins, memory_limit, loras };
        let bar = progress::load();
        let mut watch = |progress| bar.show(&progress);
        let loaded = Pipeline::load_watched(&directory, options, &mut watch);
        bar.finish();
        loaded.with_context(|| format!("{} could not be loaded", directory.display()))
    }
}

/// Models of one node as they are to be loaded: of each device, all of them share its memory. Several are held
/// against it before any is loaded.
pub(crate) fn plan(
    models: &[LaunchModel],
    batch: LargestBatch,
) -> anyhow::Result<Vec<LaunchModel>> {
    let mut planned = models.to_vec();
    if let [_] = models {
        return Ok(planned);
    }
    let devices = models.first().map_or(0, |model| model.on_devices.len());
    for device in 0..devices {
        let on_device = models.iter().map(|model| &model.on_devices[device]);
        let needs = on_device.clone().map(|args| {
            needs(args, batch).with_context(|| format!("{} could not be loaded", args.model))
        });
        let needs = needs.collect::<anyhow::Result<Vec<_>>>()?;
        let limit = on_device.clone().find_map(|args| args.memory_limit);
        let shares = MemoryNeeds::share(&needs, limit.map(|limit| limit.as_u64()));
        let shares = shares.context("the models have no room beside each other")?;
        for (model, share) in planned.iter_mut().zip(shares) {
            model.on_devices[device].memory_limit = share.map(ByteSize::b);
        }
    }
    Ok(planned)
}

fn needs(args: &ModelArgs, batch: LargestBatch) -> anyhow::Result<MemoryNeeds> {
    let device = args.device.open()?;
    let precision = args.dtype.precision(&device)?;
    let loras = args.lora.clone();
    if args.model == DEMO {
        return Ok(Pipeline::demo_needs(&device, precision, loras, batch)?);
    }
    let directory = directory(&args.model)?;
    let pins = pins(args, &directory)?;
    let options = LoadOptions { device, precision, pins, memory_limit: None, loras };
    Ok(Pipeline::needs(&directory, options, batch)?)
}

/// A known model lies in the store, everything else where its name says.
fn directory(model: &str) -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(model);
    if here.is_dir() {
        return Ok(here);
    }
    let Some(known) = Known::find(model) else {
        bail!("{model} is neither a model directory nor a known model; see `obscura models list`")
    };
    let stored = store::directory(known.name)?;
    ensure!(
        stored.is_dir(),
        "{model} is not there: `obscura models download {model}`, or put its files into {}",
        stored.display()
    );
    Ok(stored)
}

/// The manifest that was asked for; or the one that lies in the directory, where one does.
fn pins(args: &ModelArgs, directory: &Path) -> anyhow::Result<Pins> {
    let own = directory.join(MANIFEST_FILE);
    match &args.manifest {
        Some(path) => Ok(Pins::Exactly(store::read_manifest(path)?)),
        // Whatever is there under this name: what cannot be read pins nothing, and must not be passed over.
        None if own.symlink_metadata().is_ok() => Ok(Pins::Exactly(store::read_manifest(&own)?)),
        None => Ok(Pins::None),
    }
}

/// The name that requests use for it.
pub(crate) fn id(args: &ModelArgs, given: Option<&str>) -> anyhow::Result<String> {
    if let Some(id) = given {
        return Ok(id.to_owned());
    }
    if args.model == DEMO {
        return Ok(DEMO_ID.to_owned());
    }
    if let Some(repository) = Known::find(&args.model)
        .map(Known::manifest)
        .transpose()?
        .and_then(|known| known.repository)
    {
        return Ok(repository);
    }
    let name = Path::new(&args.model).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).context("name the model with --model-id")
}

/// A model, loaded once for each device, under its name.
pub(crate) fn loaded_model(pipelines: Vec<Pipeline>, id: String) -> anyhow::Result<LoadedModel> {
    let first = pipelines.first().context("a model on one device at least")?;
    let digest = first.digest();
    ensure!(
        pipelines.iter().all(|pipeline| pipeline.digest() == digest),
        "the model's files changed while it was loaded for one device after the other"
    );
    Ok(LoadedModel {
        model: id,
        native_size: first.native_size(),
        manifest: first.listing().to_vec(),
        generators: pipelines.into_iter().map(|pipeline| Box::new(pipeline) as _).collect(),
    })
}
