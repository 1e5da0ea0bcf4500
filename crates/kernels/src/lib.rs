//! The only unsafe code: kernels, our own and other libraries', behind functions that check what they
//! are given.
//!
//! CUDA's part is behind the feature `cuda`, and cuDNN's, attention and convolutions, behind `cudnn`;
//! without them nothing here needs a toolkit.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
