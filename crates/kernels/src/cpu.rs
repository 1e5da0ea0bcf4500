//! The operations in f32 on the CPU, fused: one pass where the composed form has many.
//!
//! Everything runs on slices, split over rayon's threads, and is compiled for the widest vectors the machine
//! has by `simd::vectorised!`. Results do not depend on the number of threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod amx;
#[forbid(unsafe_code)]
mod attention;
#[allow(unsafe_code)]
mod bf16;
#[forbid(unsafe_code)]
mod conv;
#[forbid(unsafe_code)]
mod convert;
#[forbid(unsafe_code)]
mod element;
#[allow(unsafe_code)]
mod grid;
#[allow(unsafe_code)]
pub(crate) mod int8;
#[allow(unsafe_code)]
mod line;
#[forbid(unsafe_code)]
mod linear;
#[forbid(unsafe_code)]
mod mask;
mod matrix;
#[allow(unsafe_code)]
mod memory;
#[forbid(unsafe_code)]
mod norm;
#[forbid(unsafe_code)]
mod panels;
#[forbid(unsafe_code)]
mod product;
#[forbid(unsafe_code)]
mod registers;
#[forbid(unsafe_code)]
mod rope;
#[forbid(unsafe_code)]
mod simd;
#[forbid(unsafe_code)]
mod winograd;

use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::{
    backend::Backend,
    groups::{Group, attempt},
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GroupNorm, Heads, Input, Linear,
        PackedWeight, RmsNorm, Rotations, Scores, Stream,
    },
};

use linear::GatedBy;

pub(crate) use bf16::CpuBf16;
pub use bf16::{Level, LevelError, level};
pub use int8::{int8_description, int8_row_bits};

/// Kernels for f32.
pub(crate) struct Cpu;

impl Backend for Cpu {
    fn linear(&self, x: Input<'_>, layer: &Linear, then: Epilogue<'_>) -> Result<Option<Tensor>> {
        attempt(&[Group::Linear], || linear::linear(x.values, layer, then))
    }

    fn linear_gated(
        &self,
        x: Input<'_>,
        layer: &Linear,
        gate: Activation,
    ) -> Result<Option<Tensor>> {
        let Some(gate) = GatedBy::of(gate) else { return Ok(None) };
        attempt(&[Group::Linear], || linear::linear_gated(x.values, layer, gate))
    }

    fn layer_norm(&self, x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Option<Tensor>> {
        attempt(&[Group::Norm], || norm::layer_norm(x, affine, eps))
    }

    fn rms_norm(&self, x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
        attempt(&[Group::Norm], || norm::rms_norm(x, norm))
    }

    fn qk_norm_rope(&self, streams: &[Stream<'_>], angles: &Rotations) -> Result<Option<Heads>> {
        attempt(&[Group::Heads], || rope::qk_norm_rope(streams, angles))
    }

    fn attention(&self, heads: &Heads, scores: Scores<'_>) -> Result<Option<Tensor>> {
        attempt(&[Group::Attention], || attention::attention(heads, scores))
    }

    fn attention_between(
        &self,
        heads: &Heads,
        scores: Scores<'_>,
        layer: &Linear,
    ) -> Result<Option<Tensor>> {
        attempt(&[Group::Attention], || attention::attention_between(heads, scores, layer))
    }

    fn attention_beside_mlp(
        &self,
        heads: &Heads,
        x: Input<'_>,
        mlp: &Linear,
    ) -> Result<Option<Tensor>> {
        attempt(&[Group::Attention, Group::Linear], || {
            attention::attention_beside_mlp(heads, x.values, mlp)
        })
    }

    fn group_norm(
        &self,
        x: &Tensor,
        norm: &GroupNorm,
        then: Option<Activation>,
    ) -> Result<Option<Tensor>> {
        match then {
            None | Some(Activation::Silu) => {
                attempt(&[Group::GroupNorm], || norm::group_norm(x, norm, then.is_some()))
            }
            Some(_) => Ok(None),
        }
    }

    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Option<Tensor>> {
        attempt(&[Group::Conv], || conv::conv3x3(x, conv, form))
    }

    fn pack_linear(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(Some(Arc::new(panels::Panels::of(weight)?)))
    }

    fn pack_conv3x3(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(Some(Arc::new(conv::WinogradKernel::of(weight)?)))
    }

    fn wipe(&self, x: &Tensor) -> Result<Option<()>> {
        matrix::wipe(x).map(Some)
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
