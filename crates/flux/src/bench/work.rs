//! How many floating-point operations an image takes: two for each product that is summed.

use protocol::Size;

use crate::{
    config::{AutoEncoderConfig, Configs},
    latents::Grid,
};

/// Operations of each part of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) encoders: f64,
    pub(super) preparation: f64,
    pub(super) denoising: f64,
    pub(super) decoding: f64,
}

impl Work {
    /// Of so many images of one prompt.
    pub(super) fn times(self, images: usize) -> Self {
        let images = images as f64;
        Self {
            encoders: self.encoders,
            preparation: images * self.preparation,
            denoising: images * self.denoising,
            decoding: images * self.decoding,
        }
    }

    pub(super) fn of(configs: &Configs, size: Size, steps: usize) -> Self {
        let autoencoder = &configs.autoencoder;
        let grid = Grid::new(size, autoencoder.downscale(), autoencoder.latent_channels);
        let text = configs.text_tokens() as f64;
        let image = grid.tokens() as f64;
        Self {
            encoders: t5(configs, text) + clip(configs),
            preparation: preparation(configs, text, steps as f64),
            denoising: denoising(configs, [text, image], steps as f64),
            decoding: decoding(autoencoder, [2 * grid.rows, 2 * grid.columns]),
        }
    }
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

fn decoding(config: &AutoEncoderConfig, [height, width]: [usize; 2]) -> f64 {
    let convolution = |scale: usize, inputs: usize, outputs: usize| {
        18.0 * (scale * height * scale * width * inputs * outputs) as f64
    };
    let channels: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
    let deepest = channels[0];
    let pixels = (height * width) as f64;
    let mut sum = convolution(1, config.latent_channels, deepest)
        + 4.0 * convolution(1, deepest, deepest)
        + 8.0 * pixels * (deepest * deepest) as f64
        + attention(pixels, deepest as f64);
    let (mut scale, mut inputs) = (1, deepest);
    for (i, &outputs) in channels.iter().enumerate() {
        for residual in 0..=config.layers_per_block {
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
    sum + convolution(scale, inputs, config.out_channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::synthetic;

    /// Counted by hand for 1024×1024 in four steps: four times 56.2 in linear layers and 13.3 in
    /// attention, 2.4 for T5, 10.5 for the decoder.
    #[test]
    fn a_image_of_flux_takes_291_teraflop() {
        let configs = synthetic::configs().unwrap();
        let work = Work::of(&configs, Size::new(1024, 1024).unwrap(), 4);
        let close = |found: f64, expected: f64| (found / 1e12 / expected - 1.0).abs() < 0.02;
        assert!(close(work.denoising, 4.0 * (56.2 + 13.3)), "{:?}", work.denoising);
        assert!(close(work.encoders, 2.4), "{:?}", work.encoders);
        assert!(close(work.decoding, 10.5), "{:?}", work.decoding);
    }
}
