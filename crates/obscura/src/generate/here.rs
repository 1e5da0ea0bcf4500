//! Images that this process draws.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use flux::{Image, Job, LargestBatch, Preview, ProgressObserver, Timings};
use protocol::{Format, Limits, Seed, Size, Steps, Style};
use serde_json::json;

use super::{Arrived, Desk, Order};
use crate::{
    args::GenerateArgs,
    model, output,
    progress::{Phase, Progress},
};

/// Of an image whose size nobody said: 1024×1024.
const COMMON_PIXELS: u64 = 1 << 20;

/// Of an image that is as large as its first input image.
const BOUNDS: Limits =
    Limits { max_pixels: COMMON_PIXELS, max_total_pixels: u64::MAX, max_prompt_chars: usize::MAX };

pub(super) fn draw(
    args: &GenerateArgs,
    order: Order,
    timings: bool,
    desk: &mut Desk,
) -> anyhow::Result<()> {
    flux::groups::turned_off()?;
    if args.model.model == model::DEMO {
        output::note(format_args!("note: the model is {}", model::DEMO_NOTICE));
    }
    let loading = Instant::now();
    let pixels = order.size.map_or(COMMON_PIXELS, Size::pixels);
    let pipeline = model::load(&args.model, LargestBatch { images: 1, pixels })?;
    let load_seconds = loading.elapsed().as_secs_f64();
    ensure!(
        order.guidance.is_none() || pipeline.reads_guidance(),
        "--guidance: the model takes none (FLUX.1-dev does)"
    );

    let inputs = order.inputs.len();
    ensure!(
        inputs <= pipeline.max_input_images(),
        "--image: the model takes {} input images (FLUX.2-klein takes four), not {inputs}",
        pipeline.max_input_images()
    );
    let steps = order.steps();
    let masked = order.inputs.masked_size()?;
    if let (Some(masked), Some(size)) = (masked, order.size) {
        ensure!(
            size == masked,
            "--size: with a mask, an image is as large as the first is read: {masked}"
        );
    }
    let size = masked.or(order.size).unwrap_or_else(|| match order.inputs.first_px() {
        Some(first_px) => BOUNDS.nearest_size(first_px),
        None => pipeline.native_size(),
    });
    let (images, was_transparent) = order.inputs.decode()?;
    let name = model::id(&args.model, None).unwrap_or_else(|_| args.model.model.clone());
    let started = Instant::now();
    let mut spent = Spent::default();
    let progress = Progress::begin(Phase::Reading);
    if was_transparent {
        let note = "an image is transparent in places; the model sees white there";
        desk.note(note, &progress);
    }
    let all = order.prompts.len();
    for (number, prompt) in order.prompts.into_iter().enumerate() {
        let prompt = match order.style {
            Style::Natural => prompt,
            Style::Vivid => prompt.vivid(),
        };
        progress.set_prompt(number + 1, all);
        progress.set(Phase::Reading);
        let seed = match order.seed {
            Some(seed) => seed,
            None => Seed::new(getrandom::u32().context("no randomness for a seed")?.into()),
        };
        let job = Job {
            prompt: &prompt,
            size,
            steps,
            seed,
            count: order.count,
            guidance: order.guidance.unwrap_or(flux::GUIDANCE),
            images: &images,
        };
        let mut watch = Watch {
            desk: &mut *desk,
            progress: &progress,
            prompt: number,
            images: order.count.get(),
            steps,
            seed,
            model: &name,
            encoding: Duration::ZERO,
            failed: None,
        };
        let generated = pipeline.generate_watched(&job, &mut watch);
        spent.image_encode += watch.encoding;
        if let Some(error) = watch.failed {
            return Err(error);
        }
        let generated = generated?;
        spent.add(&generated.timings);
        if generated.prompt_tokens.truncated {
            let note = "the prompt is longer than the text encoder reads; its end was cut";
            desk.note(note, &progress);
        }
    }
    drop(progress);
    // Files are written on the way.
    let generate_seconds = started.elapsed().saturating_sub(spent.image_encode).as_secs_f64();
    let spent = json!({
        "generate_seconds": generate_seconds, "stages": spent.to_json(), "load_seconds": load_seconds,
    });
    if timings {
        desk.report.line(&spent.to_string())?;
    }
    Ok(desk.report.summary(spent)?)
}

/// Time over all prompts.
#[derive(Default)]
struct Spent {
    model: Timings,
    image_encode: Duration,
}

impl Spent {
    fn add(&mut self, timings: &Timings) {
        self.model.encode += timings.encode;
        self.model.denoise += timings.denoise;
        self.model.decode += timings.decode;
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "text_encode": self.model.encode.as_secs_f64(),
            "denoise": self.model.denoise.as_secs_f64(),
            "decode": self.model.decode.as_secs_f64(),
            "image_encode": self.image_encode.as_secs_f64(),
        })
    }
}

/// Shows how far the job is, and takes each image as soon as it is there.
struct Watch<'a> {
    desk: &'a mut Desk,
    progress: &'a Progress,
    prompt: usize,
    images: usize,
    steps: Steps,
    seed: Seed,
    model: &'a str,
    /// Spent on files.
    encoding: Duration,
    /// Why the job was ended, where it was.
    failed: Option<anyhow::Error>,
}

impl Watch<'_> {
    fn take(&mut self, index: usize, image: &Image) -> anyhow::Result<()> {
        let started = Instant::now();
        let file = engine::encode(image, self.desk.output.format())?;
        let arrived = Arrived {
            file: &file,
            beside: None,
            prompt: self.prompt,
            index,
            seed: Some(self.seed.offset(index).get()),
            size: image.size,
            model: self.model,
        };
        self.desk.put(&arrived, self.progress)?;
        self.encoding += started.elapsed();
        Ok(())
    }
}

impl ProgressObserver for Watch<'_> {
    fn progress(&mut self, progress: flux::Progress) -> ControlFlow<()> {
        let images = self.images as u64;
        match progress {
            flux::Progress::Encoded => {
                let steps = (self.steps.get() * self.images) as u64;
                self.progress.set(Phase::Drawing { step: 0, steps, images });
            }
            flux::Progress::Step { done, total } => {
                let (step, steps) = (done as u64, total as u64);
                self.progress.set(Phase::Drawing { step, steps, images });
                if done.is_multiple_of(self.steps.get()) {
                    let image = (done / self.steps.get()).saturating_sub(1) as u64;
                    self.progress.set(Phase::Decoding { image, images });
                }
            }
            flux::Progress::Decoded { .. } => {}
        }
        match self.failed {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    }

    fn image(&mut self, index: usize, image: &Image) {
        if let Err(error) = self.take(index, image) {
            self.failed = Some(error);
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), flux::Error> {
        if self.desk.terminal.is_some()
            && let Ok(file) = engine::encode(&preview.image()?, Format::Png)
        {
            self.desk.show(&file, self.progress);
        }
        Ok(())
    }
}
