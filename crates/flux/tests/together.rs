//! Images that are drawn together are those that are drawn alone, and a job's end is its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{num::NonZeroUsize, ops::ControlFlow};

use candle_core::Device;
use flux::{
    Error, Generated, Image, InputImage, Job, Pipeline, Preview, Progress, ProgressObserver,
};
use protocol::{Count, Prompt, Seed, Size, Steps};

const PROMPTS: [&str; 3] =
    ["a red circle", "a small yellow star above a red house on a green field", "two teal hearts"];

fn pipeline(together: usize) -> Pipeline {
    let mut pipeline = Pipeline::demo(&Device::Cpu).unwrap();
    pipeline.set_max_batch(NonZeroUsize::new(together).unwrap());
    pipeline
}

/// Of another seed and as many images as its place says, from 1.
fn job(prompt: &Prompt, place: usize) -> Job<'_> {
    Job {
        prompt,
        size: Size::new(80, 48).unwrap(),
        steps: Steps::new(3).unwrap(),
        seed: Seed::new(10 * place as u64),
        count: Count::new(place as i64).unwrap(),
        guidance: flux::GUIDANCE,
        images: &[],
    }
}

/// Keeps what it is told, looks after one step, and stops after so many words.
#[derive(Default)]
struct Looker {
    told: Vec<Progress>,
    shown: Vec<(usize, usize, Image)>,
    stop_after: Option<usize>,
}

impl ProgressObserver for Looker {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.told.push(progress);
        match self.stop_after {
            Some(words) if self.told.len() >= words => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), Error> {
        if preview.step == 2 {
            self.shown.push((preview.index, preview.step, preview.image()?));
        }
        Ok(())
    }
}

/// All jobs, drawn by one call, and who looked on.
fn draw(
    pipeline: &Pipeline,
    jobs: &[Job<'_>],
    mut lookers: Vec<Looker>,
) -> (Vec<Result<Generated, Error>>, Vec<Looker>) {
    let mut asked: Vec<(&Job<'_>, &mut dyn ProgressObserver)> = jobs
        .iter()
        .zip(&mut lookers)
        .map(|(job, looker)| (job, looker as &mut dyn ProgressObserver))
        .collect();
    let made = pipeline.generate_batch(&mut asked).unwrap();
    (made, lookers)
}

fn lookers(count: usize) -> Vec<Looker> {
    (0..count).map(|_| Looker::default()).collect()
}

fn assert_same(found: &Result<Generated, Error>, expected: &Result<Generated, Error>) {
    let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
    assert_eq!(found.prompt_tokens, expected.prompt_tokens);
    assert_eq!(found.images.len(), expected.images.len());
    for (found, expected) in found.images.iter().zip(&expected.images) {
        // Without showing them where they differ.
        assert!(found.rgb == expected.rgb, "another image");
    }
}

#[test]
fn images_are_the_same_bit_by_bit() {
    let prompts = PROMPTS.map(|text| Prompt::new(text.to_owned()).unwrap());
    let jobs: Vec<Job<'_>> =
        prompts.iter().enumerate().map(|(place, prompt)| job(prompt, place + 1)).collect();
    let alone = pipeline(1);
    let expected: Vec<_> =
        jobs.iter().map(|one| draw(&alone, std::slice::from_ref(one), lookers(1))).collect();
    // Six images: in one batch; in batches that cut jobs; one after the other.
    for together in [6, 4, 1] {
        let (made, seen) = draw(&pipeline(together), &jobs, lookers(3));
        for ((made, seen), (expected, looker)) in made.iter().zip(&seen).zip(&expected) {
            assert_same(made, &expected[0]);
            assert_eq!(seen.shown.len(), looker[0].shown.len());
            for (shown, expected) in seen.shown.iter().zip(&looker[0].shown) {
                assert_eq!((shown.0, shown.1), (expected.0, expected.1));
                assert!(shown.2.rgb == expected.2.rgb, "another image on the way");
            }
            assert_eq!(seen.told.last(), looker[0].told.last());
        }
    }
}

#[test]
fn jobs_of_other_sizes_are_refused_not_drawn() {
    let prompt = Prompt::new("a red circle".to_owned()).unwrap();
    let other = Job { size: Size::new(48, 80).unwrap(), ..job(&prompt, 1) };
    let (mut one, mut two) = (Looker::default(), Looker::default());
    let mixed = pipeline(2).generate_batch(&mut [(&job(&prompt, 1), &mut one), (&other, &mut two)]);
    assert!(matches!(mixed, Err(Error::MixedBatch)));
    assert!(one.told.is_empty() && two.told.is_empty());
}

#[test]
fn progress_counts_the_steps_of_all_images() {
    let prompt = Prompt::new("a red circle".to_owned()).unwrap();
    let (_, seen) = draw(&pipeline(2), &[job(&prompt, 3)], lookers(1));
    let step = |done| Progress::Step { done, total: 9 };
    let decoded = |done| Progress::Decoded { done, total: 3 };
    let first = [Progress::Encoded, step(2), step(4), step(6), decoded(1), decoded(2)];
    let second = [step(7), step(8), step(9), decoded(3)];
    assert_eq!(seen[0].told, [&first[..], &second[..]].concat());
}

#[test]
fn who_leaves_takes_nobody_along() {
    let prompts = PROMPTS.map(|text| Prompt::new(text.to_owned()).unwrap());
    let jobs: Vec<Job<'_>> =
        prompts.iter().enumerate().map(|(place, prompt)| job(prompt, place + 1)).collect();
    let pipeline = pipeline(4);
    let (expected, _) = draw(&pipeline, &jobs, lookers(3));
    for leaving in 0..3 {
        for stop_after in [1, 3] {
            let mut lookers = lookers(3);
            lookers[leaving].stop_after = Some(stop_after);
            let (made, seen) = draw(&pipeline, &jobs, lookers);
            for place in 0..3 {
                if place == leaving {
                    assert!(matches!(made[place], Err(Error::Cancelled)));
                    assert_eq!(seen[place].told.len(), stop_after);
                } else {
                    assert_same(&made[place], &expected[place]);
                }
            }
        }
    }
    // All at once.
    let leaving = |_| Looker { stop_after: Some(2), ..Looker::default() };
    let (made, _) = draw(&pipeline, &jobs, (0..3).map(leaving).collect());
    assert!(made.iter().all(|made| matches!(made, Err(Error::Cancelled))));
    assert!(pipeline.generate_batch(&mut []).unwrap().is_empty());
}

/// A plan for memory has room for the input images of one image, not of as many as somebody draws together.
#[test]
fn images_made_from_others_are_drawn_together_as_far_as_they_fill_a_gpu() {
    let prompt = Prompt::new(PROMPTS[0].to_owned()).unwrap();
    let inputs = |sides_px: &[usize]| -> Vec<InputImage> {
        let of = |&side: &usize| InputImage::new(side, side, vec![7; 3 * side * side].into());
        sides_px.iter().map(|side| of(side).unwrap()).collect()
    };
    let together = |pipeline: &Pipeline, images: &[InputImage]| {
        pipeline.batch_size_of(&Job { images, ..job(&prompt, 1) }).get()
    };
    let (small, large) = (inputs(&[64]), inputs(&[1024, 1024]));
    let alone = Pipeline::demo(&Device::Cpu).unwrap();
    assert_eq!([&[], &small[..], &large[..]].map(|images| together(&alone, images)), [1; 3]);
    let eight = pipeline(8);
    assert_eq!([&[], &small[..], &large[..]].map(|images| together(&eight, images)), [8, 8, 1]);
}
