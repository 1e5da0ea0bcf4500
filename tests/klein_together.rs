//! Images of FLUX.2-klein that are drawn together, from input images of their own and under masks of their own, are
//! those that are drawn alone.

use std::{num::NonZeroUsize, ops::ControlFlow};

use flux::{
    Error, GUIDANCE, Generated, Image, InputImage, Job, Pipeline, Preview, Progress,
    ProgressObserver,
};
use protocol::{Count, Prompt, SecretBytes, Seed, Size, Steps};
use tests::klein::{input_image, load, masked_image, model_directory, pattern};

/// Keeps each image on the way, and stops after so many words.
#[derive(Default)]
struct Looker {
    shown: Vec<Image>,
    words: usize,
    stop_after: Option<usize>,
}

impl ProgressObserver for Looker {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        self.words += 1;
        match self.stop_after {
            Some(words) if self.words >= words => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn preview(&mut self, preview: &Preview<'_>) -> Result<(), Error> {
        self.shown.push(preview.image()?);
        Ok(())
    }
}

/// What a job asks for beside its size, its steps and its prompt.
struct Asked {
    images: Vec<InputImage>,
    seed: u64,
    count: i64,
}

/// Draws all of them by one call, at most so many images together.
fn draw(
    pipeline: &mut Pipeline,
    together: usize,
    asked: &[Asked],
    stop_first_after: Option<usize>,
) -> Vec<(Result<Generated, Error>, Looker)> {
    pipeline.set_max_batch(NonZeroUsize::new(together).unwrap());
    let prompt = Prompt::new("the same with a hat".to_owned()).unwrap();
    let jobs: Vec<Job<'_>> = asked
        .iter()
        .map(|asked| Job {
            prompt: &prompt,
            size: Size::new(96, 64).unwrap(),
            steps: Steps::new(2).unwrap(),
            seed: Seed::new(asked.seed),
            count: Count::new(asked.count).unwrap(),
            guidance: GUIDANCE,
            images: &asked.images,
        })
        .collect();
    let mut lookers: Vec<Looker> = jobs.iter().map(|_| Looker::default()).collect();
    lookers[0].stop_after = stop_first_after;
    let mut watched: Vec<(&Job<'_>, &mut dyn ProgressObserver)> = jobs
        .iter()
        .zip(&mut lookers)
        .map(|(job, looker)| (job, looker as &mut dyn ProgressObserver))
        .collect();
    assert_eq!(pipeline.batch_size_of(&jobs[0]).get(), together);
    let made = pipeline.generate_batch(&mut watched).unwrap();
    made.into_iter().zip(lookers).collect()
}

fn pixels<'a>(images: impl IntoIterator<Item = &'a Image>) -> Vec<&'a SecretBytes> {
    images.into_iter().map(|image| &image.rgb).collect()
}

/// The same jobs together, in batches that cut them, and each alone: bit by bit.
fn assert_the_same_together(asked: &[Asked]) {
    let directory = model_directory("klein-2x3");
    let mut pipeline = load(directory.path());
    let expected: Vec<_> = asked
        .iter()
        .flat_map(|asked| draw(&mut pipeline, 1, std::slice::from_ref(asked), None))
        .collect();
    let distinct: Vec<_> =
        expected.iter().map(|(made, _)| pixels(&made.as_ref().unwrap().images)).collect();
    assert!(distinct[0] != distinct[1], "their inputs differ");
    let images: i64 = asked.iter().map(|asked| asked.count).sum();
    for together in [images as usize, 3] {
        let found = draw(&mut pipeline, together, asked, None);
        for ((made, looker), (expected, looker_alone)) in found.iter().zip(&expected) {
            let (made, expected) = (made.as_ref().unwrap(), expected.as_ref().unwrap());
            assert!(pixels(&made.images) == pixels(&expected.images), "{together} together");
            assert_eq!(looker.shown.len(), made.images.len());
            let sorted = |looker: &Looker| {
                let mut shown: Vec<Vec<u8>> =
                    looker.shown.iter().map(|image| image.rgb.to_vec()).collect();
                shown.sort();
                shown
            };
            assert!(sorted(looker) == sorted(looker_alone), "{together} together, on the way");
        }
    }
    // The first leaves in the middle; the others' places move.
    let found = draw(&mut pipeline, images as usize, asked, Some(2));
    assert!(matches!(found[0].0, Err(Error::Cancelled)));
    for ((made, _), (expected, _)) in found.iter().zip(&expected).skip(1) {
        let (made, expected) = (made.as_ref().unwrap(), expected.as_ref().unwrap());
        assert!(pixels(&made.images) == pixels(&expected.images), "after one left");
    }
}

/// Of this size, and not what [`input_image`] shows.
fn other_image(width: u32, height: u32) -> InputImage {
    let inverted: Vec<u8> = pattern(width, height).iter().map(|value| 255 - value).collect();
    InputImage::new(width as usize, height as usize, inverted.into()).unwrap()
}

#[test]
fn from_images_of_their_own() {
    assert_the_same_together(&[
        Asked { images: vec![input_image(70, 95), input_image(66, 80)], seed: 1, count: 1 },
        Asked { images: vec![other_image(70, 95), input_image(66, 80)], seed: 1, count: 2 },
        Asked { images: vec![other_image(70, 95), other_image(66, 80)], seed: 9, count: 1 },
    ]);
}

#[test]
fn under_masks_of_their_own() {
    let masked = |image: InputImage, alpha: fn(usize) -> u8| {
        let alpha: Vec<u8> = (0..101 * 75).map(alpha).collect();
        image.masked(flux::InputMask::new(101, 75, alpha.into()).unwrap()).unwrap()
    };
    assert_the_same_together(&[
        Asked { images: vec![masked_image(101, 75)], seed: 1, count: 1 },
        // Its right half is drawn anew, and all of it.
        Asked {
            images: vec![masked(input_image(101, 75), |at| u8::from(at % 101 < 50) * 255)],
            seed: 1,
            count: 2,
        },
        Asked { images: vec![masked(other_image(101, 75), |_| 0)], seed: 4, count: 1 },
    ]);
}

/// What is kept of an image is the same whatever the seed; what is drawn anew is not. And where a mask cannot be
/// followed, nothing is drawn.
#[test]
fn a_mask_keeps_its_place() {
    let directory = model_directory("klein-1x1");
    let pipeline = load(directory.path());
    let prompt = Prompt::new("a hat".to_owned()).unwrap();
    let draw = |images: &[InputImage], size: &str, seed: u64| {
        let job = Job {
            prompt: &prompt,
            size: size.parse::<Size>().unwrap(),
            steps: Steps::new(2).unwrap(),
            seed: Seed::new(seed),
            count: Count::ONE,
            guidance: GUIDANCE,
            images,
        };
        let made = pipeline.generate(&job, &mut |_| ControlFlow::Continue(()));
        made.map(|mut made| made.images.remove(0).rgb.to_vec())
    };
    let left_half = |side: usize| {
        let alpha: Vec<u8> =
            (0..side * side).map(|at| u8::from(at % side >= side / 2) * 255).collect();
        flux::InputMask::new(side, side, alpha.into()).unwrap()
    };
    let masked = || [input_image(320, 320).masked(left_half(320)).unwrap()];
    let [one, two] = [1, 2].map(|seed| draw(&masked(), "320x320", seed).unwrap());
    let differs = |columns: std::ops::Range<usize>| {
        let far = one.chunks_exact(3 * 320).zip(two.chunks_exact(3 * 320)).flat_map(|(a, b)| {
            let range = 3 * columns.start..3 * columns.end;
            a[range.clone()].iter().zip(&b[range]).map(|(a, b)| u64::from(a.abs_diff(*b)))
        });
        far.sum::<u64>() as f64 / (320 * columns.len() * 3) as f64
    };
    // The decoder's attention and norms look at the whole image, so that all of it moves a little.
    let (kept, drawn) = (differs(240..320), differs(0..80));
    assert!(kept * 5.0 < drawn, "{kept} where it is kept, {drawn} where it is drawn");

    for (images, size) in [
        (vec![input_image(64, 64).masked(left_half(64)).unwrap()], "64x80"),
        (vec![input_image(64, 64), input_image(64, 64).masked(left_half(64)).unwrap()], "64x64"),
    ] {
        assert!(matches!(draw(&images, size, 1), Err(Error::Mask)));
    }
    assert!(input_image(64, 80).masked(left_half(64)).is_err());
}
