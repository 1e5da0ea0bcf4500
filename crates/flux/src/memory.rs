//! Staying within a limit of a device's memory.
//!
//! Needs are estimated: of weights, from their files' lengths; of what is computed, from the largest
//! tensors that are there at once. Two things are given up for room, in this order: text encoders rest in
//! the host's memory, and a layer at a time travels to the GPU for each prompt; images that are too
//! large to be decoded whole are decoded in tiles.

use candle_core::{DType, Device};
use kernels::Precision;

use crate::{
    Error, Result, autoencoder::tiles, checkpoint::host_bytes, dimensions::Dimensions,
    input::MAX_INPUT_PIXELS, latents::Grid, role::Role,
};

/// Published checkpoints are stored in 16 bits.
const STORED_BYTES: u64 = 2;

/// Rows as wide as the transformer that each token has at once, about: a single block's input, what it is
/// normalised to, queries, keys and values before and after their rotation, attention and feed-forward
/// side by side, the result; as much again for what libraries take.
const ROWS_OF_TOKEN: u64 = 2 * (1 + 1 + 3 + 3 + 5 + 1);

/// Of the latents, the pixels of a tile: 640×640 of the image.
const TILE_PIXELS: usize = tiles::MOST * tiles::MOST;

/// How much of a device's memory may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// By weights and everything that is computed.
    pub bytes: u64,
    /// Of all images that are drawn at once, at most.
    pub pixels: u64,
}

/// Where weights rest, and which images are decoded in tiles.
#[derive(Debug, Clone)]
pub(crate) struct MemoryPlan {
    limit: Option<MemoryLimit>,
    /// Of the weights that rest on the device.
    weight_bytes: u64,
    text_on_host: bool,
}

/// Bytes of weights on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightBytes {
    pub(crate) text_encoders: u64,
    pub(crate) transformer_and_autoencoder: u64,
}

impl WeightBytes {
    /// From what components are for, and the lengths of their files.
    pub(crate) fn of_files(
        components: impl Iterator<Item = (Role, u64)>,
        dimensions: &Dimensions,
        precision: Precision,
        on_gpu: bool,
    ) -> Self {
        let [mut text, mut transformer, mut autoencoder] = [0; 3];
        for (role, bytes) in components {
            match role {
                Role::TextEncoder => text += bytes,
                Role::Transformer => transformer += bytes,
                Role::AutoEncoder => autoencoder += bytes,
            }
        }
        let [text, transformer, autoencoder] =
            [text, transformer, autoencoder].map(|stored| stored / STORED_BYTES);
        let text = text.saturating_sub(dimensions.unread_text_values);
        Self::of_values([text, transformer, autoencoder], dimensions, precision, on_gpu)
    }

    /// From how many values text encoders, transformer and autoencoder have.
    pub(crate) fn of_values(
        [text, transformer, autoencoder]: [u64; 3],
        dimensions: &Dimensions,
        precision: Precision,
        on_gpu: bool,
    ) -> Self {
        let each = precision.dtype().size_in_bytes() as u64;
        let whole = |values: u64| values.saturating_mul(each);
        let (text_encoders, transformer) = match precision {
            Precision::F32 | Precision::Bf16 => (whole(text), whole(transformer)),
            // A byte instead of two. The scales, one for each row, are a thousandth of that.
            Precision::Fp8 => {
                (whole(text), whole(transformer).saturating_sub(dimensions.block_values))
            }
            Precision::Int8 => {
                let embeddings = dimensions.embedding_values.min(text);
                (whole(embeddings) + in_int8(text - embeddings), in_int8(transformer))
            }
        };
        let autoencoder = match precision {
            Precision::F32 | Precision::Int8 if !on_gpu => transformed(whole(autoencoder)),
            _ => whole(autoencoder),
        };
        Self { text_encoders, transformer_and_autoencoder: transformer + autoencoder }
    }
}

/// Values in 8-bit integers, with four bytes of a scale for each 256 of them.
fn in_int8(values: u64) -> u64 {
    values.saturating_add(values / 64)
}

/// A CPU keeps 3×3 kernels in f32 as 4×4 ones.
fn transformed(kernels: u64) -> u64 {
    kernels / 9 * 16
}

/// What a model takes of memory, told before its weights are read.
#[derive(Debug, Clone, Copy)]
pub struct MemoryNeeds {
    weights: WeightBytes,
    /// Beside the weights, while an image is drawn, or LoRAs are merged.
    working_bytes: u64,
    on_gpu: bool,
}

impl MemoryNeeds {
    pub(crate) fn new(
        weights: WeightBytes,
        dimensions: &Dimensions,
        dtype: DType,
        (pixels, on_gpu): (u64, bool),
    ) -> Self {
        Self { weights, working_bytes: working_bytes(dimensions, dtype, pixels), on_gpu }
    }

    /// The same where so much is taken while it is loaded.
    pub(crate) fn at_least(self, working_bytes: u64) -> Self {
        Self { working_bytes: self.working_bytes.max(working_bytes), ..self }
    }

    fn all_bytes(&self) -> u64 {
        let WeightBytes { text_encoders, transformer_and_autoencoder } = self.weights;
        text_encoders.saturating_add(transformer_and_autoencoder)
    }

    /// Of models that share a device, how much each may take: what the others' weights leave. They draw one after
    /// the other. Where not all text encoders have room beside each other on a GPU, all rest in the host's memory.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`] where they have no room together; [`Error::HostMemory`] where their weights are larger
    /// than a CPU's memory.
    pub fn share(all: &[Self], limit_bytes: Option<u64>) -> Result<Vec<Option<u64>>, Error> {
        let sum = |bytes: &dyn Fn(&Self) -> u64| {
            all.iter().fold(0u64, |sum, needs| sum.saturating_add(bytes(needs)))
        };
        let on_host = |needs: &Self| if needs.on_gpu { 0 } else { needs.all_bytes() };
        if let Some(host_bytes) = host_bytes().filter(|&bytes| sum(&on_host) > bytes) {
            return Err(Error::HostMemory { needed_bytes: sum(&on_host), host_bytes });
        }
        let Some(limit_bytes) = limit_bytes else { return Ok(vec![None; all.len()]) };
        let working = all.iter().map(|needs| needs.working_bytes).max().unwrap_or_default();
        let needed = |weights: u64| weights.saturating_add(working);
        let whole = |needs: &Self| needs.all_bytes();
        if needed(sum(&whole)) <= limit_bytes {
            let left = limit_bytes - sum(&whole);
            return Ok(all.iter().map(|needs| Some(left + needs.all_bytes())).collect());
        }
        let bare = |needs: &Self| match needs.on_gpu {
            true => needs.weights.transformer_and_autoencoder,
            false => needs.all_bytes(),
        };
        if needed(sum(&bare)) > limit_bytes {
            return Err(Error::MemoryLimit { limit_bytes, needed_bytes: needed(sum(&bare)) });
        }
        // Of what is left, no more than lets the text encoders rest elsewhere: the next model needs it too.
        let left = limit_bytes - sum(&bare);
        let of_one = |needs: &Self| {
            let most = bare(needs).saturating_add(left);
            let with_text = needs.all_bytes().saturating_add(needs.working_bytes);
            if bare(needs) < needs.all_bytes() { most.min(with_text - 1) } else { most }
        };
        Ok(all.iter().map(|needs| Some(of_one(needs))).collect())
    }
}

impl MemoryPlan {
    /// # Errors
    /// Where the limit is too low even so.
    pub(crate) fn new(
        limit: Option<MemoryLimit>,
        weights: WeightBytes,
        dimensions: &Dimensions,
        dtype: DType,
        on_gpu: bool,
    ) -> Result<Self> {
        let WeightBytes { text_encoders, transformer_and_autoencoder } = weights;
        let all = text_encoders + transformer_and_autoencoder;
        let Some(MemoryLimit { bytes, pixels }) = limit else {
            return Ok(Self { limit, weight_bytes: all, text_on_host: false });
        };
        let working = working_bytes(dimensions, dtype, pixels);
        let fits = |weights: u64| weights.saturating_add(working) <= bytes;
        let text_on_host = on_gpu && !fits(all);
        let weight_bytes = if text_on_host { transformer_and_autoencoder } else { all };
        if !fits(weight_bytes) {
            let needed_bytes = weight_bytes.saturating_add(working);
            return Err(Error::MemoryLimit { limit_bytes: bytes, needed_bytes });
        }
        Ok(Self { limit, weight_bytes, text_on_host })
    }

    /// Whether so many bytes have room beside the weights, while those are loaded.
    ///
    /// # Errors
    /// Where they do not.
    pub(crate) fn check_beside(&self, bytes: u64) -> Result<()> {
        let needed_bytes = self.weight_bytes.saturating_add(bytes);
        match self.limit_bytes() {
            Some(limit_bytes) if needed_bytes > limit_bytes => {
                Err(Error::MemoryLimit { limit_bytes, needed_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Where the text encoders' weights rest, of a model on `device`.
    pub(crate) fn text_encoders<'a>(&self, device: &'a Device) -> &'a Device {
        if self.text_on_host { &Device::Cpu } else { device }
    }

    pub(crate) fn limit_bytes(&self) -> Option<u64> {
        self.limit.map(|limit| limit.bytes)
    }

    pub(crate) fn text_on_host(&self) -> bool {
        self.text_on_host
    }

    /// Whether an image is decoded in tiles.
    pub(crate) fn in_tiles(&self, dimensions: &Dimensions, grid: Grid, dtype: DType) -> bool {
        // A token is four pixels of the latents.
        let decoding = decoding_bytes(dimensions, 4 * grid.tokens(), dtype);
        self.limit_bytes().is_some_and(|limit| self.weight_bytes.saturating_add(decoding) > limit)
    }
}

/// Beside the weights, for so many pixels of images that are decoded in tiles, and as many input images as one may
/// have, which are encoded whole.
fn working_bytes(dimensions: &Dimensions, dtype: DType, pixels: u64) -> u64 {
    let token_side = 2 * dimensions.downscale() as u64;
    let input_pixels = (dimensions.max_input_images * MAX_INPUT_PIXELS) as u64;
    let pixels = pixels.saturating_add(input_pixels);
    let tokens = pixels / token_side.pow(2) + dimensions.text_tokens as u64;
    let row_bytes = (dimensions.width * dtype.size_in_bytes()) as u64;
    let drawing = tokens.saturating_mul(ROWS_OF_TOKEN * row_bytes);
    let encoded_pixels = match dimensions.max_input_images {
        0 => 0,
        _ => MAX_INPUT_PIXELS / dimensions.downscale().pow(2),
    };
    drawing.max(decoding_bytes(dimensions, TILE_PIXELS.max(encoded_pixels), dtype))
}

/// The decoder's last block works at the image's resolution: what comes into it, the same normalised,
/// and what goes out are there at once; half as much again for what libraries take.
fn decoding_bytes(dimensions: &Dimensions, latent_pixels: usize, dtype: DType) -> u64 {
    let channels = |i: usize| dimensions.decoder_channels.get(i).copied().unwrap_or_default();
    let pixels = latent_pixels * dimensions.downscale().pow(2);
    let values = pixels * (2 * channels(1).max(channels(0)) + channels(0));
    (values * dtype.size_in_bytes()) as u64 * 3 / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Preset, bench::dimensions_of};

    fn schnell() -> Dimensions {
        dimensions_of(Preset::Schnell).unwrap()
    }

    const ROLES: [Role; 3] = [Role::TextEncoder, Role::Transformer, Role::AutoEncoder];

    const GB: u64 = 1_000_000_000;
    /// Of FLUX.1-schnell in bf16: CLIP and T5; transformer and autoencoder.
    const SCHNELL: WeightBytes =
        WeightBytes { text_encoders: 9_770_000_000, transformer_and_autoencoder: 23_970_000_000 };

    fn plan(bytes: Option<u64>, on_gpu: bool) -> Result<MemoryPlan> {
        let limit = bytes.map(|bytes| MemoryLimit { bytes, pixels: 1 << 20 });
        MemoryPlan::new(limit, SCHNELL, &schnell(), DType::BF16, on_gpu)
    }

    fn in_tiles(plan: &MemoryPlan, side: usize) -> bool {
        let dimensions = schnell();
        let grid = Grid::new([side; 2], dimensions.downscale(), 16);
        plan.in_tiles(&dimensions, grid, DType::BF16)
    }

    #[test]
    fn without_a_limit_nothing_is_given_up() {
        let plan = plan(None, true).unwrap();
        assert!(!plan.text_on_host() && !in_tiles(&plan, 2048));
    }

    #[test]
    fn what_does_not_fit_whole_is_decoded_in_tiles() {
        let plan = plan(Some(36 * GB), true).unwrap();
        assert!(!plan.text_on_host() && !in_tiles(&plan, 1024) && in_tiles(&plan, 2048));
    }

    #[test]
    fn text_encoders_leave_a_gpu_first() {
        let plan = plan(Some(28 * GB), true).unwrap();
        assert!(plan.text_on_host() && !in_tiles(&plan, 1024) && in_tiles(&plan, 2048));
        let tight = super::tests::plan(Some(25 * GB + GB / 2), true).unwrap();
        assert!(tight.text_on_host() && in_tiles(&tight, 1024));
    }

    #[test]
    fn a_limit_that_is_too_low_says_what_is_needed() {
        // On a CPU, the text encoders have nowhere to go.
        for (on_gpu, expected) in [(true, 24), (false, 34)] {
            let Err(Error::MemoryLimit { limit_bytes, needed_bytes }) = plan(Some(24 * GB), on_gpu)
            else {
                panic!("24 GB would do")
            };
            assert_eq!((limit_bytes, needed_bytes / GB), (24 * GB, expected));
        }
    }

    fn needs(weights: WeightBytes, on_gpu: bool) -> MemoryNeeds {
        MemoryNeeds::new(weights, &schnell(), DType::BF16, (1 << 20, on_gpu))
    }

    /// The same plans as for one alone, so that each finds its room when it is loaded.
    #[test]
    fn two_models_share_what_one_has_alone() {
        let two = [needs(SCHNELL, true); 2];
        let planned = |limit: u64| -> Vec<bool> {
            let shares = MemoryNeeds::share(&two, Some(limit)).unwrap();
            let plans = shares.iter().map(|share| plan(*share, true).unwrap());
            let plans: Vec<MemoryPlan> = plans.collect();
            let weights: u64 = plans.iter().map(|plan| plan.weight_bytes).sum();
            assert!(weights <= limit);
            plans.iter().map(MemoryPlan::text_on_host).collect()
        };
        assert_eq!(planned(80 * GB), [false, false]);
        assert_eq!(planned(60 * GB), [true, true]);
        assert!(MemoryNeeds::share(&two, None).unwrap().iter().all(Option::is_none));
        for limit in [36 * GB, 48 * GB] {
            let refused = MemoryNeeds::share(&two, Some(limit)).unwrap_err();
            assert!(matches!(refused, Error::MemoryLimit { .. }), "{refused}");
        }
        // One alone would do.
        assert!(MemoryNeeds::share(&two[..1], Some(36 * GB)).is_ok());
    }

    #[test]
    fn more_weights_than_a_cpu_has_memory_for_are_refused_before_one_is_read() {
        let large = WeightBytes { text_encoders: 1 << 50, transformer_and_autoencoder: 0 };
        let refused = MemoryNeeds::share(&[needs(large, false); 2], None).unwrap_err();
        assert!(matches!(refused, Error::HostMemory { .. }), "{refused}");
        assert!(MemoryNeeds::share(&[needs(large, true); 2], None).is_ok());
    }

    #[test]
    fn larger_images_need_more() {
        let needs = |pixels| {
            let limit = Some(MemoryLimit { bytes: 1, pixels });
            match MemoryPlan::new(limit, SCHNELL, &schnell(), DType::BF16, true) {
                Err(Error::MemoryLimit { needed_bytes, .. }) => needed_bytes,
                other => panic!("{other:?}"),
            }
        };
        assert!(needs(4 << 20) > needs(1 << 20) + GB);
        assert_eq!(needs(1 << 16), needs(1 << 8));
        assert!(needs(u64::MAX) > 1 << 63);
    }

    #[test]
    fn a_file_is_as_long_as_its_weights_in_16_bits() {
        let weights = |precision, on_gpu| {
            let files = ROLES.into_iter().zip([100, 180, 18]);
            WeightBytes::of_files(files, &schnell(), precision, on_gpu)
        };
        assert_eq!(weights(Precision::Bf16, true).text_encoders, 100);
        assert_eq!(weights(Precision::F32, true).transformer_and_autoencoder, 396);
        assert_eq!(weights(Precision::F32, false).transformer_and_autoencoder, 360 + 64);
        assert_eq!(weights(Precision::Bf16, false).transformer_and_autoencoder, 180 + 18);
    }

    /// 23.8 GB of which 17.2 are the blocks' layers.
    #[test]
    fn in_8_bits_the_blocks_are_half_as_large() {
        let files = ROLES.into_iter().zip([9_770_000_000, 23_782_000_000, 168_000_000]);
        let of = |precision| WeightBytes::of_files(files.clone(), &schnell(), precision, true);
        let saved = of(Precision::Bf16).transformer_and_autoencoder
            - of(Precision::Fp8).transformer_and_autoencoder;
        assert_eq!(saved, 76 * 12 * 3072 * 3072);
        assert_eq!(of(Precision::Bf16).text_encoders, of(Precision::Fp8).text_encoders);
    }
}
