//! How long images take. Large weights are random and made on the device: no files are needed.

mod edit;
mod synthetic;

pub(crate) use synthetic::dimensions_of;
#[cfg(test)]
pub(crate) use synthetic::{configs as configs_of_schnell, klein_configs};

use std::{
    num::NonZeroUsize,
    ops::ControlFlow,
    time::{Duration, Instant},
};

pub use edit::{EditCost, edit_cost};

use candle_core::{Device, Tensor};
use kernels::Precision;
use protocol::{Count, Prompt, Seed, Size, Steps};

use crate::{
    Error, GUIDANCE, Image, Job, LargestBatch, MemoryLimit, Pipeline, Result, clock::Event,
    denoise::Settings, memory::whole_working_bytes,
};

/// What model is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// FLUX.1-schnell's shapes, 17 billion parameters, random weights.
    Schnell,
    /// FLUX.2-klein-4B's shapes, random weights.
    Klein,
    /// The demo model: for seeing that this works, and for CPUs.
    Small,
}

impl Preset {
    /// Of the published model; `None` of the demo model, which is measured whole.
    #[must_use]
    pub fn blocks(self) -> Option<Blocks> {
        match self {
            Self::Schnell => Some(Blocks { double: 19, single: 38 }),
            Self::Klein => Some(Blocks { double: 5, single: 20 }),
            Self::Small => None,
        }
    }

    /// Bytes of the weights where a CPU holds them in `precision`. Of so many blocks where they are given, see
    /// [`BenchConfig::blocks`].
    #[must_use]
    pub fn cpu_weight_bytes(self, blocks: Option<Blocks>, precision: Precision) -> u64 {
        // T5-XXL's encoder, CLIP-L's text encoder, the transformer, the autoencoder.
        const SCHNELL: u64 = 4_762_310_656 + 123_060_480 + 11_891_178_560 + 83_819_683;
        // Qwen3's embedding and 27 layers, the transformer, the autoencoder: in round numbers.
        const KLEIN: u64 = 3_114_000_000 + 3_876_000_000 + 168_000_000;
        const SMALL: u64 = 20_000_000;
        // Embeddings of tokens and the autoencoder, which no precision has in 8 bits.
        const SCHNELL_KEPT: u64 = 169_541_632 + 83_819_683;
        const KLEIN_KEPT: u64 = 388_956_160 + 168_000_000;
        // Of one block of either kind, in squares of the width: schnell's modulate by themselves.
        const WIDTH_SQUARED: u64 = 3072 * 3072;
        let (whole, kept, of_double, of_single) = match self {
            Self::Schnell => (SCHNELL, SCHNELL_KEPT, 36 * WIDTH_SQUARED, 15 * WIDTH_SQUARED),
            Self::Klein => (KLEIN, KLEIN_KEPT, 26 * WIDTH_SQUARED, 13 * WIDTH_SQUARED),
            Self::Small => (SMALL, 0, 0, 0),
        };
        let of =
            |blocks: Blocks| blocks.double as u64 * of_double + blocks.single as u64 * of_single;
        let cut =
            self.blocks().zip(blocks).map_or(0, |(all, left)| of(all).saturating_sub(of(left)));
        let parameters = whole - cut;
        match precision {
            Precision::F32 => 4 * parameters,
            Precision::Bf16 | Precision::Fp8 => 2 * parameters,
            // With four bytes of a scale for each 256 of them.
            Precision::Int8 => 4 * kept + (parameters - kept) / 64 * 65,
        }
    }

    /// Bytes that a CPU takes beside the weights while it draws such a batch in `precision`, by estimate.
    #[must_use]
    pub fn cpu_working_bytes(self, precision: Precision, batch: LargestBatch) -> u64 {
        let dimensions = dimensions_of(self).expect("a test reads each preset's configurations");
        whole_working_bytes(&dimensions, precision.dtype(), batch)
    }
}

/// Blocks of a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// In which image and text have weights of their own; at least one.
    pub double: usize,
    /// In which they share them; at least one.
    pub single: usize,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct BenchConfig {
    /// Of which shapes.
    pub preset: Preset,
    /// How many blocks the transformer has, at most the published model's; `None` for all of them. A few show how
    /// long one takes at the true width where there is no time or memory for all.
    pub blocks: Option<Blocks>,
    /// In which precision.
    pub precision: Precision,
    /// Of each image.
    pub size: Size,
    /// Of each image.
    pub steps: Steps,
    /// How many images are drawn together.
    pub batch: Count,
    /// How much of the device's memory may be taken; see [`crate::LoadOptions`].
    pub memory_limit: Option<MemoryLimit>,
    /// Batches of them that are not counted: the first one finds the fastest algorithms.
    pub warmups: usize,
    /// Batches that are.
    pub runs: usize,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Of each batch: wall time from the prompt to the end of the caller's `finish`.
    pub seconds: Vec<f64>,
    /// Each part, the median of the runs; the last one is the caller's `finish`.
    pub stages: Vec<Stage>,
    /// Of a GPU.
    pub memory: Option<Memory>,
}

/// How much of a GPU's memory tensors took; the libraries' own is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The most at any time, weights included.
    pub peak_bytes: u64,
    /// Of it, the weights.
    pub weight_bytes: u64,
}

/// A part of making an image.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Which one.
    pub name: &'static str,
    /// On the device that computes.
    pub milliseconds: f64,
    /// Floating-point operations, in units of 10¹².
    pub teraflop: f64,
}

/// What is drawn; its words do not matter, its padded length does.
const PROMPT: &str = "a photo of a cat sitting on a wooden table";

/// Makes the model on the device, and images with it; `finish` is given each image.
///
/// # Errors
/// Where the device has no room or cannot compute in the precision, or a kernel fails.
pub fn measure(
    device: &Device,
    config: &BenchConfig,
    finish: &mut dyn FnMut(&Image),
) -> Result<Measured, Error> {
    let (precision, limit) = (config.precision, config.memory_limit);
    let mut pipeline = match config.preset {
        Preset::Schnell | Preset::Klein => {
            Pipeline::synthetic(config.preset, config.blocks, device, precision, limit)?
        }
        Preset::Small => Pipeline::demo_as(device, precision, limit)?,
    };
    let batch = NonZeroUsize::new(config.batch.get()).unwrap_or(NonZeroUsize::MIN);
    pipeline.set_max_batch(batch);
    device.synchronize()?;
    let weights = memory(device)?;
    for seed in 0..config.warmups {
        draw(&pipeline, config, seed, finish)?;
    }
    // What the warm-ups took is not counted.
    memory(device)?;
    let drawn = (0..config.runs)
        .map(|seed| draw(&pipeline, config, seed, finish))
        .collect::<Result<Vec<_>>>()?;
    let peak = memory(device)?;
    let mut stages = stages(&pipeline, config)?;
    stages.push(Stage {
        name: "png",
        milliseconds: median(&mut drawn.iter().map(|drawn| 1e3 * drawn.finish).collect::<Vec<_>>()),
        teraflop: 0.0,
    });
    Ok(Measured {
        seconds: drawn.iter().map(|drawn| drawn.all).collect(),
        stages,
        memory: weights
            .zip(peak)
            .map(|([weight_bytes, _], [_, peak_bytes])| Memory { peak_bytes, weight_bytes }),
    })
}

/// Seconds of one batch.
struct Drawn {
    all: f64,
    finish: f64,
}

fn draw(
    pipeline: &Pipeline,
    config: &BenchConfig,
    seed: usize,
    finish: &mut dyn FnMut(&Image),
) -> Result<Drawn> {
    let started = Instant::now();
    let prompt = Prompt::new(PROMPT.to_owned()).expect("a short text is a prompt");
    let BenchConfig { size, steps, batch: count, .. } = *config;
    let seed = Seed::new(seed as u64);
    let job = Job { prompt: &prompt, size, steps, seed, count, guidance: GUIDANCE, images: &[] };
    let made = pipeline.generate(&job, &mut |_| ControlFlow::Continue(()))?;
    let made_after = started.elapsed();
    made.images.iter().for_each(finish);
    let all = started.elapsed();
    Ok(Drawn { all: all.as_secs_f64(), finish: (all - made_after).as_secs_f64() })
}

/// Each part of a batch between two events of the device, on images of its own.
fn stages(pipeline: &Pipeline, config: &BenchConfig) -> Result<Vec<Stage>> {
    const NAMES: [&str; 4] = ["text_encoders", "preparation", "denoising", "decoding"];
    let (device, images) = (&pipeline.model.device, config.batch.get());
    let mut milliseconds: [Vec<f64>; 4] = Default::default();
    for seed in 0..config.runs {
        let mut events = vec![Event::now(device)?];
        let encoded = pipeline.encode(PROMPT, &[], config.size)?;
        events.push(Event::now(device)?);
        let BenchConfig { size, steps, .. } = *config;
        let prompts = vec![&encoded; images];
        let context = pipeline.start(&prompts, &Settings { size, steps, guidance: GUIDANCE })?;
        let noise = pipeline.noise(context.grid, Seed::new(seed as u64), device)?;
        let mut latents = Tensor::cat(&vec![noise; images], 0)?;
        events.push(Event::now(device)?);
        for step in 0..steps.get() {
            latents = pipeline.step(&context, step, &latents)?;
        }
        events.push(Event::now(device)?);
        for image in latents.chunk(images, 0)? {
            pipeline.rgb(&context, &image)?;
        }
        events.push(Event::now(device)?);
        for (of_stage, pair) in milliseconds.iter_mut().zip(events.windows(2)) {
            let took: Duration = pair[0].until(&pair[1])?;
            of_stage.push(1e3 * took.as_secs_f64());
        }
    }
    let work = pipeline.model.config.work(config.size, config.steps.get());
    let work = work.times(images);
    let of_stages = [work.encoders, work.preparation, work.denoising, work.decoding];
    Ok(NAMES
        .into_iter()
        .zip(milliseconds.iter_mut().map(|values| median(values)))
        .zip(of_stages)
        .map(|((name, milliseconds), work)| Stage { name, milliseconds, teraflop: work / 1e12 })
        .collect())
}

/// A GPU's memory: what is used now and was used at most; the peak begins again from here.
#[cfg(feature = "cuda")]
fn memory(device: &Device) -> Result<Option<[u64; 2]>> {
    if !device.is_cuda() {
        return Ok(None);
    }
    let memory = kernels::cuda::memory_use(device)?;
    kernels::cuda::MemoryUse::reset_peak(device)?;
    Ok(Some([memory.used_bytes, memory.peak_bytes]))
}

#[cfg(not(feature = "cuda"))]
fn memory(_: &Device) -> Result<Option<[u64; 2]>> {
    Ok(None)
}

/// The middle one, or the mean of the middle two; 0 of none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match &*values {
        [] => 0.0,
        sorted if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        sorted => sorted[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn drawing_takes_more_where_images_are_larger_or_more_at_once() {
        for preset in [Preset::Schnell, Preset::Klein, Preset::Small] {
            let of = |precision, images, side: u64| {
                let pixels = images * side * side;
                preset.cpu_working_bytes(precision, LargestBatch { images, pixels })
            };
            let one = of(Precision::F32, 1, 1024);
            assert!(of(Precision::F32, 1, 2048) >= 3 * one, "{preset:?}");
            assert!(of(Precision::F32, 16, 1024) >= 2 * one, "{preset:?}");
            assert_eq!(of(Precision::Bf16, 1, 1024), one / 2);
            // Weights in 8 bits are multiplied by rows in f32.
            assert_eq!(of(Precision::Int8, 1, 1024), one);
        }
    }

    #[test]
    fn a_small_model_is_measured_on_a_cpu() {
        let config = BenchConfig {
            preset: Preset::Small,
            blocks: None,
            precision: Precision::F32,
            size: Size::new(64, 48).unwrap(),
            steps: Steps::new(2).unwrap(),
            batch: Count::new(2).unwrap(),
            memory_limit: None,
            warmups: 0,
            runs: 1,
        };
        let mut sizes = Vec::new();
        let measured = measure(&Device::Cpu, &config, &mut |image| sizes.push(image.size)).unwrap();
        assert_eq!(sizes, [config.size; 2]);
        let names: Vec<&str> = measured.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["text_encoders", "preparation", "denoising", "decoding", "png"]);
        assert!(measured.stages[2].milliseconds > 0.0 && measured.stages[2].teraflop > 0.0);
        // What was not measured is not made up.
        assert!(measured.memory.is_none());
        let in_8_bits = BenchConfig { precision: Precision::Fp8, ..config };
        assert!(measure(&Device::Cpu, &in_8_bits, &mut |_| {}).is_err());
    }
}
