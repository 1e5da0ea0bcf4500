//! Where to compute.

use std::str::FromStr;

use candle_core::Device;
use clap::ValueEnum;
use flux::Precision;

use crate::output;

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// A GPU where this build can use one and one is there, else the CPU.
    Auto,
    Cpu,
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Self::Cuda)
                .ok_or("must be auto, cpu or cuda:N"),
        }
    }
}

impl DeviceChoice {
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(first_gpu().unwrap_or(Device::Cpu)),
            Self::Cuda(ordinal) => gpu(ordinal),
        }
    }
}

/// What a device is called: a GPU as its driver names it, a CPU with what it multiplies bf16 and int8 with.
pub(crate) fn name(device: &Device) -> anyhow::Result<String> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return Ok(flux::gpu::device_info(device)?.name);
    }
    anyhow::ensure!(device.is_cpu(), "an unknown kind of device");
    let (bf16, int8) = (flux::cpu_level()?.description(), flux::int8_description());
    Ok(format!("CPU (bf16: {bf16}; int8: {int8})"))
}

/// The GPU of a number, as the kernels want it opened.
#[cfg(feature = "cuda")]
fn gpu(ordinal: usize) -> anyhow::Result<Device> {
    use anyhow::Context;
    flux::gpu::open(ordinal).with_context(|| format!("GPU cuda:{ordinal} cannot be used"))
}

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> anyhow::Result<Device> {
    anyhow::bail!("this build has no CUDA; build with `--features cuda,cudnn`")
}

/// Where this build can use one and one is there; why not is told.
fn first_gpu() -> Option<Device> {
    if !cfg!(feature = "cuda") {
        return None;
    }
    gpu(0)
        .inspect_err(|error| {
            let why = printable::terminal(&format!("{error:#}"));
            output::note(format_args!("note: using the CPU: {why}"));
        })
        .ok()
}

/// What the operator has it compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DTypeChoice {
    /// bf16 on a GPU, f32 on a CPU
    Auto,
    F32,
    Bf16,
    /// On a GPU bf16, and the transformer's blocks in 8 bits: faster, and not quite the same images
    Fp8,
    /// On a CPU f32, and weights in 8 bits: a quarter of the memory, faster, and not quite the same images
    Int8,
}

impl DTypeChoice {
    /// On the device that was chosen.
    pub(crate) fn precision(self, device: &Device) -> anyhow::Result<Precision> {
        Ok(match self {
            Self::Fp8 if device.is_cpu() => {
                anyhow::bail!("--dtype fp8 is for GPUs; on a CPU, int8 has weights in 8 bits")
            }
            Self::Int8 if !device.is_cpu() => {
                anyhow::bail!("--dtype int8 is for CPUs; on a GPU, fp8 has weights in 8 bits")
            }
            Self::F32 => Precision::F32,
            Self::Auto if device.is_cpu() => Precision::F32,
            Self::Auto | Self::Bf16 => Precision::Bf16,
            Self::Fp8 => Precision::Fp8,
            Self::Int8 => Precision::Int8,
        })
    }
}
