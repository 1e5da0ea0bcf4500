//! How often the demo model draws what a caption says, over all 500 that were kept from its training.
//!
//! `cargo run --release -p tests --example demo_accuracy -- [DIR [SIDE [COUNT]]]` prints the shares and
//! the captions that were missed, and writes the images of the first sixteen misses to DIR/missed.png.
//! SIDE is the model's own where none is given, COUNT all of them.

use std::{ops::ControlFlow, path::PathBuf};

use candle_core::Device;
use flux::{Job, Pipeline};
use image::{GenericImage, RgbImage};
use protocol::{Count, Prompt, Seed, Size, Steps};
use tests::{demo::Scene, reading::read};

/// Images in a row of the sheet, and rows.
const SHEET: u32 = 4;

fn main() {
    let pipeline = Pipeline::demo(&Device::Cpu).expect("memory");
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let mut number =
        |otherwise| arguments.next().map_or(otherwise, |n| n.parse().expect("a number"));
    let side = number(pipeline.native_size().width_px());
    let size = Size::new(side, side).expect("a side of an image");
    let count = number(u32::MAX) as usize;
    // Colours and places right, shapes too, asked for; of one kind of thing, of two.
    let mut score = [[0, 0, 0]; 2];
    let mut missed = Vec::new();
    for (seed, scene) in (0..).zip(Scene::held_out()).take(count) {
        let rgb = draw(&pipeline, &scene, size, seed);
        let [coloured, shown, asked] = &mut score[usize::from(scene.is_of_two())];
        let found = read(&rgb, side as usize, side as usize);
        *asked += 1;
        *coloured += usize::from(scene.is_coloured_by(&found));
        if scene.is_shown_by(&found) {
            *shown += 1;
        } else {
            println!("missed, seed {seed}: {}", scene.caption);
            missed.push(rgb);
        }
    }
    for (kind, [coloured, shown, asked]) in ["one kind of thing", "two things"].iter().zip(score) {
        println!("{kind}, of {asked}: colours and places {coloured}, shapes too {shown}");
    }
    if let Some(folder) = folder {
        let path = folder.join("missed.png");
        sheet(&missed, side).save(&path).expect("a folder that can be written to");
        println!("{}", path.display());
    }
}

fn draw(pipeline: &Pipeline, scene: &Scene, size: Size, seed: u64) -> Vec<u8> {
    let prompt = Prompt::new(scene.caption.clone()).expect("not empty");
    let job = Job {
        prompt: &prompt,
        size,
        steps: Steps::new(4).expect("in range"),
        seed: Seed::new(seed),
        count: Count::new(1).expect("in range"),
        guidance: flux::GUIDANCE,
        images: &[],
    };
    let drawn = pipeline.generate(&job, &mut |_| ControlFlow::Continue(())).expect("an image");
    drawn.images[0].rgb.to_vec()
}

fn sheet(images: &[Vec<u8>], side: u32) -> RgbImage {
    let mut sheet = RgbImage::new(SHEET * side, SHEET * side);
    for (place, rgb) in (0..SHEET * SHEET).zip(images) {
        let image = RgbImage::from_raw(side, side, rgb.clone()).expect("it has this size");
        let (x, y) = (place % SHEET * side, place / SHEET * side);
        sheet.copy_from(&image, x, y).expect("it fits");
    }
    sheet
}
