//! From `--model` to a loaded model.

use std::path::Path;

use anyhow::Context;
use flux::{LoadOptions, Pins, Pipeline};
use node::Offering;

use crate::args::ModelArgs;

/// The demo model's name, on the command line and, behind its owner, in requests.
pub(crate) const DEMO: &str = "demo";
pub(crate) const DEMO_ID: &str = "obscura/demo";

/// Said wherever the demo model is loaded.
pub(crate) const DEMO_NOTICE: &str =
    "the demo model's weights are random: its pictures are patterns, whatever the prompt says";

/// Loads what `--model`, `--device` and `--dtype` name.
pub(crate) fn load(args: &ModelArgs) -> anyhow::Result<Pipeline> {
    let device = args.device.open()?;
    let dtype = args.dtype.on(&device);
    if args.model == DEMO {
        return Pipeline::demo(&device).context("the demo model could not be made");
    }
    let options = LoadOptions { device, dtype, pins: Pins::None };
    Pipeline::load(Path::new(&args.model), options)
        .with_context(|| format!("{} could not be loaded", args.model))
}

/// The name that requests use for it.
pub(crate) fn id(args: &ModelArgs, given: Option<&str>) -> anyhow::Result<String> {
    if let Some(id) = given {
        return Ok(id.to_owned());
    }
    if args.model == DEMO {
        return Ok(DEMO_ID.to_owned());
    }
    let name = Path::new(&args.model).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).context("name the model with --model-id")
}

/// A loaded model under its name.
pub(crate) fn offering(pipeline: Pipeline, id: String) -> Offering {
    Offering {
        model: id,
        native_size: pipeline.native_size(),
        manifest: pipeline.listing().to_vec(),
        painter: Box::new(pipeline),
    }
}
