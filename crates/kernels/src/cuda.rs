//! The operations on GPUs: CUDA kernels, cuDNN and cublasLt behind safe functions on candle tensors.
//!
//! Every function checks dtypes, shapes and strides, computes on its tensors' own stream and returns
//! new tensors. What it cannot do for a shape it says with [`Error::Unsupported`]: callers have a
//! composed reference for that. Nothing here waits for the device but the first call of each shape,
//! which measures what the libraries offer for it (cublasLt's algorithms, cuDNN's engines) and pins
//! the fastest; two processes may pin different ones, and then differ in the last bits.
//!
//! A row is a token or a pixel; (rows, d) tensors may be views with a row stride of their own where
//! it is said so.

mod attention_in_memory;
mod backend;
mod context;
#[cfg(feature = "cudnn")]
mod cudnn;
mod error;
mod group_norm;
mod heads;
mod image;
mod linear;
mod norm;
mod pointwise;
mod quantise;
mod tensor;
mod timing;
mod wipe;

pub(crate) use {backend::Cuda, tensor::Poison};
pub use {
    context::{DeviceInfo, MemoryUse, device_info, memory_use, open},
    error::Error,
    timing::{Mark, mark},
};

type Result<T, E = Error> = std::result::Result<T, E>;
