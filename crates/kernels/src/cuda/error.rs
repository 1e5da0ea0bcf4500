//! Why a kernel did not run.

use candle_core::{
    DType,
    cuda_backend::cudarc::{cublas, cublaslt, driver::DriverError},
};
use thiserror::Error;

/// Why a kernel did not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no kernel for such tensors; the composed reference computes them.
    #[error("{kernel}: no kernel for {what}")]
    Unsupported {
        /// Which one.
        kernel: &'static str,
        /// What of its tensors it cannot work with.
        what: &'static str,
    },
    /// A library has nothing that runs such tensors; the composed reference computes them.
    #[error("{kernel}: nothing runs it: {reason}")]
    NoPlan {
        /// Which one.
        kernel: &'static str,
        /// What became of each thing that the library offered, in its own words.
        reason: Box<str>,
    },
    /// The device answers nothing any more: a kernel left an error behind that stays.
    #[error("{kernel}, candidate {candidate}, left the device unusable: {reason}")]
    Lost {
        /// Which one.
        kernel: &'static str,
        /// Of the things that a library offered for it, the number of the one that ran last.
        candidate: usize,
        /// The driver's or the library's own words.
        reason: Box<str>,
    },
    /// Tensors that do not belong together: a mistake of the caller.
    #[error("{kernel}: {tensor} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Which one.
        kernel: &'static str,
        /// Which of its tensors.
        tensor: &'static str,
        /// What the other tensors ask for.
        expected: Vec<usize>,
        /// What it has.
        found: Vec<usize>,
    },
    /// A tensor of another dtype than its companions: a mistake of the caller.
    #[error("{kernel}: {tensor} has dtype {found:?}, expected {expected:?}")]
    Dtype {
        /// Which one.
        kernel: &'static str,
        /// Which of its tensors.
        tensor: &'static str,
        /// What the other tensors ask for.
        expected: DType,
        /// What it has.
        found: DType,
    },
    /// A tensor that is not on a CUDA device.
    #[error("{kernel}: a tensor is not on a CUDA device")]
    NotOnDevice {
        /// Which one.
        kernel: &'static str,
    },
    /// The driver refused a call.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// cublasLt refused a call.
    #[error(transparent)]
    CublasLt(#[from] cublaslt::result::CublasError),
    /// cuBLAS refused a call.
    #[error(transparent)]
    Cublas(#[from] cublas::result::CublasError),
    /// cuDNN refused a call.
    #[cfg(feature = "cudnn")]
    #[error("cuDNN, {call}: {status:?}: {message}")]
    Cudnn {
        /// What was asked of it.
        call: &'static str,
        /// Its answer.
        status: candle_core::cuda_backend::cudarc::cudnn::sys::cudnnStatus_t,
        /// Its explanation.
        message: Box<str>,
    },
    /// candle refused an allocation or a view.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether the composed reference should compute instead.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::NoPlan { .. })
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Tensor(error) => error,
            error => Self::wrap(error),
        }
    }
}
