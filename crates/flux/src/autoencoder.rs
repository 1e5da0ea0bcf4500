//! The decoder of FLUX.1's autoencoder: 16-channel latents → a picture eight times their size.
//!
//! Activations are channels last, (h, w, c). Source: the behaviour of diffusers' `AutoencoderKL`.

pub(crate) mod tiles;

use candle_core::Tensor;

use crate::{
    Result,
    checkpoint::Scope,
    config::AutoEncoderConfig,
    latents::Grid,
    layers::{Conv3x3, GroupNorm, Linear},
    ops::{self, Heads, Scores, Unpacking},
};

/// Decodes latents.
pub(crate) struct AutoEncoder {
    scaling_factor: f64,
    shift_factor: f64,
    /// How many times smaller than the picture the latents are, each way.
    downscale: usize,
    post_quant: Option<Linear>,
    conv_in: Conv3x3,
    middle: Middle,
    /// From the latents' resolution to the picture's.
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
}

impl AutoEncoder {
    pub(crate) fn load(config: &AutoEncoderConfig, scope: &Scope<'_>) -> Result<Self> {
        let channels = config.latent_channels;
        let post_quant = config
            .use_post_quant_conv
            .then(|| Linear::load_pointwise(&scope.at("post_quant_conv"), [channels, channels]))
            .transpose()?;
        let scope = scope.at("decoder");
        let deepest = config.block_out_channels.last().copied().unwrap_or_default();
        let mut width = deepest;
        let mut up = Vec::new();
        for (i, &outputs) in config.block_out_channels.iter().rev().enumerate() {
            let scope = scope.at("up_blocks").at(i);
            let is_last = i + 1 == config.block_out_channels.len();
            up.push(UpBlock::load(config, &scope, UpShape { inputs: width, outputs, is_last })?);
            width = outputs;
        }
        Ok(Self {
            scaling_factor: config.scaling_factor,
            shift_factor: config.shift_factor,
            downscale: config.downscale(),
            post_quant,
            conv_in: Conv3x3::load(&scope.at("conv_in"), [deepest, channels])?,
            middle: Middle::load(config, &scope.at("mid_block"), deepest)?,
            up,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), width, config.norm_num_groups)?,
            conv_out: Conv3x3::load(&scope.at("conv_out"), [config.out_channels, width])?,
        })
    }

    /// latents (tokens, 4·c), f32 → picture (h, w, 3), about −1 to 1, in the dtype of the weights; in f32
    /// where it was decoded in tiles.
    pub(crate) fn decode(&self, latents: &Tensor, grid: Grid, in_tiles: bool) -> Result<Tensor> {
        let how = Unpacking {
            grid,
            scaling: self.scaling_factor,
            shift: self.shift_factor,
            dtype: self.conv_in.weight.dtype(),
        };
        let pixels = ops::unpack(latents, &how)?;
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
        x = ops::conv3x3(&x, &self.conv_in)?;
        x = self.middle.forward(&x)?;
        for block in &self.up {
            x = block.forward(&x)?;
        }
        let x = ops::group_norm_silu(&x, &self.norm_out)?;
        Ok(ops::conv3x3(&x, &self.conv_out)?)
    }
}

/// The decoder's deepest part: two residual blocks with attention between them.
struct Middle {
    first: Residual,
    attention: Attention,
    second: Residual,
}

impl Middle {
    fn load(config: &AutoEncoderConfig, scope: &Scope<'_>, width: usize) -> Result<Self> {
        let (resnets, groups) = (scope.at("resnets"), config.norm_num_groups);
        Ok(Self {
            first: Residual::load(&resnets.at(0), [width, width], groups)?,
            attention: Attention::load(&scope.at("attentions.0"), width, groups)?,
            second: Residual::load(&resnets.at(1), [width, width], groups)?,
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
    fn load(config: &AutoEncoderConfig, scope: &Scope<'_>, shape: UpShape) -> Result<Self> {
        let UpShape { inputs, outputs, is_last } = shape;
        let residuals = (0..=config.layers_per_block)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                let scope = scope.at("resnets").at(i);
                Residual::load(&scope, [outputs, inputs], config.norm_num_groups)
            })
            .collect::<Result<_>>()?;
        let upsample = (!is_last)
            .then(|| Conv3x3::load(&scope.at("upsamplers.0.conv"), [outputs, outputs]))
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
            Some(conv) => Ok(ops::upsample_conv3x3(&x, conv)?),
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
    fn load(scope: &Scope<'_>, shape: [usize; 2], groups: usize) -> Result<Self> {
        let [outputs, inputs] = shape;
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), inputs, groups)?,
            conv1: Conv3x3::load(&scope.at("conv1"), [outputs, inputs])?,
            norm2: GroupNorm::load(&scope.at("norm2"), outputs, groups)?,
            conv2: Conv3x3::load(&scope.at("conv2"), [outputs, outputs])?,
            shortcut: (inputs != outputs)
                .then(|| Linear::load_pointwise(&scope.at("conv_shortcut"), shape))
                .transpose()?,
        })
    }

    /// (h, w, inputs) → (h, w, outputs)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = ops::conv3x3(&ops::group_norm_silu(x, &self.norm1)?, &self.conv1)?;
        let hidden = ops::group_norm_silu(&hidden, &self.norm2)?;
        Ok(match &self.shortcut {
            Some(shortcut) => ops::conv3x3_onto(&hidden, &self.conv2, &pointwise(x, shortcut)?)?,
            None => ops::conv3x3_onto(&hidden, &self.conv2, x)?,
        })
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
    fn load(scope: &Scope<'_>, width: usize, groups: usize) -> Result<Self> {
        let project = |name| Linear::load(&scope.at(name), [width, width]);
        Ok(Self {
            norm: GroupNorm::load(&scope.at("group_norm"), width, groups)?,
            qkv: Linear::stack(&[project("to_q")?, project("to_k")?, project("to_v")?])?,
            out: project("to_out.0")?,
        })
    }

    /// (h, w, c) → (h, w, c)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = x.dims3()?;
        let tokens = height * width;
        // (h, w, c) → (h·w, c)
        let normal = ops::group_norm(x, &self.norm)?.reshape((tokens, channels))?;
        let qkv = ops::linear(&normal, &self.qkv)?;
        // (h·w, 3·c) → 3 × (h·w, 1, c)
        let part = |i| qkv.narrow(1, i * channels, channels)?.unsqueeze(1);
        let heads = Heads { q: part(0)?, k: part(1)?, v: part(2)?, pictures: 1 };
        let attended = ops::attention(&heads, &Scores::scaled(channels))?;
        let onto = x.reshape((tokens, channels))?;
        Ok(ops::linear_onto(&attended, &self.out, &onto)?.reshape((height, width, channels))?)
    }
}

/// A 1×1 convolution: (h, w, in) → (h, w, out)
fn pointwise(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let flat = x.reshape((height * width, channels))?;
    Ok(ops::linear(&flat, layer)?.reshape((height, width, layer.outputs()))?)
}
