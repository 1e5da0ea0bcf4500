//! GPUs: opening one, and its name, memory and driver. In builds with the feature `cuda` alone.

use candle_core::Device;

use crate::Error;

pub use kernels::cuda::{DeviceInfo, MemoryUse};

/// Opens a GPU as the kernels want it: all work in one stream, freed memory kept for the next use.
///
/// # Errors
/// Where there is none of this number, or its driver is too old for this build.
pub fn open(ordinal: usize) -> Result<Device, Error> {
    Ok(kernels::cuda::open(ordinal)?)
}

/// What the GPU behind a device is.
///
/// # Errors
/// Where the device is no GPU, or its driver does not answer.
pub fn device_info(device: &Device) -> Result<DeviceInfo, Error> {
    Ok(kernels::cuda::device_info(device)?)
}

impl From<kernels::cuda::Error> for Error {
    fn from(error: kernels::cuda::Error) -> Self {
        Self::Tensor(error.into())
    }
}
