//! An image in overlapping tiles, each decoded by itself: a fraction of the memory, and not quite the
//! same image, since every group normalisation then sees a tile's mean and variance.

use candle_core::{DType, Tensor};

use crate::Result;

/// The side of a tile at most, in pixels of the latents.
pub(crate) const MOST: usize = 80;
/// How far neighbours overlap at least.
const OVERLAP: usize = 16;

/// Latents (h, w, c) → image (scale·h, scale·w, 3); `decode` does so for a tile.
pub(super) fn decode(
    latents: &Tensor,
    scale: usize,
    decode: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (height, width, _) = latents.dims3()?;
    let (rows, columns) = (Tile::along(height), Tile::along(width));
    let (row_shares, column_shares) = (shares(&rows, scale), shares(&columns, scale));
    let mut image: Option<Tensor> = None;
    for (row, row_share) in rows.iter().zip(row_shares) {
        let strip = latents.narrow(0, row.start, row.length)?;
        for (column, column_share) in columns.iter().zip(&column_shares) {
            let tile = strip.narrow(1, column.start, column.length)?.contiguous()?;
            let tile = decode(&tile)?.to_dtype(DType::F32)?;
            let on_device = |share: &[f32]| Tensor::new(share, latents.device());
            let weighed = tile
                .broadcast_mul(&on_device(&row_share)?.reshape(((), 1, 1))?)?
                .broadcast_mul(&on_device(column_share)?.reshape((1, (), 1))?)?;
            let [above, below] = row.around(height).map(|pixels| scale * pixels);
            let [left, right] = column.around(width).map(|pixels| scale * pixels);
            let placed = weighed.pad_with_zeros(0, above, below)?.pad_with_zeros(1, left, right)?;
            image = Some(match image {
                Some(others) => (others + placed)?,
                None => placed,
            });
        }
    }
    Ok(image.expect("a tile at least"))
}

/// Along one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    start: usize,
    length: usize,
}

impl Tile {
    /// As few as there can be, all as long as each other, evenly spread.
    fn along(length: usize) -> Vec<Self> {
        let count = length.saturating_sub(OVERLAP).div_ceil(MOST - OVERLAP).max(1);
        let side = (length + (count - 1) * OVERLAP).div_ceil(count);
        let gaps = (count - 1).max(1);
        (0..count).map(|i| Self { start: i * (length - side) / gaps, length: side }).collect()
    }

    /// What is before and behind it on a side of so many.
    fn around(self, length: usize) -> [usize; 2] {
        [self.start, length - self.start - self.length]
    }
}

/// How much of each pixel comes from each tile: falling towards the tile's ends where there is another,
/// one altogether.
fn shares(tiles: &[Tile], scale: usize) -> Vec<Vec<f32>> {
    let length = tiles.iter().map(|tile| tile.start + tile.length).max().unwrap_or_default();
    let mut sums = vec![0.0; scale * length];
    let mut shares: Vec<Vec<f32>> = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let pixels = scale * tile.length;
        let tent: Vec<f32> = (0..pixels).map(|i| (i + 1).min(pixels - i) as f32).collect();
        for (sum, height) in sums[scale * tile.start..].iter_mut().zip(&tent) {
            *sum += height;
        }
        shares.push(tent);
    }
    for (tile, share) in tiles.iter().zip(&mut shares) {
        for (height, sum) in share.iter_mut().zip(&sums[scale * tile.start..]) {
            *height /= sum;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use protocol::{Seed, Size, Steps};

    use super::*;
    use crate::{GUIDANCE, Pipeline, denoise::Settings, latents::Grid};

    #[test]
    fn tiles_cover_a_side_and_overlap() {
        for length in 1..600 {
            let tiles = Tile::along(length);
            assert_eq!((tiles[0].start, tiles[tiles.len() - 1].around(length)[1]), (0, 0));
            assert!(tiles.iter().all(|tile| tile.length <= MOST));
            for pair in tiles.windows(2) {
                let end = pair[0].start + pair[0].length;
                assert!(pair[1].start + OVERLAP <= end, "{length}: {pair:?}");
            }
        }
        assert_eq!(Tile::along(80).len(), 1);
        // 1024 pixels: two of 576.
        assert_eq!(Tile::along(128), [0, 56].map(|start| Tile { start, length: 72 }));
    }

    #[test]
    fn what_does_not_depend_on_the_tile_comes_out_whole() {
        let values: Vec<f32> = (0..100 * 90 * 3).map(|i| (i % 977) as f32 / 977.0).collect();
        let latents = Tensor::from_vec(values, (100, 90, 3), &Device::Cpu).unwrap();
        let doubled = |x: &Tensor| -> Result<Tensor> {
            let (h, w, c) = x.dims3()?;
            let x = x.reshape((h, 1, w, 1, c))?.broadcast_as((h, 2, w, 2, c))?;
            Ok(x.reshape((2 * h, 2 * w, c))?)
        };
        let (whole, tiled) = (doubled(&latents).unwrap(), decode(&latents, 2, doubled).unwrap());
        assert_eq!(tiled.dims(), whole.dims());
        let off = (tiled - whole).unwrap().abs().unwrap().max_all().unwrap();
        assert!(off.to_scalar::<f32>().unwrap() < 1e-5, "{off}");
    }

    /// Latents of an image of the demo model: (tokens, c).
    fn drawn(pipeline: &Pipeline, prompt: &str) -> (Tensor, Grid) {
        let encoded = pipeline.encode(prompt, &[], pipeline.native_size()).unwrap();
        let steps = Steps::new(4).unwrap();
        let settings = Settings { size: pipeline.native_size(), steps, guidance: GUIDANCE };
        let context = pipeline.start(&[&encoded], &settings).unwrap();
        let mut latents = pipeline.noise(context.grid, Seed::new(2), &Device::Cpu).unwrap();
        for step in 0..steps.get() {
            latents = pipeline.step(&context, step, &latents).unwrap();
        }
        (latents, context.grid)
    }

    /// Four images a row, of which one is dark: no tile has the mean and the variance of the whole.
    /// 42.5 dB, no value further off than 8 of 255.
    #[test]
    fn an_image_in_tiles_is_much_like_the_whole_one() {
        let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
        let (bright, grid) =
            drawn(&pipeline, "a red circle above a blue square on a white background");
        let (dark, _) = drawn(&pipeline, "two teal hearts in the night sky");
        let Grid { rows, columns, channels } = grid;
        let pixels = |tokens: &Tensor| tokens.reshape((rows, columns, 4 * channels)).unwrap();
        let [bright, dark] = [&bright, &dark].map(pixels);
        let row = Tensor::cat(&[&bright, &dark, &bright, &bright], 1).unwrap();
        let all = Tensor::cat(&[&row, &row, &row], 0).unwrap();
        let grid = Grid { rows: 3 * rows, columns: 4 * columns, channels };
        let tokens = all.reshape((grid.tokens(), 4 * channels)).unwrap();
        let decode = |in_tiles| {
            let image = pipeline.model.autoencoder.decode(&tokens, grid, in_tiles).unwrap();
            crate::pipeline::to_rgb(&image).unwrap()
        };
        let (whole, tiled) = (decode(false), decode(true));
        assert_eq!(Size::new(1024, 768).unwrap().pixels() * 3, whole.len() as u64);
        let squares =
            whole.iter().zip(tiled.iter()).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
        let psnr = 10.0 * (255.0_f64.powi(2) * whole.len() as f64 / squares.sum::<f64>()).log10();
        assert!((38.0..60.0).contains(&psnr), "{psnr} dB");
    }
}
