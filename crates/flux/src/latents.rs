//! Latents between noise, transformer and autoencoder: packed into tokens and back.

use candle_core::{Device, Tensor};
use protocol::Seed;

use crate::{Result, noise};

/// In which order a seed's noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoiseOrder {
    /// As pixels (c, h, w), which are packed to tokens: FLUX.1.
    Pixels,
    /// As channels of tokens (4·c, rows, columns): FLUX.2.
    Tokens,
}

/// The latents of one image: rows and columns of tokens, each 2×2 latent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Channels of a latent pixel.
    pub(crate) channels: usize,
}

impl Grid {
    /// The grid of an image, width and height in pixels, that the autoencoder makes `downscale` times larger than its latents.
    pub(crate) fn new([width, height]: [usize; 2], downscale: usize, channels: usize) -> Self {
        let tokens = |pixels: usize| pixels / (2 * downscale);
        Self { rows: tokens(height), columns: tokens(width), channels }
    }

    /// Tokens of the image.
    pub(crate) fn tokens(self) -> usize {
        self.rows * self.columns
    }

    /// Noise of a seed as tokens (rows·columns, 4·channels), f32.
    pub(crate) fn noise(self, order: NoiseOrder, seed: Seed, device: &Device) -> Result<Tensor> {
        let Self { rows, columns, channels } = self;
        let noise = noise::normal(seed, channels * 4 * self.tokens());
        if order == NoiseOrder::Tokens {
            // (4c, rows, columns) → (rows·columns, 4c)
            let noise = Tensor::from_vec(noise, (4 * channels, self.tokens()), &Device::Cpu)?;
            return Ok(noise.t()?.contiguous()?.to_device(device)?);
        }
        // (c, h, w) → (c, rows, 2, columns, 2) → (rows, columns, c, 2, 2) → (rows·columns, 4c)
        let noise = Tensor::from_vec(noise, (channels, rows, 2, 2 * columns), &Device::Cpu)?
            .reshape(&[channels, rows, 2, columns, 2][..])?
            .permute([1, 3, 0, 2, 4])?
            .reshape((rows * columns, 4 * channels))?;
        Ok(noise.to_device(device)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use kernels::Unpacking;

    use super::*;

    #[test]
    fn packing_and_unpacking_keep_every_pixel() {
        let grid = Grid::new([48, 32], 8, 3);
        assert_eq!((grid.rows, grid.columns), (2, 3));
        let seed = Seed::new(7);
        let as_they_are = Unpacking {
            grid: [grid.rows, grid.columns],
            channels: grid.channels,
            scaling: 1.0,
            shift: 0.0,
            dtype: DType::F32,
        };
        let noise = grid.noise(NoiseOrder::Pixels, seed, &Device::Cpu).unwrap();
        let pixels = kernels::unpack(&noise, as_they_are).unwrap();
        // (h, w, c) → (c, h, w), the order in which noise is drawn
        let drawn = pixels.permute((2, 0, 1)).unwrap().flatten_all().unwrap();
        assert_eq!(drawn.to_vec1::<f32>().unwrap(), noise::normal(seed, 3 * 4 * 6));
    }

    #[test]
    fn flux_2_draws_channel_by_channel_of_tokens() {
        let grid = Grid::new([32, 16], 8, 2);
        let seed = Seed::new(1);
        let drawn = noise::normal(seed, 16);
        let tokens = grid.noise(NoiseOrder::Tokens, seed, &Device::Cpu).unwrap();
        let expected: Vec<f32> = (0..8).map(|channel| drawn[2 * channel + 1]).collect();
        assert_eq!(tokens.to_vec2::<f32>().unwrap()[1], expected);
    }

    #[test]
    fn a_token_holds_the_four_pixels_of_a_channel_side_by_side() {
        let grid = Grid::new([32, 16], 8, 2);
        let seed = Seed::new(1);
        let drawn = noise::normal(seed, 2 * 2 * 4);
        let tokens =
            grid.noise(NoiseOrder::Pixels, seed, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        // Channel 1 of the second token: rows 0 and 1, columns 2 and 3.
        let expected: Vec<f32> = [2, 3, 6, 7].iter().map(|i| drawn[8 + i]).collect();
        assert_eq!(tokens[1][4..], expected);
    }
}
