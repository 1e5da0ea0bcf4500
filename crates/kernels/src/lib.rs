//! The operations that FLUX's time goes to, on the CPU and on GPUs.
//!
//! [`Backend`] lists them; the functions beside it are what models call; the composed `reference` computes
//! whatever a backend has no kernel for, on any device and in any floating dtype, and is what [`doctor`]
//! compares kernels with.
//!
//! | to add | do |
//! |---|---|
//! | an operation | a method in `backend.rs`, a function in `ops.rs`, its composed form in `reference.rs`, its export below, a comparison in `doctor/cases`; then kernels in the backends (`cpu.rs`, `cpu/bf16.rs`, `cuda/backend.rs`), one by one |
//! | a backend | implement [`Backend`] in a file of its own, and name it in `backend_of` of `ops.rs` |
//!
//! Unsafe code is here and, for one ioctl, in `guest-init`: a matrix that threads share (`cpu/grid.rs`) and tiles
//! of bf16 (`cpu/bf16`) on the CPU, and everything about CUDA, which is behind the feature `cuda`; cuDNN's
//! attention and convolutions are behind `cudnn`.

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
mod ops;
#[forbid(unsafe_code)]
mod reference;

pub use {
    backend::Backend,
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GatedResidual, GroupNorm, Heads, Input,
        Int8Weight, LayerInput, LayerNorm, Linear, Mask, Modulation, PackedWeight, Precision,
        RmsNorm, Rotations, Scores, Stream, Unpacking, Weight,
    },
    ops::{
        ada_layer_norm, ada_layer_norm_for, attention, attention_beside_gated_mlp,
        attention_beside_mlp, attention_between, conv3x3, group_norm, layer_norm, linear,
        linear_gated, linear_residual_norm_for, pack_conv3x3, pack_linear, qk_norm_rope,
        quantise_int8, quantise_linear, quantise_rows, rms_norm, to_bytes, unpack, wipe,
    },
};
