//! The autoencoder: latents → an image several times their size, and back.
//!
//! Activations are channels last, (h, w, c). Source: the behaviour of diffusers' `AutoencoderKL` and
//! `AutoencoderKLFlux2`, which differ in how latents are normalised, and in whether images are encoded.

mod blocks;
mod decoder;
mod encoder;
pub(crate) mod tiles;

use candle_core::{DType, Tensor};
use kernels::Unpacking;

use crate::{
    Result,
    checkpoint::VarBuilder,
    config::{AutoEncoderConfig, flux2},
    latents::Grid,
};

use decoder::Decoder;
use encoder::Encoder;

/// Decodes latents, and encodes images where the model reads them.
pub(crate) struct AutoEncoder {
    normalisation: Normalisation,
    /// How many times smaller than the image the latents are, each way.
    downscale: usize,
    decoder: Decoder,
    encoder: Option<Encoder>,
}

/// Between latents as the transformer sees them and as they are decoded.
enum Normalisation {
    /// latents / scaling + shift
    Affine { scaling: f64, shift: f64 },
    /// latents · deviation + mean, of each channel of a token: (4·c,) each, f32.
    Batch { mean: Tensor, deviation: Tensor },
}

/// Sizes of an autoencoder.
struct Sizes<'a> {
    image_channels: usize,
    latent_channels: usize,
    /// Channels at each resolution, from the image's to the latents'.
    decoder: &'a [usize],
    /// Likewise.
    encoder: &'a [usize],
    /// Residual blocks at each resolution (the decoder has one more).
    layers: usize,
    /// Of every group normalisation.
    groups: usize,
    has_post_quant: bool,
    has_quant: bool,
}

impl AutoEncoder {
    /// Loads the decoder of FLUX.1's.
    ///
    /// # Errors
    /// Where a tensor is missing or misshapen.
    pub(crate) fn flux1(config: &AutoEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let sizes = Sizes {
            image_channels: config.out_channels,
            latent_channels: config.latent_channels,
            decoder: &config.block_out_channels,
            encoder: &[],
            layers: config.layers_per_block,
            groups: config.norm_num_groups,
            has_post_quant: config.use_post_quant_conv,
            has_quant: false,
        };
        Ok(Self {
            normalisation: Normalisation::Affine {
                scaling: config.scaling_factor,
                shift: config.shift_factor,
            },
            downscale: config.downscale(),
            decoder: Decoder::load(&sizes, vb)?,
            encoder: None,
        })
    }

    /// Loads FLUX.2's, both halves.
    ///
    /// # Errors
    /// Where a tensor is missing or misshapen.
    pub(crate) fn flux2(config: &flux2::AutoEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let sizes = Sizes {
            image_channels: config.out_channels,
            latent_channels: config.latent_channels,
            decoder: config.decoder_channels(),
            encoder: &config.block_out_channels,
            layers: config.layers_per_block,
            groups: config.norm_num_groups,
            has_post_quant: config.use_post_quant_conv,
            has_quant: config.use_quant_conv,
        };
        let statistics = vb.pp("bn");
        let of_token = [4 * config.latent_channels];
        let mean = statistics.get("running_mean", &of_token)?.to_dtype(DType::F32)?;
        let variance = statistics.get("running_var", &of_token)?.to_dtype(DType::F32)?;
        let deviation = (variance + config.batch_norm_eps)?.sqrt()?;
        Ok(Self {
            normalisation: Normalisation::Batch { mean, deviation },
            downscale: config.downscale(),
            decoder: Decoder::load(&sizes, vb)?,
            encoder: Some(Encoder::load(&sizes, vb)?),
        })
    }

    /// latents (tokens, 4·c), f32 → image (h, w, 3), about −1 to 1, in the dtype of the weights; in f32
    /// where it was decoded in tiles.
    pub(crate) fn decode(&self, latents: &Tensor, grid: Grid, in_tiles: bool) -> Result<Tensor> {
        let plain = Unpacking {
            grid: [grid.rows, grid.columns],
            channels: grid.channels,
            scaling: 1.0,
            shift: 0.0,
            dtype: self.decoder.dtype(),
        };
        let pixels = match &self.normalisation {
            &Normalisation::Affine { scaling, shift } => {
                kernels::unpack(latents, Unpacking { scaling, shift, ..plain })?
            }
            Normalisation::Batch { mean, deviation } => {
                let latents = latents.broadcast_mul(deviation)?.broadcast_add(mean)?;
                kernels::unpack(&latents, plain)?
            }
        };
        if in_tiles {
            return tiles::decode(&pixels, self.downscale, |tile| self.decoder.decode(tile));
        }
        self.decoder.decode(&pixels)
    }

    /// image (h, w, 3) in −1 to 1, sides multiples of a token's → latents as the transformer sees them:
    /// (tokens, 4·c), f32. `None` where the model reads no images.
    pub(crate) fn encode(&self, image: &Tensor) -> Result<Option<Tensor>> {
        let (Some(encoder), Normalisation::Batch { mean, deviation }) =
            (&self.encoder, &self.normalisation)
        else {
            return Ok(None);
        };
        let pixels = encoder.encode(image)?.to_dtype(DType::F32)?;
        let (height, width, channels) = pixels.dims3()?;
        // (h, w, c) → (rows, 2, columns, 2, c) → (rows, columns, c, 2, 2) → (tokens, 4·c)
        let tokens = pixels
            .reshape((height / 2, 2, width / 2, 2, channels))?
            .permute([0, 2, 4, 1, 3])?
            .reshape((height / 2 * (width / 2), 4 * channels))?;
        Ok(Some(tokens.broadcast_sub(mean)?.broadcast_div(deviation)?))
    }
}
