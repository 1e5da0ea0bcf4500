//! From an image to the latents that stand for it.

use candle_core::Tensor;
use kernels::{Conv3x3, ConvForm, Epilogue, GroupNorm, Linear};

use super::{
    Sizes,
    blocks::{Middle, Residual, SILU, pointwise},
};
use crate::{Result, checkpoint::VarBuilder, layers};

/// Encodes images. Source: the behaviour of diffusers' `Encoder`.
pub(super) struct Encoder {
    conv_in: Conv3x3,
    /// From the image's resolution to the latents'.
    down: Vec<DownBlock>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
    quant: Option<Linear>,
    latent_channels: usize,
}

impl Encoder {
    pub(super) fn load(sizes: &Sizes<'_>, vb: &VarBuilder<'_>) -> Result<Self> {
        // Means and logarithms of variances.
        let moments = 2 * sizes.latent_channels;
        let quant = sizes
            .has_quant
            .then(|| layers::pointwise(&vb.pp("quant_conv"), [moments, moments]))
            .transpose()?;
        let vb = vb.pp("encoder");
        let first = sizes.encoder.first().copied().unwrap_or_default();
        let mut width = first;
        let mut down = Vec::new();
        for (i, &outputs) in sizes.encoder.iter().enumerate() {
            let vb = vb.pp("down_blocks").pp(i);
            let residuals = (0..sizes.layers)
                .map(|j| {
                    let inputs = if j == 0 { width } else { outputs };
                    Residual::load(&vb.pp("resnets").pp(j), [outputs, inputs], sizes.groups)
                })
                .collect::<Result<_>>()?;
            let halve = (i + 1 < sizes.encoder.len())
                .then(|| Halving::load(&vb.pp("downsamplers.0.conv"), outputs))
                .transpose()?;
            down.push(DownBlock { residuals, halve });
            width = outputs;
        }
        Ok(Self {
            conv_in: layers::conv3x3(&vb.pp("conv_in"), [first, sizes.image_channels])?,
            down,
            middle: Middle::load(&vb.pp("mid_block"), width, sizes.groups)?,
            norm_out: layers::group_norm(&vb.pp("conv_norm_out"), width, sizes.groups)?,
            conv_out: layers::conv3x3(&vb.pp("conv_out"), [moments, width])?,
            quant,
            latent_channels: sizes.latent_channels,
        })
    }

    /// image (8·h, 8·w, 3) in −1 to 1 → the mode of its latents (h, w, c), in the dtype of the weights.
    pub(super) fn encode(&self, image: &Tensor) -> Result<Tensor> {
        let image = image.to_dtype(self.conv_in.dtype())?;
        let mut x = kernels::conv3x3(&image, &self.conv_in, ConvForm::Plain)?;
        for block in &self.down {
            x = block.forward(&x)?;
        }
        let x = self.middle.forward(&x)?;
        let x = kernels::group_norm(&x, &self.norm_out, SILU)?;
        let moments = kernels::conv3x3(&x, &self.conv_out, ConvForm::Plain)?;
        let moments = match &self.quant {
            Some(quant) => pointwise(&moments, quant)?,
            None => moments,
        };
        // The mode of a normal distribution is its mean.
        Ok(moments.narrow(2, 0, self.latent_channels)?.contiguous()?)
    }
}

/// Residual blocks at one resolution, then the step to the next.
struct DownBlock {
    residuals: Vec<Residual>,
    halve: Option<Halving>,
}

impl DownBlock {
    /// (h, w, inputs) → (h/2, w/2, outputs); (h, w, outputs) of the last block.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for residual in &self.residuals {
            x = residual.forward(&x)?;
        }
        match &self.halve {
            Some(halve) => halve.forward(&x),
            None => Ok(x),
        }
    }
}

/// A 3×3 convolution of stride 2, with a row of zeros below and a column of zeros to the right: as one product
/// of the nine pixels that each result is made from.
struct Halving {
    /// (out, 3·3·in)
    layer: Linear,
}

impl Halving {
    /// Rows of the result that are computed at once: their nine pixels side by side take more than twice the
    /// memory of what they are taken from.
    const BAND: usize = 64;

    fn load(vb: &VarBuilder<'_>, channels: usize) -> Result<Self> {
        Ok(Self { layer: layers::conv3x3_as_product(vb, [channels, channels])? })
    }

    /// (h, w, c) → (h/2, w/2, out); h and w are even.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = x.dims3()?;
        let (rows, columns) = (height / 2, width / 2);
        // Two more of each, so that all pairs are whole: (h + 2, w + 2, c)
        let padded = x.pad_with_zeros(0, 0, 2)?.pad_with_zeros(1, 0, 2)?;
        let bands = (0..rows)
            .step_by(Self::BAND)
            .map(|first| {
                let count = Self::BAND.min(rows - first);
                // (count + 1, 2, w/2 + 1, 2, c)
                let pairs = padded.narrow(0, 2 * first, 2 * (count + 1))?.reshape((
                    count + 1,
                    2,
                    columns + 1,
                    2,
                    channels,
                ))?;
                let tap = |dy: usize, dx: usize| {
                    pairs
                        .narrow(0, dy / 2, count)?
                        .narrow(1, dy % 2, 1)?
                        .narrow(2, dx / 2, columns)?
                        .narrow(3, dx % 2, 1)?
                        .reshape((count * columns, channels))
                };
                let taps =
                    (0..9).map(|i| tap(i / 3, i % 3)).collect::<candle_core::Result<Vec<_>>>()?;
                let y = kernels::linear(&Tensor::cat(&taps, 1)?, &self.layer, Epilogue::None)?;
                Ok(y.reshape((count, columns, self.layer.outputs()))?)
            })
            .collect::<Result<Vec<_>>>()?;
        match &bands[..] {
            [alone] => Ok(alone.clone()),
            bands => Ok(Tensor::cat(bands, 0)?),
        }
    }
}
