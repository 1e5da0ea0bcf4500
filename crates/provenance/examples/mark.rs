//! How well the invisible mark is found again: attacks × images, as Markdown tables.
//!
//! ```console
//! $ cargo run -p obscura-provenance --example mark -- [FOLDER …]
//! ```
//! Each folder's images are a kind of their own, beside those that are made here: dead leaves, which have the
//! statistics of photographs (A. Lee, D. Mumford, J. Huang, "Occlusion models for natural images", IJCV 41, 2001);
//! noise whose power falls with the square of frequency; smooth gradients; one colour. Nothing is drawn from chance:
//! two runs print the same, but for times. MARK_IMAGES is how many of a kind [default: 8].
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example that cannot go on has failed"
)]

use std::{fmt::Write as _, path::PathBuf, time::Instant};

use image::{
    DynamicImage, ImageEncoder, RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, crop_imm, resize},
};
use provenance::{MarkId, find_mark, mark};

/// A name, and what makes an image of a side and a seed.
type Kind = (&'static str, fn(u32, u64) -> RgbImage);
type Attack = (&'static str, fn(&RgbImage) -> RgbImage);

const ATTACKS: &[Attack] = &[
    ("none", RgbImage::clone),
    ("JPEG 75", |image| jpeg(image, 75)),
    ("JPEG 50", |image| jpeg(image, 50)),
    ("half", |image| scaled(image, 0.5, FilterType::Triangle)),
    ("half, Lanczos", |image| scaled(image, 0.5, FilterType::Lanczos3)),
    ("quarter cut away", |image| cropped(image, 0.75_f64.sqrt())),
    ("quarter kept", |image| cropped(image, 0.5)),
    ("× 0.7, JPEG 75", |image| jpeg(&scaled(image, 0.7, FilterType::Triangle), 75)),
    ("half, JPEG 75", |image| jpeg(&scaled(image, 0.5, FilterType::Triangle), 75)),
    ("quarter kept, JPEG 75", |image| jpeg(&cropped(image, 0.5), 75)),
    ("× 1.37, JPEG 75", |image| jpeg(&scaled(image, 1.37, FilterType::CatmullRom), 75)),
    ("all: cut, half, JPEG 75", |image| {
        jpeg(&scaled(&cropped(image, 0.75_f64.sqrt()), 0.5, FilterType::Triangle), 75)
    }),
];

fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut file = Vec::new();
    let (width, height) = image.dimensions();
    JpegEncoder::new_with_quality(&mut file, quality)
        .write_image(image, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    image::load_from_memory(&file).unwrap().to_rgb8()
}

fn scaled(image: &RgbImage, by: f64, filter: FilterType) -> RgbImage {
    let side = |px: u32| (f64::from(px) * by).round() as u32;
    resize(image, side(image.width()), side(image.height()), filter)
}

/// A part of so much of each side, from a corner that is no multiple of anything.
fn cropped(image: &RgbImage, by: f64) -> RgbImage {
    let side = |px: u32| (f64::from(px) * by).round() as u32;
    let (width, height) = (side(image.width()), side(image.height()));
    let corner = |whole: u32, part: u32| ((whole - part) * 3 / 7) | 1;
    let (left, top) = (corner(image.width(), width), corner(image.height(), height));
    crop_imm(image, left, top, width, height).to_image()
}

/// A linear congruential generator; its upper bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }

    fn color(&mut self) -> [f64; 3] {
        [self.next(), self.next(), self.next()].map(|value| 255.0 * value)
    }
}

/// Discs before discs, of radii whose frequency falls with their cube, each a little shaded.
fn leaves(side: u32, seed: u64) -> RgbImage {
    let mut random = Random(seed);
    let mut image = RgbImage::new(side, side);
    let longest = f64::from(side) / 4.0;
    for _ in 0..8 * side {
        // From the back: 1/r² is evenly spread between 1/longest² and 1/2².
        let spread = random.next() * (0.25 - 1.0 / longest.powi(2)) + 1.0 / longest.powi(2);
        let radius =
            if random.next() < 0.05 { longest * random.next() } else { spread.sqrt().recip() };
        let (x, y) = (random.next() * f64::from(side), random.next() * f64::from(side));
        let (color, shade) = (random.color(), random.next() * 2.0 - 1.0);
        let grain = 12.0 * random.next() * random.next();
        let range =
            |at: f64| (at - radius).max(0.0) as u32..((at + radius).ceil() as u32).min(side);
        for row in range(y) {
            for column in range(x) {
                let (dx, dy) = (f64::from(column) - x, f64::from(row) - y);
                if dx * dx + dy * dy <= radius * radius {
                    let light =
                        60.0 * shade * (dx + dy) / radius / 2.0 + grain * (random.next() - 0.5);
                    let value = color.map(|value| (value + light).clamp(0.0, 255.0) as u8);
                    image.put_pixel(column, row, image::Rgb(value));
                }
            }
        }
    }
    // A lens is never sharper.
    image::imageops::blur(&image, 0.6)
}

/// Octaves of smoothed noise, each half as strong as the one before.
fn noise(side: u32, seed: u64) -> RgbImage {
    let mut random = Random(seed);
    let mut sum = vec![[127.0_f64; 3]; (side * side) as usize];
    let mut cells = 4;
    let mut strength = 60.0;
    while cells <= side {
        let mut coarse = image::Rgb32FImage::new(cells, cells);
        for pixel in coarse.pixels_mut() {
            let grey = random.next() - 0.5;
            pixel.0 = random.color().map(|value| (grey + 0.3 * (value / 255.0 - 0.5)) as f32);
        }
        let fine = resize(&coarse, side, side, FilterType::CatmullRom);
        for (sum, fine) in sum.iter_mut().zip(fine.pixels()) {
            for (sum, fine) in sum.iter_mut().zip(fine.0) {
                *sum += 2.0 * strength * f64::from(fine);
            }
        }
        cells *= 2;
        strength *= 0.5;
    }
    let values = sum.into_iter().flatten().map(|value| value.clamp(0.0, 255.0) as u8);
    RgbImage::from_raw(side, side, values.collect()).unwrap()
}

fn gradient(side: u32, seed: u64) -> RgbImage {
    let mut random = Random(seed);
    let corners = [random.color(), random.color(), random.color(), random.color()];
    RgbImage::from_fn(side, side, |x, y| {
        let (x, y) = (f64::from(x) / f64::from(side), f64::from(y) / f64::from(side));
        let at = |n: usize| {
            let upper = corners[0][n] * (1.0 - x) + corners[1][n] * x;
            let lower = corners[2][n] * (1.0 - x) + corners[3][n] * x;
            (upper * (1.0 - y) + lower * y) as u8
        };
        image::Rgb([at(0), at(1), at(2)])
    })
}

fn flat(side: u32, seed: u64) -> RgbImage {
    let color = Random(seed).color().map(|value| value as u8);
    RgbImage::from_pixel(side, side, image::Rgb(color))
}

fn psnr_db(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a.iter().zip(b.iter()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) * a.as_raw().len() as f64 / squares).log10()
}

struct Row {
    name: String,
    images: Vec<RgbImage>,
}

fn main() {
    let count: u64 = std::env::var("MARK_IMAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut rows = Vec::new();
    for side in [256, 512, 1024] {
        let kinds: [Kind; 4] =
            [("leaves", leaves), ("noise", noise), ("gradient", gradient), ("flat", flat)];
        for (kind, make) in kinds {
            let images = (0..count).map(|seed| make(side, 1000 + seed)).collect();
            rows.push(Row { name: format!("{kind} {side}²"), images });
        }
    }
    for folder in std::env::args_os().skip(1).map(PathBuf::from) {
        let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let images = files.filter_map(|file| image::open(file).ok()).map(DynamicImage::into_rgb8);
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        rows.push(Row { name, images: images.collect() });
    }
    let mut head = "| images | dB |".to_owned();
    for (name, _) in ATTACKS {
        write!(head, " {name} |").unwrap();
    }
    println!("{head}\n|{}", "---|".repeat(ATTACKS.len() + 2));
    // The shortest, since whatever else runs makes it longer, of 1024².
    let (mut mark_secs, mut find_secs, mut unmarked) = (f64::INFINITY, f64::INFINITY, 0);
    let mut unmarked_found = 0;
    for Row { name, images } in rows {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        let mut found = vec![0; ATTACKS.len()];
        for (n, image) in images.iter().enumerate() {
            let id = MarkId::of_key(&[n as u8; 32]);
            let (width, height) = image.dimensions();
            let mut marked = image.clone();
            let start = Instant::now();
            mark(width, height, &mut marked, id);
            if (width, height) == (1024, 1024) {
                mark_secs = mark_secs.min(start.elapsed().as_secs_f64());
            }
            let db = psnr_db(image, &marked);
            (least, most) = (least.min(db), most.max(db));
            for ((_, attack), found) in ATTACKS.iter().zip(&mut found) {
                let attacked = attack(&marked);
                let start = Instant::now();
                let mark = find_mark(attacked.width(), attacked.height(), &attacked);
                if attacked.dimensions() == (1024, 1024) {
                    find_secs = find_secs.min(start.elapsed().as_secs_f64());
                }
                *found += u32::from(mark.is_some_and(|mark| mark.id == id));
                if width < 1024 {
                    let attacked = attack(image);
                    let mark = find_mark(attacked.width(), attacked.height(), &attacked);
                    unmarked += 1;
                    unmarked_found += u32::from(mark.is_some());
                }
            }
        }
        let mut row = format!("| {name} | {least:.1}–{most:.1} |");
        for found in found {
            write!(row, " {found}/{} |", images.len()).unwrap();
        }
        println!("{row}");
    }
    println!("\nunmarked: {unmarked_found} of {unmarked} found");
    println!(
        "1024², at best: {:.0} ms to mark, {:.0} ms to find",
        1e3 * mark_secs,
        1e3 * find_secs
    );
}
