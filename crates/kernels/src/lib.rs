//! Fast arithmetic behind safe functions: the one crate with `unsafe`.
//!
//! CUDA's part is behind the feature `cuda`, and cuDNN's, attention and convolutions, behind `cudnn`;
//! without them nothing here needs a toolkit.

#[cfg(feature = "cuda")]
pub mod cuda;
