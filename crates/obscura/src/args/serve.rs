//! What `obscura serve`, `demo` and `config` can be told.

use std::{net::SocketAddr, path::PathBuf};

use clap::{
    Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
};

use super::SeedChoice;

#[derive(clap::Args)]
pub(crate) struct DemoArgs {
    /// What to draw
    #[arg(default_value = "a small yellow star above a red house on a green field")]
    pub(crate) prompt: String,
    /// Stop after the image
    #[arg(long)]
    pub(crate) once: bool,
    /// Where to listen; another free port is taken where this one is in use
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = node::parse_listen)]
    pub(crate) listen: SocketAddr,
    /// Where to write the image: PNG, JPEG or WebP by the ending
    /// [default: obscura-demo.png, or the next free number]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file where it is there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Seed of the image; drawn where absent, or -1
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) seed: Option<SeedChoice>,
}

/// Each of these has an environment variable, `OBSCURA_` and its name, and a key in the TOML file;
/// the file and `--set` know more keys than there are flags. See `obscura config print`.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// A TOML file of settings
    #[arg(
        long,
        value_name = "FILE",
        env = "OBSCURA_CONFIG",
        // An empty variable is as if there were none; clap's own parser of paths would refuse it.
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) config: Option<PathBuf>,
    /// `demo`, a known model's name (see `obscura models list`), or a model directory; again for several, of which
    /// the first is drawn with where a request names none [default: demo]
    #[arg(long, value_name = "NAME|DIR")]
    pub(crate) model: Vec<String>,
    /// Merge a LoRA into the model's transformer, so much of it [default weight: 1]; again for several, in their
    /// order. Of several models, each has its own in the file's `[[model]]`
    #[arg(long, value_name = "FILE:WEIGHT")]
    pub(crate) lora: Vec<String>,
    /// The name that requests use for the model [default: obscura/demo, or the directory's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) model_id: Option<String>,
    /// auto, cpu, cuda:N; several, with commas between, are an engine each [default: auto]
    #[arg(long, value_name = "DEVICES")]
    pub(crate) device: Option<String>,
    /// The type that weights are computed in: auto, f32, bf16, fp8, int8 [default: auto]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Load exactly the bytes that this manifest pins [default: the directory's obscura.toml, if any]
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<String>,
    /// How much of each device's memory to take, such as 30GB: the text encoders then rest in the host's
    /// where they must, and large images are decoded in tiles [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<String>,
    /// Where evidence comes from: auto, tdx, snp, simulated [default: auto]
    #[arg(long, value_name = "TEE")]
    pub(crate) tee: Option<String>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Serve OpenAI's route in clear text too
    #[arg(long)]
    pub(crate) allow_plaintext: bool,
    /// Requests that may wait while every engine has one [default: 32]
    #[arg(long, value_name = "N")]
    pub(crate) queue_capacity: Option<String>,
    /// The form of the log: text, json [default: text]
    #[arg(long, value_name = "FORM")]
    pub(crate) log_format: Option<String>,
    /// Any other setting, by its key in the file; a list has commas between
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting of `obscura serve`, and whether it comes from a flag, the environment, the
    /// file, or is the default
    Print(ServeArgs),
    /// Print what of them can change who reads a prompt, as evidence tells it; its SHA-256 goes into a
    /// policy's `configuration.digests`
    Evidence(ServeArgs),
}
