//! A receipt, true or false.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use provenance::{Receipt, SignedReceipt, pixels_digest};
use serde_json::{Value, json};

use crate::shown::{NONCE, Shown};

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_true_or_false() {
    let shown = Shown::start().await;
    shown.draw("star.png", &["--provenance", "receipt"]);
    shown.drawn(0, "other.png", &["--size", "64x64", "--seed", "9"]);
    let (told, star) = ("star.png.provenance.json", shown.path("star.png"));
    let report = shown.path("report");
    let evidence = ["--report", &report, "--nonce", NONCE];
    let said = shown.replay(0, told, &[&evidence[..], &["--image", &star]].concat());
    assert!(said.contains("bit for bit") && said.contains("names its key"), "{said}");
    // Without evidence it is the drawing alone that is true: whoever drew it may have signed for it.
    let alone = shown.replay(0, told, &[]);
    assert!(alone.contains("\nthe drawing alone: ") && !alone.contains("ACCEPTED"), "{alone}");
    assert!(alone.contains("\n  not checked: receipt.node"), "{alone}");
    let alone: Value = serde_json::from_str(&shown.replay(0, told, &["--json"])).unwrap();
    assert_eq!(alone["verdict"], "the drawing alone");
    assert_eq!(alone["not_checked"], json!(["receipt.node"]));
    let tls = [&evidence[..], &["--require-attested-tls"]].concat();
    assert!(shown.replay(1, told, &tls).contains("--require-attested-tls is about a connection"));

    // For another seed, size, number of steps, or with another salt.
    let changes: [(&str, Value); 4] = [
        ("seed", 6.into()),
        ("size", "64x80".into()),
        ("steps", 2.into()),
        ("salt", "11".repeat(32).into()),
    ];
    for (field, value) in changes {
        shown.change("changed", |told| told[field] = value);
        assert!(shown.replay(10, "changed", &[]).contains("it is for another"), "{field}");
    }
    // With another image.
    let other = shown.path("other.png");
    assert!(shown.replay(10, told, &["--image", &other]).contains("for another file"));
    // Cut off, or no receipt at all.
    let receipt = shown.told(told)["receipt"].as_str().unwrap().to_owned();
    shown.change("cut", |told| told["receipt"] = receipt[..400].into());
    shown.replay(30, "cut", &[]);
    shown.change("none", |told| drop(told.as_object_mut().unwrap().remove("receipt")));
    shown.replay(30, "none", &[]);
    for (file, code) in [("prompt", 1), ("star.png", 1)] {
        shown.replay(code, file, &[]);
    }
    swapped(&shown, &receipt, &evidence);
}

/// A node that says one thing and draws with another: what it signs holds, and drawing tells.
fn swapped(shown: &Shown, receipt: &str, evidence: &[&str]) {
    let honest = SignedReceipt::read(&BASE64_STANDARD.decode(receipt).unwrap()).unwrap().receipt;
    let swapper = SigningKey::from_bytes(&[7; 32]);
    let sign = |receipt: &Receipt| {
        let sign = |message: &[u8]| Ok::<_, ()>(swapper.sign(message).to_bytes());
        BASE64_STANDARD.encode(receipt.sign(&swapper.verifying_key().to_bytes(), sign).unwrap())
    };
    // It draws with a smaller model.
    let other = image::open(shown.at("other.png")).unwrap().to_rgb8();
    let file = fs::read(shown.at("other.png")).unwrap();
    let lie = Receipt {
        pixels: pixels_digest(64, 64, &other),
        file: <sha2::Sha256 as sha2::Digest>::digest(&file).into(),
        ..honest.clone()
    };
    shown.change("lie", |told| told["receipt"] = sign(&lie).into());
    let image = shown.path("other.png");
    let said = shown.replay(10, "lie", &["--image", &image]);
    assert!(said.contains("dB from the image"), "{said}");
    assert!(shown.replay(10, "lie", &[]).contains("other pixels"));
    // Another machine, whose last bits differ, is told from that by the image.
    let mut near = image::open(shown.at("star.png")).unwrap().to_rgb8();
    near.iter_mut().step_by(3).for_each(|value| *value ^= 1);
    near.save(shown.at("near.png")).unwrap();
    let elsewhere = Receipt {
        pixels: pixels_digest(64, 64, &near),
        file: <sha2::Sha256 as sha2::Digest>::digest(fs::read(shown.at("near.png")).unwrap())
            .into(),
        ..honest.clone()
    };
    shown.change("elsewhere", |told| told["receipt"] = sign(&elsewhere).into());
    shown.replay(10, "elsewhere", &[]);
    let said = shown.replay(0, "elsewhere", &["--image", &shown.path("near.png")]);
    assert!(said.contains("with another seed"), "{said}");
    // By a key that no evidence names.
    shown.change("stranger", |told| told["receipt"] = sign(&honest).into());
    let said = shown.replay(10, "stranger", evidence);
    assert!(said.contains("of another key"), "{said}");
    // With a model that is not the one here.
    let mut named = honest.clone();
    named.statement.model_manifest = [9; 32];
    shown.change("model", |told| told["receipt"] = sign(&named).into());
    assert!(shown.replay(10, "model", &[]).contains("--model names another"));
}
