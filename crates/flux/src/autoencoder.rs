//! The decoder of FLUX.1's autoencoder: 16-channel latents → an image eight times their size.
//!
//! Activations are channels last, (h, w, c). Source: the behaviour of diffusers' `AutoencoderKL`.

pub(crate) mod tiles;

use candle_core::Tensor;
use kernels::{
    Activation, Conv3x3, ConvForm, Epilogue, GroupNorm, Heads, Linear, Scores, Unpacking,
};

use crate::{Result, checkpoint::VarBuilder, config::AutoEncoderConfig, latents::Grid, layers};

/// Behind every normalisation but the attention's.
const SILU: Option<Activation> = Some(Activation::Silu);

/// Decodes latents.
pub(crate) struct AutoEncoder {
    scaling_factor: f64,
    shift_factor: f64,
    /// How many times smaller than the image the latents are, each way.
    downscale: usize,
    post_quant: Option<Linear>,
    conv_in: Conv3x3,
    middle: Middle,
    /// From the latents' resolution to the image's.
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
}

impl AutoEncoder {
    pub(crate) fn load(config: &AutoEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let channels = config.latent_channels;
        let post_quant = config
            .use_post_quant_conv
            .then(|| layers::pointwise(&vb.pp("post_quant_conv"), [channels, channels]))
            .transpose()?;
        let vb = vb.pp("decoder");
        let deepest = config.block_out_channels.last().copied().unwrap_or_default();
        let mut width = deepest;
        let mut up = Vec::new();
        for (i, &outputs) in config.block_out_channels.iter().rev().enumerate() {
            let vb = vb.pp("up_blocks").pp(i);
            let is_last = i + 1 == config.block_out_channels.len();
            up.push(UpBlock::load(config, &vb, UpShape { inputs: width, outputs, is_last })?);
            width = outputs;
        }
        Ok(Self {
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            downscale: config.downscale(),
            post_quant,
            conv_in: layers::conv3x3(&vb.pp("conv_in"), [deepest, channels])?,
            middle: Middle::load(config, &vb.pp("mid_block"), deepest)?,
            up,
            norm_out: layers::group_norm(&vb.pp("conv_norm_out"), width, config.norm_num_groups)?,
            conv_out: layers::conv3x3(&vb.pp("conv_out"), [config.out_channels, width])?,
        })
    }

    /// latents (tokens, 4·c), f32 → image (h, w, 3), about −1 to 1, in the dtype of the weights; in f32
    /// where it was decoded in tiles.
    pub(crate) fn decode(&self, latents: &Tensor, grid: Grid, in_tiles: bool) -> Result<Tensor> {
        let how = Unpacking {
            grid: [grid.rows, grid.columns],
            channels: grid.channels,
            scaling: self.scaling_factor,
            shift: self.shift_factor,
            dtype: self.conv_in.dtype(),
        };
        let pixels = kernels::unpack(latents, how)?;
        if in_tiles {
            return tiles::decode(&pixels, self.downscale, |tile| self.decode_pixels(tile));
        }
        self.decode_pixels(&pixels)
    }

    /// (h, w, c) → (8·h, 8·w, 3)
    fn decode_pixels(&self, latents: &Tensor) -> Result<Tensor> {
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

/// The decoder's deepest part: two residual blocks with attention between them.
struct Middle {
    first: Residual,
    attention: Attention,
    second: Residual,
}

impl Middle {
    fn load(config: &AutoEncoderConfig, vb: &VarBuilder<'_>, width: usize) -> Result<Self> {
        let (resnets, groups) = (vb.pp("resnets"), config.norm_num_groups);
        Ok(Self {
            first: Residual::load(&resnets.pp(0), [width, width], groups)?,
            attention: Attention::load(&vb.pp("attentions.0"), width, groups)?,
            second: Residual::load(&resnets.pp(1), [width, width], groups)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.attention.forward(&self.first.forward(x)?)?)
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
    fn load(config: &AutoEncoderConfig, vb: &VarBuilder<'_>, shape: UpShape) -> Result<Self> {
        let UpShape { inputs, outputs, is_last } = shape;
        let residuals = (0..=config.layers_per_block)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                let vb = vb.pp("resnets").pp(i);
                Residual::load(&vb, [outputs, inputs], config.norm_num_groups)
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

/// x + conv(silu(norm(conv(silu(norm(x))))))
struct Residual {
    norm1: GroupNorm,
    conv1: Conv3x3,
    norm2: GroupNorm,
    conv2: Conv3x3,
    /// Where the number of channels changes.
    shortcut: Option<Linear>,
}

impl Residual {
    fn load(vb: &VarBuilder<'_>, shape: [usize; 2], groups: usize) -> Result<Self> {
        let [outputs, inputs] = shape;
        Ok(Self {
            norm1: layers::group_norm(&vb.pp("norm1"), inputs, groups)?,
            conv1: layers::conv3x3(&vb.pp("conv1"), [outputs, inputs])?,
            norm2: layers::group_norm(&vb.pp("norm2"), outputs, groups)?,
            conv2: layers::conv3x3(&vb.pp("conv2"), [outputs, outputs])?,
            shortcut: (inputs != outputs)
                .then(|| layers::pointwise(&vb.pp("conv_shortcut"), shape))
                .transpose()?,
        })
    }

    /// (h, w, inputs) → (h, w, outputs)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // What was read for the last time is freed at once: at full resolution, each takes as much as
        // a limit of memory leaves room for.
        let normal = kernels::group_norm(x, &self.norm1, SILU)?;
        let hidden = kernels::conv3x3(&normal, &self.conv1, ConvForm::Plain)?;
        drop(normal);
        let normal = kernels::group_norm(&hidden, &self.norm2, SILU)?;
        drop(hidden);
        let residual = match &self.shortcut {
            Some(shortcut) => &pointwise(x, shortcut)?,
            None => x,
        };
        Ok(kernels::conv3x3(&normal, &self.conv2, ConvForm::Add(residual))?)
    }
}

/// One head over all pixels.
struct Attention {
    norm: GroupNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    out: Linear,
}

impl Attention {
    fn load(vb: &VarBuilder<'_>, width: usize, groups: usize) -> Result<Self> {
        Ok(Self {
            norm: layers::group_norm(&vb.pp("group_norm"), width, groups)?,
            qkv: layers::stacked(vb, &["to_q", "to_k", "to_v"], [width, width])?,
            out: layers::linear(&vb.pp("to_out.0"), [width, width])?,
        })
    }

    /// (h, w, c) → (h, w, c)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = x.dims3()?;
        let tokens = height * width;
        // (h, w, c) → (h·w, c)
        let normal = kernels::group_norm(x, &self.norm, None)?.reshape((tokens, channels))?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        // (h·w, 3·c) → 3 × (h·w, 1, c)
        let part = |i| qkv.narrow(1, i * channels, channels)?.unsqueeze(1);
        let heads = Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 };
        let attended = kernels::attention(&heads, Scores::scaled(channels))?;
        let residual = x.reshape((tokens, channels))?;
        let y = kernels::linear(&attended, &self.out, Epilogue::Add(&residual))?;
        Ok(y.reshape((height, width, channels))?)
    }
}

/// A 1×1 convolution: (h, w, in) → (h, w, out)
fn pointwise(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let flat = x.reshape((height * width, channels))?;
    let y = kernels::linear(&flat, layer, Epilogue::None)?;
    Ok(y.reshape((height, width, layer.outputs()))?)
}
