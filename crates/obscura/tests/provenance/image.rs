//! What an image itself says: its manifest, and its mark.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use crate::{
    program::Program,
    shown::{Shown, holds_manifest},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_proves_itself_offline() {
    let shown = Shown::start().await;
    for name in ["star.png", "star.jpg", "star.webp"] {
        shown.draw(name, &["--provenance", "c2pa"]);
        assert!(holds_manifest(&fs::read(shown.at(name)).unwrap()), "{name}");
    }
    // A salt that is lost opens no commitment any more.
    fs::remove_file(shown.at("star.png")).unwrap();
    let kept = fs::read(shown.at("star.png.provenance.json")).unwrap();
    let words = ["--size", "64x64", "--provenance", "c2pa"];
    let said = shown.drawn(1, "star.png", &words);
    assert!(said.contains("star.png.provenance.json is there already; --force"), "{said}");
    assert_eq!(fs::read(shown.at("star.png.provenance.json")).unwrap(), kept);
    shown.drawn(0, "star.png", &[&words[..], &["--force"]].concat());
    assert_ne!(fs::read(shown.at("star.png.provenance.json")).unwrap(), kept);
    let save = ["verify", &shown.node.url, "--save", &shown.path("prompt")];
    assert!(shown.says(1, &save).contains("prompt is there already; --force replaces it"));
    shown.draw("plain.png", &[]);
    shown.draw("receipt.png", &["--provenance", "receipt"]);
    let (signed, plain) = (fs::read(shown.at("star.png")), fs::read(shown.at("plain.png")));
    assert!(!holds_manifest(plain.as_ref().unwrap()));
    assert_eq!(fs::read(shown.at("receipt.png")).unwrap(), *plain.as_ref().unwrap());
    let pixels = |file: &[u8]| ::image::load_from_memory(file).unwrap().to_rgb8();
    assert_eq!(pixels(signed.as_ref().unwrap()), pixels(plain.as_ref().unwrap()));
    // What was asked for is in neither.
    let signed = signed.unwrap();
    assert!(!signed.windows(6).any(|bytes| bytes == b"yellow"));

    // Without any node.
    let Shown { node, folder } = shown;
    node.stop();
    let other = Program::serve(&["--set", "provenance=c2pa"], Stdio::null());
    other.ready().await;
    let shown = Shown { node: other, folder };
    for name in ["star.png", "star.jpg", "star.webp"] {
        let said = shown.verify(0, name, &[]);
        assert!(said.contains("names the key that signed it"), "{said}");
    }
    let told = "star.png.provenance.json";
    assert!(shown.disclosed(0, told, "prompt").contains("committed to"));

    // Another prompt, another salt, another seed.
    fs::write(shown.at("other"), "a small yellow star above a blue house").unwrap();
    assert!(shown.disclosed(10, told, "other").contains("something else was asked for"));
    shown.change("salt", |told| told["salt"] = "00".repeat(32).into());
    shown.disclosed(10, "salt", "prompt");
    shown.change("seed", |told| told["seed"] = 6.into());
    shown.disclosed(10, "seed", "prompt");
    // Another node, no node.
    let live = ["verify", &shown.node.url, "--image", &shown.path("star.png")];
    assert!(shown.says(10, &live).contains("somebody else's key"));
    let warned = shown.verify(0, "star.png", &[]);
    assert_eq!(warned.matches("warning: simulated nodes").count(), 1, "{warned}");
    let alone = shown.says(10, &["verify", "--image", &shown.path("star.png")]);
    assert!(alone.contains("no evidence"), "{alone}");
    // Cut off, changed, encoded again, none at all.
    fs::write(shown.at("cut.png"), &signed[..900]).unwrap();
    shown.verify(30, "cut.png", &[]);
    let mut changed = signed.clone();
    let middle = changed.len() - 30;
    changed[middle] ^= 1;
    fs::write(shown.at("changed.png"), &changed).unwrap();
    assert!(shown.verify(10, "changed.png", &[]).contains("the image is not what"));
    pixels(&signed).save(shown.at("again.png")).unwrap();
    assert!(shown.verify(10, "again.png", &[]).contains("no C2PA manifest"));
    shown.verify(30, "prompt", &[]);
    let json: Value = serde_json::from_str(
        &shown
            .verify(0, "star.png", &["--json"])
            .lines()
            .filter(|line| !line.starts_with("warning"))
            .collect::<String>(),
    )
    .unwrap();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&json!("accepted"), &json!(0)));
}

/// The mark says what it can where the manifest is gone; pixels are as drawn in the receipt, and marked in the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_outlives_the_file() {
    let shown = Shown::start().await;
    let marked = ["--size", "256x256", "--provenance", "c2pa+mark"];
    shown.drawn(0, "star.png", &marked);
    let said = shown.verify(0, "star.png", &[]);
    assert!(said.contains("made by AI, by the key with the id"), "{said}");
    let star = shown.path("star.png");
    let told = "star.png.provenance.json";
    assert!(shown.replay(0, told, &["--image", &star]).contains("bit for bit"));

    // Encoded again, a part of it, and smaller.
    let pixels = ::image::open(&star).unwrap().to_rgb8();
    shown.drawn(0, "plain.png", &["--size", "256x256"]);
    let plain = ::image::open(shown.at("plain.png")).unwrap().to_rgb8();
    let squares = pixels.iter().zip(plain.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2));
    let mean = squares.sum::<u64>() as f64 / plain.as_raw().len() as f64;
    assert!(mean > 0.0 && 10.0 * (255.0_f64.powi(2) / mean).log10() >= 42.0, "{mean}");
    let mut file = fs::File::create(shown.at("again.jpg")).unwrap();
    let encoder = ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 75);
    pixels.write_with_encoder(encoder).unwrap();
    ::image::imageops::crop_imm(&pixels, 19, 23, 222, 222)
        .to_image()
        .save(shown.at("part.png"))
        .unwrap();
    let filter = ::image::imageops::FilterType::Triangle;
    ::image::imageops::resize(&pixels, 128, 128, filter).save(shown.at("half.png")).unwrap();
    for name in ["again.jpg", "part.png", "half.png"] {
        let said = shown.verify(10, name, &["--json"]);
        let json = said.lines().filter(|line| !line.starts_with("warning")).collect::<String>();
        let json: Value = serde_json::from_str(&json).unwrap();
        let id = json["mark"]["key_id"].as_str().unwrap_or_else(|| panic!("{name}: {said}"));
        assert_eq!(id.len(), 4);
        let found = |id: &str| {
            let checks = json["checks"].as_array().unwrap();
            checks.iter().find(|check| check["id"] == id).unwrap()["outcome"].clone()
        };
        assert_eq!((found("image.mark"), found("image.manifest")), (json!("PASS"), json!("FAIL")));
    }
    assert!(shown.verify(10, "plain.png", &[]).contains("no invisible mark"));
    // Without anybody's evidence it says the same, and proves nothing.
    let alone = shown.says(10, &["verify", "--image", &shown.path("again.jpg")]);
    assert!(alone.contains("an Obscura node's key with the id"), "{alone}");
    // Too small for one.
    let said = shown.drawn(1, "small.png", &["--size", "64x64", "--provenance", "mark"]);
    assert!(said.contains("at least 256 pixels"), "{said}");
}
