//! How long pictures take at FLUX.1-schnell's true size, on random weights: no files are needed.

mod work;

use std::{ops::ControlFlow, time::Instant};

use candle_core::Device;
use protocol::{Count, Prompt, Seed, Size, Steps};

use crate::{Error, GUIDANCE, Job, Picture, Pipeline, Result, pipeline::Settings};
use work::Work;

/// What the transformer's blocks compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// bf16 throughout.
    Bf16,
    /// The blocks' linear layers in e4m3, the rest in bf16.
    Fp8,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// In which tier.
    pub tier: Tier,
    /// Of each picture.
    pub size: Size,
    /// Of each picture.
    pub steps: Steps,
    /// Pictures that are not counted: the first one finds the fastest algorithms.
    pub warmups: usize,
    /// Pictures that are.
    pub runs: usize,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Of each picture: wall time from the prompt to the end of the caller's `finish`.
    pub seconds: Vec<f64>,
    /// Device time of each part, the median of the runs.
    pub stages: Vec<Stage>,
    /// The most memory that tensors took at any time, weights included.
    pub peak_bytes: u64,
    /// Of it, the weights.
    pub weight_bytes: u64,
}

/// A part of making a picture.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Which one.
    pub name: &'static str,
    /// Device time.
    pub milliseconds: f64,
    /// Floating-point operations, in units of 10¹².
    pub teraflop: f64,
    /// The least time that those take an H200: at 790 TFLOP/s in bf16, 1500 in e4m3, both measured on
    /// large products of random matrices.
    pub floor_milliseconds: f64,
}

/// What is drawn; its words do not matter, its padded length does.
const PROMPT: &str = "a photo of a cat sitting on a wooden table";

/// Makes the model on the device, and pictures with it; `finish` is given each picture.
///
/// # Errors
/// Where the device has no room, or a kernel fails.
pub fn measure(
    device: &Device,
    protocol: &Protocol,
    finish: &mut dyn FnMut(&Picture),
) -> Result<Measured, Error> {
    let pipeline = Pipeline::synthetic(device)?;
    let pipeline = match protocol.tier {
        Tier::Bf16 => pipeline,
        Tier::Fp8 => pipeline.into_fp8()?,
    };
    device.synchronize()?;
    let weight_bytes = kernels::memory_use(device)?.used_bytes;
    let mut draw = |seed: usize| -> Result<f64> {
        let started = Instant::now();
        let prompt = Prompt::new(PROMPT.to_owned()).expect("a short text is a prompt");
        let count = Count::new(1).expect("one is a count");
        let Protocol { size, steps, .. } = *protocol;
        let seed = Seed::new(seed as u64);
        let job = Job { prompt: &prompt, size, steps, seed, count, guidance: GUIDANCE };
        let made = pipeline.generate(&job, &mut |_| ControlFlow::Continue(()))?;
        made.pictures.iter().for_each(&mut *finish);
        Ok(started.elapsed().as_secs_f64())
    };
    for seed in 0..protocol.warmups {
        draw(seed)?;
    }
    kernels::MemoryUse::forget_peak(device)?;
    let seconds = (0..protocol.runs).map(&mut draw).collect::<Result<_>>()?;
    let peak_bytes = kernels::memory_use(device)?.peak_bytes;
    let stages = stages(&pipeline, protocol)?;
    Ok(Measured { seconds, stages, peak_bytes, weight_bytes })
}

/// Each part between two marks in the device's stream, on its own pictures.
fn stages(pipeline: &Pipeline, protocol: &Protocol) -> Result<Vec<Stage>> {
    const NAMES: [&str; 4] = ["text encoders", "preparation", "denoising", "decoding"];
    let device = &pipeline.model.device;
    let mut milliseconds: [Vec<f64>; 4] = Default::default();
    for seed in 0..protocol.runs {
        let mut marks = vec![kernels::mark(device)?];
        let encoded = pipeline.encode(PROMPT)?;
        marks.push(kernels::mark(device)?);
        let Protocol { size, steps, .. } = *protocol;
        let run = pipeline.start(&encoded, &Settings { size, steps, guidance: GUIDANCE })?;
        let mut latents = run.grid.noise(Seed::new(seed as u64), device)?;
        marks.push(kernels::mark(device)?);
        for step in 0..steps.get() {
            latents = pipeline.step(&run, step, &latents)?;
        }
        marks.push(kernels::mark(device)?);
        pipeline.rgb(&run, &latents)?;
        marks.push(kernels::mark(device)?);
        for (of_stage, pair) in milliseconds.iter_mut().zip(marks.windows(2)) {
            of_stage.push(pair[0].milliseconds_to(&pair[1])?);
        }
    }
    let work = Work::of(&pipeline.model.configs, protocol.size, protocol.steps.get());
    let of_stages = [work.encoders, work.preparation, work.denoising, work.decoding];
    Ok(NAMES
        .into_iter()
        .zip(milliseconds.iter_mut().map(|values| median(values)))
        .zip(of_stages)
        .map(|((name, milliseconds), work)| Stage {
            name,
            milliseconds,
            teraflop: work.total() / 1e12,
            floor_milliseconds: work.floor_milliseconds(protocol.tier),
        })
        .collect())
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
}
