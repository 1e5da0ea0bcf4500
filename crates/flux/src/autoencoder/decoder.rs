//! From latents to an image, several times their size.

use candle_core::{DType, Tensor};
use kernels::{Conv3x3, ConvForm, GroupNorm, Linear};

use super::{
    Sizes,
    blocks::{Middle, Residual, SILU, pointwise},
};
use crate::{Result, checkpoint::VarBuilder, layers};

/// Decodes latents. Source: the behaviour of diffusers' `Decoder`.
pub(super) struct Decoder {
    post_quant: Option<Linear>,
    conv_in: Conv3x3,
    middle: Middle,
    /// From the latents' resolution to the image's.
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
}

impl Decoder {
    pub(super) fn load(sizes: &Sizes<'_>, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = sizes.latent_channels;
        let post_quant = sizes
            .has_post_quant
            .then(|| layers::pointwise(&vb.pp("post_quant_conv"), [channels, channels]))
            .transpose()?;
        let vb = vb.pp("decoder");
        let deepest = sizes.decoder.last().copied().unwrap_or_default();
        let mut width = deepest;
        let mut up = Vec::new();
        for (i, &outputs) in sizes.decoder.iter().rev().enumerate() {
            let vb = vb.pp("up_blocks").pp(i);
            let is_last = i + 1 == sizes.decoder.len();
            up.push(UpBlock::load(sizes, &vb, UpShape { inputs: width, outputs, is_last })?);
            width = outputs;
        }
        Ok(Self {
            post_quant,
            conv_in: layers::conv3x3(&vb.pp("conv_in"), [deepest, channels])?,
            middle: Middle::load(&vb.pp("mid_block"), deepest, sizes.groups)?,
            up,
            norm_out: layers::group_norm(&vb.pp("conv_norm_out"), width, sizes.groups)?,
            conv_out: layers::conv3x3(&vb.pp("conv_out"), [sizes.image_channels, width])?,
        })
    }

    /// What it computes in.
    pub(super) fn dtype(&self) -> DType {
        self.conv_in.dtype()
    }

    /// (h, w, c) → (8·h, 8·w, 3)
    pub(super) fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = match &self.post_quant {
            Some(post_quant) => pointwise(latents, post_quant)?,
            None => latents.clone(),
        };
        x = kernels::conv3x3(&x, &self.conv_in, ConvForm::Plain)?;
        x = self.middle.forward(&x)?;
        for block in &self.up {
            x = block.forward(&x)?;
        }
        let x = kernels::group_norm(&x, &self.norm_out, SILU)?;
        Ok(kernels::conv3x3(&x, &self.conv_out, ConvForm::Plain)?)
    }
}

struct UpShape {
    inputs: usize,
    outputs: usize,
    /// The last block stays at its resolution.
    is_last: bool,
}

/// Residual blocks at one resolution, then the step to the next.
struct UpBlock {
    residuals: Vec<Residual>,
    upsample: Option<Conv3x3>,
}

impl UpBlock {
    fn load(sizes: &Sizes<'_>, vb: &VarBuilder<'_>, shape: UpShape) -> Result<Self> {
        let UpShape { inputs, outputs, is_last } = shape;
        let residuals = (0..=sizes.layers)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                let vb = vb.pp("resnets").pp(i);
                Residual::load(&vb, [outputs, inputs], sizes.groups)
            })
            .collect::<Result<_>>()?;
        let upsample = (!is_last)
            .then(|| layers::conv3x3(&vb.pp("upsamplers.0.conv"), [outputs, outputs]))
            .transpose()?;
        Ok(Self { residuals, upsample })
    }

    /// (h, w, inputs) → (2h, 2w, outputs); (h, w, outputs) of the last block.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for residual in &self.residuals {
            x = residual.forward(&x)?;
        }
        match &self.upsample {
            Some(conv) => Ok(kernels::conv3x3(&x, conv, ConvForm::Upsampled)?),
            None => Ok(x),
        }
    }
}
