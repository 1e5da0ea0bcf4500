//! Group normalisation of images with their channels last.

use candle_core::{DType, Tensor};

use crate::{
    cuda::{
        Error, Result,
        context::{self, PushKernelArg, THREADS, grid},
        tensor::{Operand, Output, VECTOR, device},
    },
    operand::{Activation, GroupNorm},
};

const NAME: &str = "group norm";

/// x (h, w, c) → (x − mean) / √(var + ε) ∘ weight + bias, and silu of that where asked: (h, w, c).
/// bf16 or f32. The sums are taken in a fixed order: the result is the same every time.
///
/// # Errors
/// `Unsupported` for activations other than silu, and for groups that neither divide eight channels
/// nor consist of eights.
pub(super) fn group_norm(x: &Tensor, norm: &GroupNorm, then: Option<Activation>) -> Result<Tensor> {
    let silu = match then {
        None => 0i32,
        Some(Activation::Silu) => 1,
        Some(_) => return Err(Error::Unsupported { kernel: NAME, what: "this activation" }),
    };
    let (height, width, channels) = x.dims3()?;
    let operand = Operand::contiguous(NAME, x)?;
    let work = Work::new(height * width, channels, norm.groups)?;
    let weight = Operand::companion((NAME, "weight"), &norm.weight, operand.dtype, &[channels])?;
    let bias = Operand::companion((NAME, "bias"), &norm.bias, operand.dtype, &[channels])?;
    let suffix = operand.suffix()?;
    let context = context::of(device(NAME, x)?)?;
    let blocks = work.blocks(context.multiprocessors as usize);
    // SAFETY: the three kernels below write them whole, one after the other.
    let (partial, statistics, y) = unsafe {
        (
            Output::new(&context.device, (blocks, norm.groups, 2), DType::F64)?,
            Output::new(&context.device, (norm.groups, 2), DType::F32)?,
            Output::new(&context.device, (height, width, channels), operand.dtype)?,
        )
    };
    let (pixels, columns, groups) = (work.pixels as i32, work.columns as i32, norm.groups as i32);

    let mut call = context.call("group_sums", suffix)?;
    call.arg(&operand.address).arg(&partial.address).arg(&pixels).arg(&columns).arg(&groups);
    let mut config = grid(blocks as u32, work.threads());
    config.shared_mem_bytes = work.shared_bytes() as u32;
    // SAFETY: the kernel's arguments in its order; x has pixels · columns vectors, `partial` two sums
    // for each group of each block, and the shared memory is what `Work` counts.
    unsafe { call.launch(config) }?;

    let (block_count, values) = (blocks as i32, work.values_of_group());
    let mut call = context.call_named(NAME, "group_finish")?;
    call.arg(&partial.address).arg(&statistics.address).arg(&block_count).arg(&groups);
    call.arg(&values).arg(&GroupNorm::EPS);
    // SAFETY: the kernel's arguments in its order; one warp for each group.
    unsafe { call.launch(grid(norm.groups as u32, 32)) }?;

    let mut call = context.call("group_apply", suffix)?;
    call.arg(&operand.address).arg(&statistics.address).arg(&weight.address).arg(&bias.address);
    call.arg(&y.address).arg(&pixels).arg(&columns).arg(&groups).arg(&silu);
    // SAFETY: the kernel's arguments in its order; x and y have pixels · columns vectors, weight and
    // bias one row of columns.
    unsafe { call.launch(grid(blocks as u32, work.threads())) }?;
    Ok(y.into_tensor())
}

/// How an image is divided among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    pixels: usize,
    /// Vectors of a pixel.
    columns: usize,
    channels_of_group: usize,
}

impl Work {
    fn new(pixels: usize, channels: usize, groups: usize) -> Result<Self> {
        let unsupported = |what| Error::Unsupported { kernel: NAME, what };
        if groups == 0 || !channels.is_multiple_of(groups) || !channels.is_multiple_of(VECTOR) {
            return Err(unsupported("this many channels"));
        }
        let (columns, channels_of_group) = (channels / VECTOR, channels / groups);
        let fits =
            VECTOR.is_multiple_of(channels_of_group) || channels_of_group.is_multiple_of(VECTOR);
        if !fits || columns > 1024 || pixels > i32::MAX as usize {
            return Err(unsupported("groups of this size"));
        }
        let work = Self { pixels, columns, channels_of_group };
        // What a block may have without asking the driver for more.
        if work.shared_bytes() > 48 << 10 {
            return Err(unsupported("groups of so few of so many channels"));
        }
        Ok(work)
    }

    /// Pixels that a block works on at a time.
    fn rows(&self) -> usize {
        (THREADS / self.columns).max(1)
    }

    fn threads(&self) -> usize {
        self.rows() * self.columns
    }

    /// Groups that one thread's eight channels touch.
    fn slots(&self) -> usize {
        (VECTOR / self.channels_of_group).max(1)
    }

    /// Two f64 for each slot of each thread.
    fn shared_bytes(&self) -> usize {
        self.threads() * self.slots() * 2 * size_of::<f64>()
    }

    /// Enough to fill the device, each with pixels to work on.
    fn blocks(&self, multiprocessors: usize) -> usize {
        self.pixels.div_ceil(self.rows()).clamp(1, multiprocessors * 8)
    }

    fn values_of_group(&self) -> f64 {
        self.pixels as f64 * self.channels_of_group as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flux_autoencoders_fill_blocks_of_256() {
        for (channels, columns, rows, slots) in [(512, 64, 4, 1), (256, 32, 8, 1), (128, 16, 16, 2)]
        {
            let work = Work::new(1024 * 1024, channels, 32).unwrap();
            assert_eq!((work.columns, work.rows(), work.slots()), (columns, rows, slots));
            assert_eq!(work.threads(), 256);
            assert!(work.shared_bytes() <= 48 << 10);
            assert_eq!(work.blocks(132), 1056);
        }
    }

    #[test]
    fn the_demo_models_groups_fit_too() {
        for channels in [16, 32, 64] {
            let work = Work::new(256 * 256, channels, 8).unwrap();
            assert!(work.shared_bytes() <= 48 << 10, "{channels}");
            assert_eq!(work.threads() % work.columns, 0);
        }
    }

    #[test]
    fn small_images_take_few_blocks_and_odd_groups_none() {
        assert_eq!(Work::new(3, 512, 32).unwrap().blocks(132), 1);
        assert!(Work::new(64, 24, 2).is_err());
        assert!(Work::new(64, 36, 4).is_err());
        assert!(Work::new(64, 32, 0).is_err());
        assert!(Work::new(64, 8192, 8192).is_err());
    }
}
