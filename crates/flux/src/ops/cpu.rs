//! The operations in f32 on the CPU, fused: one pass where the composed form has many.
//!
//! Matrix products are [`kernels::cpu`]'s; everything around them runs on slices, split over rayon's
//! threads, and compiled for the widest vectors the machine has by `simd::vectorised!`. Results do not
//! depend on the number of threads.

mod attention;
mod conv;
mod linear;
mod matrix;
mod norm;
mod panels;
mod rope;
mod simd;
mod winograd;

pub(crate) use attention::{attention, attention_beside_mlp};
pub(crate) use conv::{conv3x3, conv3x3_onto, upsample_conv3x3};
pub(crate) use linear::{linear, linear_activated, linear_gated, linear_gated_gelu, linear_onto};
pub(crate) use matrix::wipe;
pub(crate) use norm::{group_norm, group_norm_silu, layer_norm, layer_norm_shift, rms_norm};
pub(crate) use rope::join_heads;
