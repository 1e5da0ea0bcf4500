//! How many floating-point operations an image takes: two for each product that is summed.

use protocol::Size;

use crate::{
    config::{Configs, flux2},
    dimensions::Dimensions,
    latents::Grid,
};

/// Operations of each part of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) encoders: f64,
    pub(crate) preparation: f64,
    pub(crate) denoising: f64,
    pub(crate) decoding: f64,
}

impl Work {
    /// Of so many images of one prompt.
    pub(crate) fn times(self, images: usize) -> Self {
        let images = images as f64;
        Self {
            encoders: self.encoders,
            preparation: images * self.preparation,
            denoising: images * self.denoising,
            decoding: images * self.decoding,
        }
    }

    /// Of an image of FLUX.1's.
    pub(crate) fn of_flux1(
        configs: &Configs,
        dimensions: &Dimensions,
        size: Size,
        steps: usize,
    ) -> Self {
        let image = Image::new(dimensions, configs.autoencoder.layers_per_block, size);
        let text = configs.text_tokens() as f64;
        Self {
            encoders: t5(configs, text) + clip(configs),
            preparation: preparation(configs, text, steps as f64),
            denoising: denoising(configs, [text, image.tokens], steps as f64),
            decoding: image.decoding(),
        }
    }

    /// Of an image of FLUX.2-klein's, without input images.
    pub(crate) fn of_flux2(
        configs: &flux2::Configs,
        dimensions: &Dimensions,
        size: Size,
        steps: usize,
    ) -> Self {
        let image = Image::new(dimensions, configs.autoencoder.layers_per_block, size);
        let (text, steps) = (flux2::TEXT_TOKENS as f64, steps as f64);
        let config = &configs.transformer;
        let (width, hidden) = (config.width() as f64, config.mlp_width() as f64);
        let joint = text + image.tokens;
        // q, k, v, out; both halves of the gate and the way back.
        let block =
            2.0 * joint * (4.0 * width * width + 3.0 * width * hidden) + attention(joint, width);
        let blocks = (config.num_layers + config.num_single_layers) as f64;
        let ends = 2.0 * image.tokens * 2.0 * config.in_channels as f64 * width;
        // One modulation for all blocks of a kind.
        let modulation = 2.0 * steps * (2.0 * 6.0 + 3.0 + 2.0) * width * width;
        Self {
            encoders: qwen3(&configs.text, text),
            preparation: modulation + 2.0 * text * config.joint_attention_dim as f64 * width,
            denoising: steps * (block * blocks + ends),
            decoding: image.decoding(),
        }
    }
}

fn qwen3(config: &flux2::Qwen3Config, tokens: f64) -> f64 {
    let (width, hidden) = (config.hidden_size as f64, config.intermediate_size as f64);
    let inner = (config.num_attention_heads * config.head_dim) as f64;
    let keys = (config.num_key_value_heads * config.head_dim) as f64;
    let layer =
        2.0 * tokens * width * (2.0 * inner + 2.0 * keys + 3.0 * hidden) + attention(tokens, inner);
    layer * flux2::TAPS[flux2::TAPS.len() - 1] as f64
}

fn t5(configs: &Configs, tokens: f64) -> f64 {
    let config = &configs.t5;
    let (width, hidden) = (config.d_model as f64, config.d_ff as f64);
    let inner = (config.num_heads * config.d_kv) as f64;
    // q, k, v, o; both halves of the gate and the way back; scores and values.
    let layer = 2.0 * tokens * width * (4.0 * inner + 3.0 * hidden) + attention(tokens, inner);
    layer * config.num_layers as f64
}

fn clip(configs: &Configs) -> f64 {
    let config = &configs.clip;
    let tokens = config.max_position_embeddings as f64;
    let (width, hidden) = (config.hidden_size as f64, config.intermediate_size as f64);
    let layer = 2.0 * tokens * width * (4.0 * width + 2.0 * hidden) + attention(tokens, width);
    layer * config.num_hidden_layers as f64
}

/// The modulation of every block at every step, and the text's projection.
fn preparation(configs: &Configs, text: f64, steps: f64) -> f64 {
    let config = &configs.transformer;
    let width = config.width() as f64;
    let parts = 12 * config.num_layers + 3 * config.num_single_layers + 2;
    2.0 * steps * parts as f64 * width * width
        + 2.0 * text * config.joint_attention_dim as f64 * width
}

fn denoising(configs: &Configs, [text, image]: [f64; 2], steps: f64) -> f64 {
    let config = &configs.transformer;
    let width = config.width() as f64;
    let joint = text + image;
    let blocks = (config.num_layers + config.num_single_layers) as f64;
    // q, k, v, out, and a feed-forward of four times the width there and back: alike in both kinds of
    // block, whose tokens are text and image together.
    let layers = 2.0 * joint * 12.0 * width * width * blocks;
    let ends = 2.0 * image * 2.0 * config.in_channels as f64 * width;
    (layers + attention(joint, width) * blocks + ends) * steps
}

/// q·kᵀ and its product with v, over all heads.
fn attention(tokens: f64, width: f64) -> f64 {
    4.0 * tokens * tokens * width
}

/// What is decoded.
struct Image {
    tokens: f64,
    /// Of the latents, in pixels.
    sides: [usize; 2],
    latent_channels: usize,
    /// From the image's resolution to the latents'.
    channels: Vec<usize>,
    layers: usize,
}

impl Image {
    fn new(dimensions: &Dimensions, layers: usize, size: Size) -> Self {
        let sides_px = [size.width_px() as usize, size.height_px() as usize];
        let grid = Grid::new(sides_px, dimensions.downscale(), dimensions.latent_channels);
        Self {
            tokens: grid.tokens() as f64,
            sides: [2 * grid.rows, 2 * grid.columns],
            latent_channels: dimensions.latent_channels,
            channels: dimensions.decoder_channels.clone(),
            layers,
        }
    }

    fn decoding(&self) -> f64 {
        let [height, width] = self.sides;
        let convolution = |scale: usize, inputs: usize, outputs: usize| {
            18.0 * (scale * height * scale * width * inputs * outputs) as f64
        };
        let channels: Vec<usize> = self.channels.iter().rev().copied().collect();
        let deepest = channels[0];
        let pixels = (height * width) as f64;
        let mut sum = convolution(1, self.latent_channels, deepest)
            + 4.0 * convolution(1, deepest, deepest)
            + 8.0 * pixels * (deepest * deepest) as f64
            + attention(pixels, deepest as f64);
        let (mut scale, mut inputs) = (1, deepest);
        for (i, &outputs) in channels.iter().enumerate() {
            for residual in 0..=self.layers {
                let inputs = if residual == 0 { inputs } else { outputs };
                sum += convolution(scale, inputs, outputs) + convolution(scale, outputs, outputs);
                if inputs != outputs {
                    sum += convolution(scale, inputs, outputs) / 9.0;
                }
            }
            if i + 1 < channels.len() {
                scale *= 2;
                sum += convolution(scale, outputs, outputs);
            }
            inputs = outputs;
        }
        sum + convolution(scale, inputs, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        architecture::ModelConfig,
        bench::{configs_of_schnell, klein_configs},
    };

    /// Counted by hand for 1024×1024 in four steps: four times 56.2 in linear layers and 13.3 in
    /// attention, 2.4 for T5, 10.5 for the decoder.
    #[test]
    fn an_image_of_flux_takes_291_teraflop() {
        let configs = configs_of_schnell().unwrap();
        let work =
            Work::of_flux1(&configs, &configs.dimensions(), Size::new(1024, 1024).unwrap(), 4);
        let close = |found: f64, expected: f64| (found / 1e12 / expected - 1.0).abs() < 0.02;
        assert!(close(work.denoising, 4.0 * (56.2 + 13.3)), "{:?}", work.denoising);
        assert!(close(work.encoders, 2.4), "{:?}", work.encoders);
        assert!(close(work.decoding, 10.5), "{:?}", work.decoding);
    }

    /// Counted by hand for 1024×1024 in four steps: 4608 tokens through 25 blocks of 122.7 M values, and their
    /// attention; 27 layers of 100.9 M values over 512 tokens.
    #[test]
    fn an_image_of_klein_takes_less() {
        let configs = klein_configs().unwrap();
        let work =
            Work::of_flux2(&configs, &configs.dimensions(), Size::new(1024, 1024).unwrap(), 4);
        let close = |found: f64, expected: f64| (found / 1e12 / expected - 1.0).abs() < 0.02;
        assert!(close(work.denoising, 4.0 * (28.3 + 6.5)), "{:?}", work.denoising);
        assert!(close(work.encoders, 2.9), "{:?}", work.encoders);
        assert!(close(work.decoding, 10.5), "{:?}", work.decoding);
    }
}
