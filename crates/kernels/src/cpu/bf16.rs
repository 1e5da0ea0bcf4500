//! The operations in bf16 on the CPU: stored in 16 bits, computed in f32, multiplied in tiles.
//!
//! Products, attention and convolutions are written once over [`tiles::Tiles`], which a machine has in AMX,
//! in AVX-512 BF16 or in software; `level` chooses. The rest are the f32 kernels on rows that are widened
//! as they are read. Results do not depend on the number of threads, and a row's not on the rows beside it.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[forbid(unsafe_code)]
mod attention;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod avx512;
#[forbid(unsafe_code)]
mod conv;
#[forbid(unsafe_code)]
mod level;
#[forbid(unsafe_code)]
mod linear;
#[forbid(unsafe_code)]
mod packed;
#[forbid(unsafe_code)]
mod phases;
#[forbid(unsafe_code)]
mod portable;
#[forbid(unsafe_code)]
mod product;
#[forbid(unsafe_code)]
mod tiles;

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{Cpu, line, linear::GatedBy, memory};
use crate::{
    backend::Backend,
    groups::{Group, attempt},
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GroupNorm, Heads, Input, Linear,
        PackedWeight, RmsNorm, Rotations, Scores, Stream,
    },
};

pub(super) use attention::attention;
pub(super) use level::is_multiplied_as_such;
pub use level::{Level, LevelError, level};

/// Kernels for bf16.
pub(crate) struct CpuBf16;

impl Backend for CpuBf16 {
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
        Cpu.layer_norm(x, affine, eps)
    }

    fn rms_norm(&self, x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
        Cpu.rms_norm(x, norm)
    }

    fn qk_norm_rope(&self, streams: &[Stream<'_>], angles: &Rotations) -> Result<Option<Heads>> {
        Cpu.qk_norm_rope(streams, angles)
    }

    fn attention(&self, heads: &Heads, scores: Scores<'_>) -> Result<Option<Tensor>> {
        attempt(&[Group::Attention], || attention::attention(heads, scores))
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
        Cpu.group_norm(x, norm, then)
    }

    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Option<Tensor>> {
        attempt(&[Group::Conv], || conv::conv3x3(x, conv, form))
    }

    fn pack_linear(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(Some(Arc::new(packed::VnniPanels::of_linear(weight)?)))
    }

    fn pack_conv3x3(&self, weight: &Tensor) -> Result<Option<Arc<dyn PackedWeight>>> {
        Ok(Some(Arc::new(packed::VnniPanels::of_kernel(weight)?)))
    }

    fn wipe(&self, x: &Tensor) -> Result<Option<()>> {
        Cpu.wipe(x)
    }
}

#[cfg(test)]
mod tests;
