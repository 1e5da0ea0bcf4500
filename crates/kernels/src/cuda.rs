//! CUDA kernels and the cuDNN and cublasLt calls behind safe functions on candle tensors.
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
mod context;
#[cfg(feature = "cudnn")]
mod cudnn;
mod error;
mod group_norm;
mod heads;
mod linear;
mod norm;
mod operand;
mod picture;
mod pointwise;
mod quantise;
mod timing;
mod wipe;

pub use {
    attention_in_memory::{Bias, Heads, attention_in_memory},
    context::{Card, MemoryUse, card, memory_use, open},
    error::Error,
    group_norm::{GroupNorm, group_norm},
    heads::{Rotations, Stream, join_heads},
    linear::{Activation, Input, Linear, Then, linear},
    norm::{Affine, layer_norm, layer_norm_e4m3, rms_norm},
    operand::Poison,
    picture::{Unpacking, doubled, to_bytes, unpack},
    pointwise::gated_gelu,
    quantise::{dequantise_rows, quantise_rows},
    timing::{Mark, mark},
    wipe::wipe,
};

#[cfg(feature = "cudnn")]
pub use cudnn::{Conv3x3, attention, attention_beside_mlp, conv3x3, conv3x3_onto};

type Result<T, E = Error> = std::result::Result<T, E>;
