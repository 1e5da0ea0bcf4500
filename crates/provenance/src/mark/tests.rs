use image::{
    ExtendedColorType, ImageEncoder, RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, crop_imm, resize, rotate180},
};
use sha2::{Digest, Sha256};

use super::*;

/// Edges, texture and a smooth part: sums in whole numbers, alike on every machine.
fn scene(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let mixed = x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ seed;
        let grain = mixed.wrapping_mul(2_654_435_761) >> 28;
        let smooth = 60 + x * 90 / width + y * 60 / height;
        let stripe = if (x / 23 + y / 31 + seed).is_multiple_of(5) { 70 } else { 0 };
        let value = smooth + stripe + if x > width / 2 { grain } else { 0 };
        image::Rgb([value as u8, (value * 7 / 8) as u8, (255 - value / 2) as u8])
    })
}

fn marked(image: &RgbImage, id: MarkId) -> RgbImage {
    let mut image = image.clone();
    mark(image.width(), image.height(), &mut image, id);
    image
}

fn found(image: &RgbImage) -> Option<MarkId> {
    find_mark(image.width(), image.height(), image).map(|mark| mark.id)
}

fn jpeg(image: &RgbImage) -> RgbImage {
    let mut file = Vec::new();
    let (width, height) = image.dimensions();
    let encoder = JpegEncoder::new_with_quality(&mut file, 75);
    encoder.write_image(image, width, height, ExtendedColorType::Rgb8).unwrap();
    image::load_from_memory(&file).unwrap().to_rgb8()
}

fn psnr_db(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares = a.iter().zip(b.iter()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    10.0 * (255.0_f64.powi(2) * a.as_raw().len() as f64 / squares.sum::<f64>()).log10()
}

#[test]
fn a_mark_survives_what_images_go_through() {
    let id = MarkId::of_key(&[7; 32]);
    let image = marked(&scene(528, 400, 1), id);
    assert_eq!(found(&image), Some(id));
    let half = resize(&image, 264, 200, FilterType::Triangle);
    let part = crop_imm(&image, 37, 21, 457, 347).to_image();
    let quarter = crop_imm(&image, 101, 77, 264, 200).to_image();
    for (attack, image) in [
        ("JPEG", jpeg(&image)),
        ("half", half),
        ("a quarter cut away", part.clone()),
        ("a quarter kept", quarter),
        ("a part of it larger, as JPEG", jpeg(&resize(&part, 594, 451, FilterType::CatmullRom))),
    ] {
        assert_eq!(found(&image), Some(id), "{attack}");
    }
}

#[test]
fn what_has_no_mark_has_none() {
    for seed in 0..3 {
        let image = scene(300, 272, seed);
        assert_eq!(found(&image), None);
        assert_eq!(found(&rotate180(&marked(&image, MarkId::of_key(&[seed as u8; 32])))), None);
    }
}

#[test]
fn a_marked_image_is_near_to_the_one_that_was_drawn() {
    let one = |value: u8| RgbImage::from_pixel(256, 320, image::Rgb([value; 3]));
    let checks = RgbImage::from_fn(256, 256, |x, y| image::Rgb([((x + y) % 2 * 255) as u8; 3]));
    for (n, image) in [scene(272, 256, 1), one(0), one(255), one(128), checks].iter().enumerate() {
        let id = MarkId::of_key(&[n as u8; 32]);
        let marked = marked(image, id);
        let db = psnr_db(image, &marked);
        assert!((42.0..60.0).contains(&db), "image {n}: {db}");
        assert_eq!(found(&marked), Some(id), "image {n}");
    }
    // Too small for one, and no pixels at all.
    let small = scene(255, 400, 1);
    assert_eq!(marked(&small, MarkId::of_key(&[1; 32])), small);
    mark(300, 300, &mut [], MarkId::of_key(&[1; 32]));
}

/// Every machine marks alike.
#[test]
fn the_same_pixels_are_marked_alike() {
    let image = marked(&scene(288, 256, 5), MarkId::of_key(&[3; 32]));
    let digest = crate::hex::encode(&Sha256::digest(image.as_raw()));
    assert_eq!(digest, "2961c9345083485b21c4e4c71f9c1731064b54314905a18c2debe5974109fb43");
}
