//! The pipeline from end to end, with the demo model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{num::NonZeroUsize, ops::ControlFlow};

use candle_core::Device;
use flux::{
    Error, Generated, Image, Job, Pipeline, Precision, Preview, Progress, ProgressObserver,
    StageInputs,
};
use protocol::{Count, Prompt, Seed, Size, Steps};

/// A small image of a seed.
fn draw(pipeline: &Pipeline, prompt: &str, seed: u64, count: i64) -> Generated {
    let prompt = Prompt::new(prompt.to_owned()).unwrap();
    let job = Job {
        prompt: &prompt,
        size: Size::new(64, 48).unwrap(),
        steps: Steps::new(2).unwrap(),
        seed: Seed::new(seed),
        count: Count::new(count).unwrap(),
        guidance: flux::GUIDANCE,
        images: &[],
    };
    pipeline.generate(&job, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn pixels(generated: &Generated, index: usize) -> &[u8] {
    &generated.images[index].rgb
}

#[test]
fn the_same_job_gives_the_same_image() {
    let (one, other) =
        (Pipeline::demo(&Device::Cpu).unwrap(), Pipeline::demo(&Device::Cpu).unwrap());
    assert_eq!(one.digest(), other.digest());
    let first = draw(&one, "a red circle", 7, 1);
    assert_eq!(pixels(&first, 0).len(), 64 * 48 * 3);
    assert_eq!(pixels(&first, 0), pixels(&draw(&one, "a red circle", 7, 1), 0));
    assert_eq!(pixels(&first, 0), pixels(&draw(&other, "a red circle", 7, 1), 0));
}

#[test]
fn images_of_a_batch_are_those_made_alone() {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    let batch = draw(&pipeline, "a red circle", 40, 3);
    assert_eq!(batch.images.len(), 3);
    for index in 0..3 {
        let alone = draw(&pipeline, "a red circle", 40 + index as u64, 1);
        assert_eq!(pixels(&batch, index), pixels(&alone, 0), "image {index}");
    }
}

/// It is the same image but for rounding, and bit by bit the one made alone.
fn draws_the_same_images(precision: Precision, place: &str, least_decibels: f64) {
    let exact = draw(&Pipeline::demo(&Device::Cpu).unwrap(), "a red circle", 7, 1);
    let pipeline = Pipeline::demo_as(&Device::Cpu, precision, None).unwrap();
    assert!(pipeline.place().starts_with(place), "{}", pipeline.place());
    let mut batched = Pipeline::demo_as(&Device::Cpu, precision, None).unwrap();
    batched.set_max_batch(NonZeroUsize::new(2).unwrap());
    let both = draw(&batched, "a red circle", 6, 2);
    let alone = draw(&pipeline, "a red circle", 7, 1);
    assert!(pixels(&both, 1) == pixels(&alone, 0), "another image");
    let pairs = pixels(&exact, 0).iter().zip(pixels(&alone, 0));
    let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let decibels = 10.0 * (255f64.powi(2) * (64.0 * 48.0 * 3.0) / squares).log10();
    assert!(decibels > least_decibels, "{decibels} dB");
}

#[test]
fn bf16_draws_the_same_images() {
    draws_the_same_images(Precision::Bf16, "cpu bf16 (", 30.0);
}

#[test]
fn weights_in_8_bits_draw_the_same_images() {
    // With AVX-512 VNNI, rows are rounded to 8 bits as the weights are.
    let rows_too = flux::int8_row_bits() == 8;
    draws_the_same_images(Precision::Int8, "cpu int8 (", if rows_too { 35.0 } else { 40.0 });
}

#[test]
fn prompt_and_seed_matter() {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    let [yellow, blue] = ["yellow", "blue"].map(|on| format!("a red circle on a {on} background"));
    let first = draw(&pipeline, &yellow, 1, 1);
    let difference = |other: &Generated| {
        let pairs = pixels(&first, 0).iter().zip(pixels(other, 0));
        let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        f64::from(sum) / (64.0 * 48.0 * 3.0)
    };
    let [prompt, seed] = [(&blue, 1), (&yellow, 2)]
        .map(|(prompt, seed)| difference(&draw(&pipeline, prompt, seed, 1)));
    // Of 255, on average: a prompt decides what is drawn, a seed no more than how.
    assert!(prompt > 40.0 && seed > 0.1 && seed < prompt, "{prompt} {seed}");
}

#[test]
fn a_job_can_be_stopped_between_steps() {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    let prompt = Prompt::new("a red circle".to_owned()).unwrap();
    let size = Size::new(32, 32).unwrap();
    let (steps, count) = (Steps::new(3).unwrap(), Count::new(2).unwrap());
    let guidance = flux::GUIDANCE;
    let job =
        Job { prompt: &prompt, size, steps, seed: Seed::new(0), count, guidance, images: &[] };
    for stop_after in 0..8 {
        let mut told = Vec::new();
        let result = pipeline.generate(&job, &mut |progress| {
            told.push(progress);
            if told.len() > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(told.len(), stop_after + 1);
    }
    let mut told = Vec::new();
    let mut watch = |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    };
    pipeline.generate(&job, &mut watch).unwrap();
    let step = |done| Progress::Step { done, total: 6 };
    let decoded = |done| Progress::Decoded { done, total: 2 };
    let first = [Progress::Encoded, step(1), step(2), step(3), decoded(1)];
    let second = [step(4), step(5), step(6), decoded(2)];
    assert_eq!(told, [&first[..], &second[..]].concat());
}

#[test]
fn every_size_is_drawn() {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    assert_eq!(pipeline.native_size(), Size::new(256, 256).unwrap());
    for (width, height) in [(16, 16), (48, 16), (16, 80), (112, 64)] {
        let stages = pipeline
            .stages(&StageInputs {
                text: "",
                size: Size::new(width, height).unwrap(),
                steps: Steps::new(1).unwrap(),
                seed: Seed::new(0),
                guidance: 3.5,
                images: &[],
            })
            .unwrap();
        assert_eq!(stages.image_u8.len(), (width * height * 3) as usize);
        assert!(stages.image.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn long_prompts_are_truncated_and_say_so() {
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    let short = pipeline.prompt_tokens(&Prompt::new("a red fox".to_owned()).unwrap()).unwrap();
    // Two words it knows, the letters of one that it does not, the end.
    assert_eq!((short.t5, short.truncated), (6, false));
    let long = pipeline.prompt_tokens(&Prompt::new("fox ".repeat(200)).unwrap()).unwrap();
    assert_eq!((long.t5, long.truncated), (256, true));
}

/// A preview after a step is what the step's flow points at: at the last level but one it is close to
/// the image, and looking changes nothing.
#[test]
fn previews_are_real_and_change_nothing() {
    struct Looker(Vec<(usize, usize, Image)>);
    impl ProgressObserver for Looker {
        fn progress(&mut self, _: Progress) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn preview(&mut self, preview: &Preview<'_>) -> Result<(), Error> {
            self.0.push((preview.index, preview.step, preview.image()?));
            Ok(())
        }
    }
    let pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    let prompt = Prompt::new("a red circle".to_owned()).unwrap();
    let job = Job {
        prompt: &prompt,
        size: Size::new(64, 48).unwrap(),
        steps: Steps::new(4).unwrap(),
        seed: Seed::new(7),
        count: Count::new(2).unwrap(),
        guidance: flux::GUIDANCE,
        images: &[],
    };
    let mut looker = Looker(Vec::new());
    let watched = pipeline.generate_watched(&job, &mut looker).unwrap();
    let alone = pipeline.generate(&job, &mut |_| ControlFlow::Continue(())).unwrap();
    for (watched, alone) in watched.images.iter().zip(&alone.images) {
        assert!(watched.rgb == alone.rgb);
    }
    let places: Vec<_> = looker.0.iter().map(|(index, step, _)| (*index, *step)).collect();
    assert_eq!(places, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    let distance = |index: usize, step: usize| -> u64 {
        let image = &watched.images[index].rgb;
        let preview = &looker.0.iter().find(|seen| (seen.0, seen.1) == (index, step)).unwrap().2;
        image.iter().zip(preview.rgb.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
    };
    for index in 0..2 {
        assert!(distance(index, 3) > 0, "not the image itself");
        assert!(distance(index, 3) < distance(index, 1), "later is closer");
    }
}
