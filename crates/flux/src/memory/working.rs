//! What is taken beside the weights while images are drawn, by estimate: from the largest tensors that are there at once.

use candle_core::DType;

use super::LargestBatch;
use crate::{autoencoder::tiles, dimensions::Dimensions, input::MAX_INPUT_PIXELS};

/// Rows as wide as the transformer that each token has at once, about: a single block's input, what it is
/// normalised to, queries, keys and values before and after their rotation, attention and feed-forward
/// side by side, the result; as much again for what libraries take.
const ROWS_OF_TOKEN: u64 = 2 * (1 + 1 + 3 + 3 + 5 + 1);

/// Of the latents, the pixels of a tile: 640×640 of the image.
const TILE_PIXELS: usize = tiles::MOST * tiles::MOST;

/// Bytes beside the weights, where images are decoded in tiles. Of input images, which are encoded whole, as many are
/// counted as one image may have: images that have any are drawn together only as far as they fill a GPU.
pub(super) fn working_bytes(dimensions: &Dimensions, dtype: DType, batch: LargestBatch) -> u64 {
    let input_pixels = (dimensions.max_input_images * MAX_INPUT_PIXELS) as u64;
    let pixels = batch.pixels.saturating_add(input_pixels);
    let drawing = drawing_bytes(dimensions, dtype, LargestBatch { pixels, ..batch });
    let encoded_pixels = match dimensions.max_input_images {
        0 => 0,
        _ => MAX_INPUT_PIXELS / dimensions.downscale().pow(2),
    };
    drawing.max(decoding_bytes(dimensions, TILE_PIXELS.max(encoded_pixels), dtype))
}

/// Bytes beside the weights, without input images, where each image is decoded whole.
pub(crate) fn whole_working_bytes(
    dimensions: &Dimensions,
    dtype: DType,
    batch: LargestBatch,
) -> u64 {
    let pixels_of_one = batch.pixels / batch.images.max(1);
    let latent_pixels = pixels_of_one / (dimensions.downscale() as u64).pow(2);
    let latent_pixels = usize::try_from(latent_pixels).unwrap_or(usize::MAX);
    let decoding = decoding_bytes(dimensions, latent_pixels, dtype);
    drawing_bytes(dimensions, dtype, batch).max(decoding)
}

/// What the transformer takes for the tokens of a batch: those of its pixels, and each image's text.
fn drawing_bytes(dimensions: &Dimensions, dtype: DType, batch: LargestBatch) -> u64 {
    let token_side = 2 * dimensions.downscale() as u64;
    let text_tokens = batch.images.saturating_mul(dimensions.text_tokens as u64);
    let tokens = (batch.pixels / token_side.pow(2)).saturating_add(text_tokens);
    let row_bytes = (dimensions.width * dtype.size_in_bytes()) as u64;
    tokens.saturating_mul(ROWS_OF_TOKEN * row_bytes)
}

/// The decoder's last block works at the image's resolution: what comes into it, the same normalised,
/// and what goes out are there at once; half as much again for what libraries take.
pub(super) fn decoding_bytes(dimensions: &Dimensions, latent_pixels: usize, dtype: DType) -> u64 {
    let channels = |i: usize| dimensions.decoder_channels.get(i).copied().unwrap_or_default();
    let pixels = latent_pixels.saturating_mul(dimensions.downscale().pow(2));
    let values = pixels.saturating_mul(2 * channels(1).max(channels(0)) + channels(0));
    (values as u64).saturating_mul(dtype.size_in_bytes() as u64) / 2 * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Preset, bench::dimensions_of, pipeline::TOKENS_OF_FULL_GPU};

    const GB: u64 = 1_000_000_000;

    #[test]
    fn each_image_of_a_batch_has_its_text() {
        let dimensions = dimensions_of(Preset::Schnell).unwrap();
        let of = |images, pixels| {
            drawing_bytes(&dimensions, DType::BF16, LargestBatch { images, pixels })
        };
        assert_eq!(of(8, 8 << 20), 8 * of(1, 1 << 20));
        assert!(of(64, 64 << 16) > of(1, 64 << 16) + 2 * GB);
    }

    #[test]
    fn an_image_that_is_decoded_whole_takes_what_its_pixels_take() {
        let dimensions = dimensions_of(Preset::Schnell).unwrap();
        let of = |dtype, images, side: u64| {
            let batch = LargestBatch { images, pixels: images * side * side };
            whole_working_bytes(&dimensions, dtype, batch) as f64 / 1e9
        };
        // 1,048,576 pixels of 640 values of 4 bytes, and half as much again.
        assert!((of(DType::F32, 1, 1024) - 4.03).abs() < 0.01);
        assert!((of(DType::BF16, 1, 1024) - 2.01).abs() < 0.01);
        // Images are decoded one after the other, and drawn together.
        assert!((of(DType::F32, 2, 1024) - 4.03).abs() < 0.01);
        assert!((of(DType::F32, 4, 1024) - 5.99).abs() < 0.01);
        assert!((of(DType::F32, 1, 2048) - 16.1).abs() < 0.1);
    }

    /// As many small images as fill a GPU are drawn together where nobody said how many, which no plan is told of.
    #[test]
    fn what_fills_a_gpu_takes_no_more_than_decoding_a_tile() {
        for preset in [Preset::Schnell, Preset::Klein] {
            let dimensions = dimensions_of(preset).unwrap();
            let side = 2 * dimensions.downscale() as u64;
            let pixels = TOKENS_OF_FULL_GPU as u64 * side.pow(2);
            let together =
                drawing_bytes(&dimensions, DType::BF16, LargestBatch { images: 0, pixels });
            let planned =
                working_bytes(&dimensions, DType::BF16, LargestBatch { images: 1, pixels: 1 });
            assert!(together <= planned, "{preset:?}: {together} > {planned}");
        }
    }
}
