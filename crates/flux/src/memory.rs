//! Staying within a limit of a device's memory.
//!
//! Needs are estimated: of weights, from how many values their files' headers name; of what is computed, from the largest
//! tensors that are there at once. Two things are given up for room, in this order: text encoders rest in
//! the host's memory, and a layer at a time travels to the GPU for each prompt; images that are too
//! large to be decoded whole are decoded in tiles.

mod needs;
mod weights;
mod working;

use candle_core::{DType, Device};

pub use self::needs::MemoryNeeds;
use self::working::{decoding_bytes, working_bytes};
pub(crate) use self::{weights::WeightBytes, working::whole_working_bytes};
use crate::{Error, InputImage, Result, dimensions::Dimensions, latents::Grid};

/// The most that is drawn at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargestBatch {
    /// How many images.
    pub images: u64,
    /// Of all of them together.
    pub pixels: u64,
}

/// How much of a device's memory may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// By weights and everything that is computed.
    pub bytes: u64,
    /// What is drawn within it.
    pub batch: LargestBatch,
}

/// Where weights rest, and which images are decoded in tiles.
#[derive(Debug, Clone)]
pub(crate) struct MemoryPlan {
    limit: Option<MemoryLimit>,
    /// Of the weights that rest on the device.
    weight_bytes: u64,
    /// Of those that rest in the host's memory: all of a CPU's, of a GPU's the text encoders' where they do.
    host_weight_bytes: u64,
    /// What decoding input images takes there.
    decoding_inputs_bytes: u64,
    text_on_host: bool,
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
        let all = weights.all();
        let decoding_inputs_bytes = decoding_inputs_bytes(dimensions);
        let Some(MemoryLimit { bytes, batch }) = limit else {
            let host_weight_bytes = if on_gpu { 0 } else { all };
            return Ok(Self {
                limit,
                weight_bytes: all,
                host_weight_bytes,
                decoding_inputs_bytes,
                text_on_host: false,
            });
        };
        let working = working_bytes(dimensions, dtype, batch);
        let fits = |weights: u64| weights.saturating_add(working) <= bytes;
        let text_on_host = on_gpu && !fits(all);
        let weight_bytes = if text_on_host { transformer_and_autoencoder } else { all };
        if !fits(weight_bytes) {
            let needed_bytes = weight_bytes.saturating_add(working);
            return Err(Error::MemoryLimit { limit_bytes: bytes, needed_bytes });
        }
        let host_weight_bytes = match (on_gpu, text_on_host) {
            (false, _) => all,
            (true, true) => text_encoders,
            (true, false) => 0,
        };
        Ok(Self { limit, weight_bytes, host_weight_bytes, decoding_inputs_bytes, text_on_host })
    }

    /// Whether the host has room for the weights that rest there, and beside them for so many bytes while they are
    /// loaded, and later for input images that are decoded. To be asked before any is read: running out would end the process.
    ///
    /// # Errors
    /// [`Error::HostMemory`] where it has not. A host that does not say how much it has is tried.
    pub(crate) fn check_host(&self, beside_bytes: u64, host_bytes: Option<u64>) -> Result<()> {
        let beside_bytes = beside_bytes.max(self.decoding_inputs_bytes);
        check_host(self.host_weight_bytes.saturating_add(beside_bytes), host_bytes)
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

/// What decoding input images takes of the host's memory, where a model takes any: the largest files, as many as are
/// decoded at once. 1.6 GB, for a second or so.
fn decoding_inputs_bytes(dimensions: &Dimensions) -> u64 {
    match dimensions.max_input_images {
        0 => 0,
        _ => {
            let each = InputImage::MAX_FILE_PIXELS * InputImage::FILE_PIXEL_BYTES;
            each * InputImage::DECODED_AT_ONCE as u64
        }
    }
}

/// # Errors
/// [`Error::HostMemory`] where more is needed than there is.
fn check_host(needed_bytes: u64, host_bytes: Option<u64>) -> Result<()> {
    match host_bytes {
        Some(host_bytes) if needed_bytes > host_bytes => {
            Err(Error::HostMemory { needed_bytes, host_bytes })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::Preset, bench::dimensions_of};

    pub(super) fn schnell() -> Dimensions {
        dimensions_of(Preset::Schnell).unwrap()
    }

    pub(super) const GB: u64 = 1_000_000_000;
    /// An image of 1024×1024.
    pub(super) const ONE: LargestBatch = LargestBatch { images: 1, pixels: 1 << 20 };
    /// Of FLUX.1-schnell in bf16: CLIP and T5; transformer and autoencoder.
    pub(super) const SCHNELL: WeightBytes =
        WeightBytes { text_encoders: 9_770_000_000, transformer_and_autoencoder: 23_970_000_000 };

    fn plan(bytes: Option<u64>, on_gpu: bool) -> Result<MemoryPlan> {
        let limit = bytes.map(|bytes| MemoryLimit { bytes, batch: ONE });
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

    #[test]
    fn larger_images_need_more() {
        let needs = |pixels| {
            let limit = Some(MemoryLimit { bytes: 1, batch: LargestBatch { images: 1, pixels } });
            match MemoryPlan::new(limit, SCHNELL, &schnell(), DType::BF16, true) {
                Err(Error::MemoryLimit { needed_bytes, .. }) => needed_bytes,
                other => panic!("{other:?}"),
            }
        };
        assert!(needs(4 << 20) > needs(1 << 20) + GB);
        assert_eq!(needs(1 << 16), needs(1 << 8));
        assert!(needs(u64::MAX) > 1 << 63);
    }

    /// Of FLUX.1-schnell in bf16, whether the host has so many bytes for it.
    fn host_has_room(limit: Option<u64>, on_gpu: bool, host_bytes: u64) -> bool {
        match plan(limit, on_gpu).unwrap().check_host(0, Some(host_bytes)) {
            Ok(()) => true,
            Err(Error::HostMemory { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_rests_in_the_hosts_memory_must_have_room_there() {
        // All of it on a CPU, with a limit or without one.
        for limit in [None, Some(80 * GB)] {
            assert!(!host_has_room(limit, false, 33 * GB) && host_has_room(limit, false, 34 * GB));
        }
        // Beside a GPU, the text encoders where they leave it.
        assert!(host_has_room(Some(36 * GB), true, 0) && host_has_room(None, true, 0));
        assert!(!host_has_room(Some(28 * GB), true, 9 * GB));
        assert!(host_has_room(Some(28 * GB), true, 10 * GB));
        // Beside them, what else is held while they are read.
        let plan = plan(None, false).unwrap();
        assert!(matches!(plan.check_host(GB, Some(34 * GB)), Err(Error::HostMemory { .. })));
        assert!(plan.check_host(GB, None).is_ok());
    }

    /// Two files of 50 megapixels, each of 16 bytes; not beside what is held while weights are read.
    #[test]
    fn a_model_that_takes_images_has_room_to_decode_them() {
        let plan = |on_gpu| {
            let klein = dimensions_of(Preset::Klein).unwrap();
            MemoryPlan::new(None, SCHNELL, &klein, DType::BF16, on_gpu).unwrap()
        };
        let has_room = |on_gpu, beside_bytes, host_bytes| {
            plan(on_gpu).check_host(beside_bytes, Some(host_bytes)).is_ok()
        };
        let weights = SCHNELL.all();
        assert!(!has_room(false, 0, weights + 1_599_999_999));
        assert!(has_room(false, 0, weights + 1_600_000_000));
        assert!(has_room(false, GB, weights + 1_600_000_000));
        assert!(!has_room(false, 2 * GB, weights + 1_600_000_000));
        assert!(!has_room(true, 0, 1_599_999_999) && has_room(true, 0, 1_600_000_000));
    }
}
