//! A model's dimensions, the same for every architecture: what sampling, memory planning and benchmarks ask.

use crate::latents::NoiseOrder;

/// Sizes of a model.
#[derive(Debug, Clone)]
pub(crate) struct Dimensions {
    /// Tokens that prompts are padded to.
    pub(crate) text_tokens: usize,
    /// Width of the transformer's stream.
    pub(crate) width: usize,
    /// Values of the layers that a precision in 8 bits has in 8 bits.
    pub(crate) block_values: u64,
    /// Values of the text encoders' embeddings of tokens, which no precision has in 8 bits.
    pub(crate) embedding_values: u64,
    /// Channels of a latent pixel.
    pub(crate) latent_channels: usize,
    /// The decoder's channels at each resolution, from the image's to the latents'.
    pub(crate) decoder_channels: Vec<usize>,
    /// Side of the images that the model was made for, in pixels.
    pub(crate) native_side_px: usize,
    /// In which order a seed's noise becomes latents.
    pub(crate) noise: NoiseOrder,
    /// Whether it was trained with a guidance scale.
    pub(crate) reads_guidance: bool,
    /// The most input images that one image is made from.
    pub(crate) max_input_images: usize,
}

impl Dimensions {
    /// How many times smaller than the image the latents are, each way.
    pub(crate) fn downscale(&self) -> usize {
        1 << self.decoder_channels.len().saturating_sub(1)
    }
}
