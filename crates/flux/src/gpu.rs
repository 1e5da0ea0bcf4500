//! What only builds for GPUs have: opening one, comparing its kernels with their references, measuring
//! it.

pub mod bench;
mod cases;
pub mod doctor;
mod synthetic;

use candle_core::Device;

use crate::Error;

pub use kernels::{Card, MemoryUse};

/// Opens a GPU as the kernels want it: all work in one stream, freed memory kept for the next use.
///
/// # Errors
/// Where there is none of this number, or its driver is too old for this build.
pub fn open(ordinal: usize) -> Result<Device, Error> {
    Ok(kernels::open(ordinal)?)
}

/// What the GPU behind a device is.
///
/// # Errors
/// Where the device is no GPU, or its driver does not answer.
pub fn card(device: &Device) -> Result<Card, Error> {
    Ok(kernels::card(device)?)
}

impl From<kernels::Error> for Error {
    fn from(error: kernels::Error) -> Self {
        Self::Tensor(error.into())
    }
}
