//! The operations as kernels on a GPU: bf16 for speed, f32 where there is a kernel for it.

use candle_core::{Result, Tensor};

use super::{
    attention_in_memory, group_norm, heads, image, linear as product, norm, pointwise, quantise,
    wipe,
};
use crate::{
    backend::Backend,
    groups::{self, Group},
    operand::{
        Activation, Affine, Epilogue, GatedResidual, GroupNorm, Heads, Input, LayerInput, Linear,
        RmsNorm, Rotations, Scores, Stream, Unpacking,
    },
    reference,
};
#[cfg(feature = "cudnn")]
use {
    super::cudnn,
    crate::operand::{Conv3x3, ConvForm, Mask},
};

/// Kernels for GPUs.
pub(crate) struct Cuda;

impl Backend for Cuda {
    fn linear(&self, x: Input<'_>, layer: &Linear, then: Epilogue<'_>) -> Result<Option<Tensor>> {
        run(Group::Linear, || product::linear(x, layer, then))
    }

    fn linear_gated(
        &self,
        x: Input<'_>,
        layer: &Linear,
        gate: Activation,
    ) -> Result<Option<Tensor>> {
        let Some(both) = self.linear(x, layer, Epilogue::None)? else { return Ok(None) };
        match gate {
            Activation::GeluTanh => run(Group::Linear, || pointwise::gated_gelu(&both)),
            // The product is most of the work; there is no kernel for the rest yet.
            _ => reference::gated(&both, gate).map(Some),
        }
    }

    fn layer_norm(&self, x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Option<Tensor>> {
        run(Group::Norm, || norm::layer_norm(x, affine, eps))
    }

    fn layer_norm_e4m3(
        &self,
        x: &Tensor,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<LayerInput>> {
        run(Group::Norm, || norm::layer_norm_e4m3(x, affine, eps))
    }

    fn residual_norm(
        &self,
        branch: &Tensor,
        onto: GatedResidual<'_>,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<(Tensor, Tensor)>> {
        run(Group::Norm, || norm::residual_norm(branch, onto, affine, eps))
    }

    fn residual_norm_e4m3(
        &self,
        branch: &Tensor,
        onto: GatedResidual<'_>,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<(Tensor, LayerInput)>> {
        run(Group::Norm, || norm::residual_norm_e4m3(branch, onto, affine, eps))
    }

    fn has_residual_norm(&self) -> Result<bool> {
        groups::is_on(Group::Norm)
    }

    fn rms_norm(&self, x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
        run(Group::Norm, || norm::rms_norm(x, norm))
    }

    fn qk_norm_rope(&self, streams: &[Stream<'_>], angles: &Rotations) -> Result<Option<Heads>> {
        run(Group::Heads, || heads::qk_norm_rope(streams, angles))
    }

    /// Scores that are never in memory are cuDNN's, in bf16. With the scores in memory: for the text
    /// encoders, whose sequences are short, as cuDNN's fused attention takes no bias before its version
    /// 9.21; and for heads that no fast kernel is wide enough for, the autoencoder's single one of 512.
    fn attention(&self, heads: &Heads, scores: Scores<'_>) -> Result<Option<Tensor>> {
        #[cfg(feature = "cudnn")]
        if matches!(scores.mask, Mask::None) && cudnn::is_fusable(heads) {
            let attended = run(Group::Attention, || cudnn::attention(heads, scores.scale))?;
            if attended.is_some() {
                return Ok(attended);
            }
        }
        run(Group::Softmax, || attention_in_memory::attention_in_memory(heads, scores))
    }

    fn attention_beside_mlp(
        &self,
        heads: &Heads,
        x: Input<'_>,
        mlp: &Linear,
    ) -> Result<Option<Tensor>> {
        #[cfg(feature = "cudnn")]
        if cudnn::is_fusable(heads) && groups::is_on(Group::Linear)? {
            let beside = run(Group::Attention, || {
                groups::run(Group::Linear);
                cudnn::attention_beside_mlp(heads, x, mlp)
            })?;
            if beside.is_some() {
                return Ok(beside);
            }
        }
        let attended = self.attention(heads, Scores::scaled(heads.q.dim(2)?))?;
        let hidden = self.linear(x, mlp, Epilogue::Activate(Activation::GeluTanh))?;
        let (Some(attended), Some(hidden)) = (attended, hidden) else { return Ok(None) };
        Ok(Some(Tensor::cat(&[attended, hidden], 1)?))
    }

    fn group_norm(
        &self,
        x: &Tensor,
        norm: &GroupNorm,
        then: Option<Activation>,
    ) -> Result<Option<Tensor>> {
        run(Group::GroupNorm, || group_norm::group_norm(x, norm, then))
    }

    #[cfg(feature = "cudnn")]
    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Option<Tensor>> {
        run(Group::Conv, || match form {
            ConvForm::Plain => cudnn::conv3x3(x, conv),
            ConvForm::Add(residual) => cudnn::conv3x3_add(x, conv, residual),
            ConvForm::Upsampled => cudnn::conv3x3(&image::upsample_nearest(x)?, conv),
        })
    }

    fn unpack(&self, tokens: &Tensor, how: Unpacking) -> Result<Option<Tensor>> {
        run(Group::Image, || image::unpack(tokens, how))
    }

    fn to_bytes(&self, image: &Tensor) -> Result<Option<Tensor>> {
        run(Group::Image, || image::to_bytes(image))
    }

    /// Never turned off: without it there are no weights in 8 bits.
    fn quantise_rows(&self, x: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        groups::run(Group::Linear);
        Ok(Some(quantise::quantise_rows(x)?))
    }

    fn dequantise_rows(&self, values: &Tensor, scales: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(quantise::dequantise_rows(values, scales)?))
    }

    fn wipe(&self, x: &Tensor) -> Result<Option<()>> {
        wipe::wipe(x).map(Some)
    }
}

/// A kernel's result, or `None` where it is turned off or there is none for such tensors. Another error
/// names the group; a kernel that was given to the device before may have left it behind.
fn run<T>(group: Group, kernel: impl FnOnce() -> super::Result<T>) -> Result<Option<T>> {
    if !groups::is_on(group)? {
        return Ok(None);
    }
    groups::run(group);
    match kernel() {
        Ok(result) => Ok(Some(result)),
        Err(error) if error.is_unsupported() => {
            groups::refuse(group, &error.to_string());
            Ok(None)
        }
        Err(error) => {
            let context = format!(
                "a kernel of the group {group}, or one before it; CUDA_LAUNCH_BLOCKING=1 tells which"
            );
            Err(candle_core::Error::from(error).context(context))
        }
    }
}
