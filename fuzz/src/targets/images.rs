//! Image files: what an edit brings, and what tells where an image is from.

use std::{fs, path::Path};

use protocol::{Format, Size};
use provenance::{Manifest, ManifestSigner, Receipt, SignedReceipt, Statement, embed};

/// One in each format, of 80×64 pixels; a progressive JPEG, and a PNG with an alpha channel.
pub(super) fn image_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let size = Size::new(80, 64).expect("multiples of 16");
    let rgb: Vec<u8> = (0..3 * size.pixels()).map(|i| (i * i / 97) as u8).collect();
    let image = engine::Image { size, rgb: rgb.into() };
    let encoded = [Format::Png, Format::JPEG, Format::WebP]
        .map(|format| engine::encode(&image, format).expect("an image of a format").to_vec());
    let written = fixtures.join("../../crates/engine/src/decode/fixtures");
    let written = ["progressive.jpg", "mask.png"]
        .map(|name| fs::read(written.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")));
    [encoded.to_vec(), written.to_vec()].concat()
}

/// An image of anybody's, and a receipt.
pub(super) fn provenance(input: &[u8]) {
    if let Ok(manifest) = Manifest::read(input) {
        let _ = (manifest.check_bytes(input), manifest.check_signature());
    }
    let _ = SignedReceipt::read(input);
}

pub(super) fn provenance_seeds(_: &Path) -> Vec<Vec<u8>> {
    let statement = Statement {
        platform: "tdx".to_owned(),
        measurements: vec![[6; 48]; 4],
        model_manifest: [1; 32],
        keyset: [2; 32],
        commitment: [3; 32],
    };
    let signer = ManifestSigner::generate().expect("a key");
    // As short as they can be: nothing looks into what codes the pixels.
    let files: [&[u8]; 3] = [
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\0IEND\xaeB`\x82",
        b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xda\0\x02\xff\xd9",
        b"RIFF\x0c\0\0\0WEBPVP8L\0\0\0\0",
    ];
    let signed = |file: &&[u8]| embed(file, &statement, &signer).expect("a whole file");
    let mut seeds: Vec<_> = files.iter().map(signed).collect();
    let receipt = Receipt { statement: statement.clone(), pixels: [4; 32], file: [5; 32] };
    // Its signature is nobody's: what comes before is read all the same.
    let unsigned = receipt.sign(&[1; 32], |_| Ok::<_, ()>([0; 64]));
    seeds.push(unsigned.expect("signed"));
    seeds
}
