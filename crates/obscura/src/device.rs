//! Where to compute.

use std::str::FromStr;

use anyhow::{Context, bail};
use candle_core::{DType, Device};

use crate::args::DTypeChoice;

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
            Self::Auto => Device::cuda_if_available(0).context("the GPU cannot be used"),
            Self::Cuda(_) if !candle_core::utils::cuda_is_available() => {
                bail!("this build has no CUDA; build with `--features cuda,cudnn`")
            }
            Self::Cuda(ordinal) => {
                Device::new_cuda(ordinal).with_context(|| format!("no GPU cuda:{ordinal}"))
            }
        }
    }
}

impl DTypeChoice {
    pub(crate) fn on(self, device: &Device) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::Auto if device.is_cpu() => DType::F32,
            Self::Auto => DType::BF16,
        }
    }
}
