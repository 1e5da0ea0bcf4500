//! What `obscura doctor` and `obscura bench` can be told.

use bytesize::ByteSize;
use clap::ValueEnum;
use flux::bench::Blocks;
use protocol::Size;

use super::generate::size;
use crate::device::{DTypeChoice, DeviceChoice};

#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// A GPU and nothing else: the first one, or the one of this number
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "0", conflicts_with = "device")]
    pub(crate) gpu: Option<usize>,
    /// The short form that every start of a node on a GPU runs, instead of all shapes
    #[arg(long)]
    pub(crate) short: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// auto, cpu, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Which model's shapes
    #[arg(long, value_name = "MODEL", default_value = "schnell")]
    pub(crate) preset: PresetChoice,
    /// How many double and single blocks of its transformer, such as 1,2 [default: all]
    #[arg(long, value_name = "N,N", value_parser = blocks)]
    pub(crate) blocks: Option<Blocks>,
    /// What it computes in; auto is bf16 on a GPU, f32 on a CPU
    #[arg(long, value_name = "TYPE", default_value = "auto")]
    pub(crate) dtype: DTypeChoice,
    /// Of the images
    #[arg(long, value_name = "WxH", default_value = "1024x1024", value_parser = size)]
    pub(crate) size: Size,
    /// Of the sampler
    #[arg(long, default_value_t = 4)]
    pub(crate) steps: i64,
    /// How many images are drawn together
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) batch: i64,
    /// How much of the device's memory to take, such as 30GB [default: as much as there is]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<ByteSize>,
    /// Batches that are not counted: the first one finds the fastest algorithms
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) warmups: usize,
    /// Batches that are
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) runs: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PresetChoice {
    /// FLUX.1-schnell: 34 GB in bf16
    Schnell,
    /// FLUX.2-klein-4B: 15 GB in bf16
    Klein,
    /// The demo model: for CPUs
    Small,
}

impl From<PresetChoice> for flux::bench::Preset {
    fn from(choice: PresetChoice) -> Self {
        match choice {
            PresetChoice::Schnell => Self::Schnell,
            PresetChoice::Klein => Self::Klein,
            PresetChoice::Small => Self::Small,
        }
    }
}

/// `1,2`: double blocks, single blocks.
fn blocks(text: &str) -> Result<Blocks, String> {
    let parsed = text.split_once(',').and_then(|(double, single)| {
        Some(Blocks { double: double.trim().parse().ok()?, single: single.trim().parse().ok()? })
    });
    parsed.ok_or_else(|| "two numbers, such as 1,2: double blocks, then single blocks".to_owned())
}
