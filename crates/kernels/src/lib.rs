//! The operations that FLUX's time goes to, on the CPU and on GPUs.
//!
//! [`Backend`] lists them; the functions beside it are what models call; the composed `reference` computes
//! whatever a backend has no kernel for, on any device and in any floating dtype, and is what [`doctor`]
//! compares kernels with. To add an operation, add a method and a function to `backend.rs` and its form in
//! `reference.rs`; backends follow one by one. To add a backend, implement [`Backend`] in a file of its own,
//! and name it in `backend.rs`.
//!
//! This is the only crate with unsafe code: matrix products on the CPU (`cpu/gemm.rs`), and everything about
//! CUDA, which is behind the feature `cuda`; cuDNN's attention and convolutions are behind `cudnn`.

#[forbid(unsafe_code)]
mod backend;
pub mod cpu;
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
pub mod cuda;
#[forbid(unsafe_code)]
pub mod doctor;
#[forbid(unsafe_code)]
pub mod groups;
#[forbid(unsafe_code)]
mod operand;
#[forbid(unsafe_code)]
mod reference;

pub use {
    backend::{
        Backend, ada_layer_norm, ada_layer_norm_for, attention, attention_beside_mlp, conv3x3,
        group_norm, layer_norm, linear, linear_gated_gelu, linear_residual_norm_for, qk_norm_rope,
        quantise_rows, rms_norm, to_bytes, unpack, wipe,
    },
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GatedResidual, GroupNorm, Heads, Input,
        LayerInput, LayerNorm, Linear, Mask, Modulation, Precision, RmsNorm, Rotations, Scores,
        Stream, Unpacking, Weight,
    },
};
