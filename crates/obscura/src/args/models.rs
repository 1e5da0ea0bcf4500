//! What can be said of models and their files.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Subcommand;
use flux::Lora;

use crate::device::{DTypeChoice, DeviceChoice};

#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Print the models that are known by name
    List,
    /// Fetch a known model's files, hold each against its digest, and pin them
    Download(DownloadArgs),
    /// Hash every file of a model directory that loading reads, and write its manifest
    Pin {
        /// The model directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Where to write [default: obscura.toml in the directory, where loading finds it]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Pin a LoRA by its file's digest and its weight too; again for several, in their order
        #[arg(long = "lora", value_name = "FILE:WEIGHT")]
        lora: Vec<Lora>,
    },
    /// Hash every file again and compare with a manifest
    Check {
        /// The model directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The manifest [default: obscura.toml in the directory]
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// A LoRA that it pins; again for several, in their order
        #[arg(long = "lora", value_name = "FILE:WEIGHT")]
        lora: Vec<Lora>,
    },
}

#[derive(clap::Args)]
pub(crate) struct DownloadArgs {
    /// A known model's name (see `obscura models list`)
    #[arg(value_name = "NAME", required_unless_present = "manifest")]
    pub(crate) name: Option<String>,
    /// Another commit, branch or tag of its repository; known digests must hold all the same
    /// [default: the commit that the manifest names]
    #[arg(long, value_name = "REV")]
    pub(crate) revision: Option<String>,
    /// Where the model is to lie [default: where loading by its name looks]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// DANGEROUS: send the token to an HF_ENDPOINT of plain http:// on another machine too, where
    /// everyone on the way can read it
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Fetch what this manifest lists, instead of a known model
    #[arg(long, value_name = "FILE", hide = true, requires = "dir", conflicts_with = "name")]
    pub(crate) manifest: Option<PathBuf>,
}

#[derive(Clone, clap::Args)]
pub(crate) struct ModelArgs {
    /// `demo`, a known model's name (see `obscura models list`), or a model directory
    #[arg(long, value_name = "NAME|DIR", default_value = "demo", env = "OBSCURA_MODEL")]
    pub(crate) model: String,
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "OBSCURA_DEVICE")]
    pub(crate) device: DeviceChoice,
    /// The type that weights are computed in
    #[arg(long, value_name = "TYPE", default_value = "auto", env = "OBSCURA_DTYPE")]
    pub(crate) dtype: DTypeChoice,
    /// Load exactly the bytes that this manifest pins [default: the directory's obscura.toml, if any]
    #[arg(long, value_name = "FILE", env = "OBSCURA_MANIFEST")]
    pub(crate) manifest: Option<PathBuf>,
    /// How much of the device's memory to take, such as 30GB: the text encoders then rest in the host's
    /// where they must, and large images are decoded in tiles [default: as much as there is]
    #[arg(long, value_name = "SIZE", env = "OBSCURA_MEMORY_LIMIT")]
    pub(crate) memory_limit: Option<ByteSize>,
    /// Merge a LoRA into the transformer, so much of it [default weight: 1]; again for several, in their order
    #[arg(long = "lora", value_name = "FILE:WEIGHT", env = "OBSCURA_LORA", value_delimiter = ',')]
    pub(crate) lora: Vec<Lora>,
}
