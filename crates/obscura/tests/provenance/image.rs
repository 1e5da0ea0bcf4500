//! Images that tell where they are from: the real program draws, signs, verifies and draws again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use provenance::{Drawing, Receipt, Salt, SignedReceipt, pixels_digest};
use serde_json::{Value, json};
use tests::{Exchange, Sent, http, klein};

use program::Program;

const MODEL: &str = "obscura/demo";
const PROMPT: &str = "a small yellow star above a red house";
const NONCE: &str = "4242424242424242424242424242424242424242424242424242424242424242";

/// A node that signs manifests, what it drew, and its evidence.
struct Shown {
    node: Program,
    folder: tempfile::TempDir,
}

impl Shown {
    /// With every protection that a node puts on before it serves.
    async fn start() -> Self {
        let words = ["--set", "provenance=c2pa", "--allow-plaintext", "--set", "sandbox=on"];
        Self::of(Program::serve(&words, Stdio::null())).await
    }

    async fn of(node: Program) -> Self {
        node.ready().await;
        let shown = Self { node, folder: tempfile::tempdir().unwrap() };
        fs::write(shown.at("prompt"), format!("{PROMPT}\n")).unwrap();
        let save = shown.path("report");
        shown.says(0, &["verify", &shown.node.url, "--nonce", NONCE, "--save", &save]);
        shown
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Draws privately.
    fn draw(&self, name: &str, more: &[&str]) {
        self.drawn(0, name, &[&["--size", "64x64"], more].concat());
    }

    fn drawn(&self, code: i32, name: &str, more: &[&str]) -> String {
        let file = self.path(name);
        let words = ["generate", PROMPT, "--node", &self.node.url, "--steps", "1"];
        let seed: &[&str] = if more.contains(&"--seed") { &[] } else { &["--seed", "5"] };
        self.says(code, &[&words[..], seed, &["--output", &file], more].concat())
    }

    /// What the command line says, and that it ends so.
    fn says(&self, code: i32, words: &[&str]) -> String {
        let mut command = Command::new(program::path());
        let Output { status, stdout, stderr } =
            command.args(words).arg("--accept-simulated").output().unwrap();
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        assert_eq!(status.code(), Some(code), "{words:?}\n{said}");
        said
    }

    fn verify(&self, code: i32, image: &str, more: &[&str]) -> String {
        let (image, report) = (self.path(image), self.path("report"));
        let words = ["verify", "--image", &image, "--report", &report, "--nonce", NONCE];
        self.says(code, &[&words[..], more].concat())
    }

    fn disclosed(&self, code: i32, told: &str, prompt: &str) -> String {
        let (told, prompt) = (self.path(told), self.path(prompt));
        self.verify(code, "star.png", &["--disclose", &told, "--prompt-file", &prompt])
    }

    fn replay(&self, code: i32, told: &str, more: &[&str]) -> String {
        let (told, prompt) = (self.path(told), self.path("prompt"));
        let words = ["replay", &told, "--prompt-file", &prompt, "--device", "cpu"];
        self.says(code, &[&words[..], more].concat())
    }

    fn told(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(name)).unwrap()).unwrap()
    }

    /// What came with the image, changed.
    fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut told = self.told("star.png.provenance.json");
        change(&mut told);
        fs::write(self.at(name), told.to_string()).unwrap();
    }
}

fn holds_manifest(file: &[u8]) -> bool {
    file.windows(8).any(|bytes| bytes == b"obscura.")
}

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
    let pixels = |file: &[u8]| image::load_from_memory(file).unwrap().to_rgb8();
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
    let pixels = image::open(&star).unwrap().to_rgb8();
    shown.drawn(0, "plain.png", &["--size", "256x256"]);
    let plain = image::open(shown.at("plain.png")).unwrap().to_rgb8();
    let squares = pixels.iter().zip(plain.iter()).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2));
    let mean = squares.sum::<u64>() as f64 / plain.as_raw().len() as f64;
    assert!(mean > 0.0 && 10.0 * (255.0_f64.powi(2) / mean).log10() >= 42.0, "{mean}");
    let mut file = fs::File::create(shown.at("again.jpg")).unwrap();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 75);
    pixels.write_with_encoder(encoder).unwrap();
    image::imageops::crop_imm(&pixels, 19, 23, 222, 222)
        .to_image()
        .save(shown.at("part.png"))
        .unwrap();
    let filter = image::imageops::FilterType::Triangle;
    image::imageops::resize(&pixels, 128, 128, filter).save(shown.at("half.png")).unwrap();
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

/// An edit commits to the files that it was drawn from: those, in their order, open it and draw it again.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_tells_what_it_was_drawn_from() {
    let model = klein::model_directory("klein-1x1");
    let words = ["--set", "provenance=c2pa"];
    let mut serve = Program::command_with_model(model.path().as_ref(), &words);
    let node = Program::start(serve.stderr(Stdio::null()));
    let shown = Shown::of(node).await;
    for (name, width, height) in [("a.png", 96, 70), ("b.png", 64, 80)] {
        let rgb = klein::pattern(width, height);
        image::RgbImage::from_raw(width, height, rgb).unwrap().save(shown.at(name)).unwrap();
    }
    let (a, b) = (shown.path("a.png"), shown.path("b.png"));
    let inputs = ["--image", &a, "--image", &b];
    shown.drawn(0, "star.png", &[&inputs[..], &["--provenance", "c2pa"]].concat());

    let (told, prompt) = (shown.path("star.png.provenance.json"), shown.path("prompt"));
    let model = model.path().to_str().unwrap();
    let both = |code: i32, files: &[&String]| {
        let files: Vec<&str> = files.iter().flat_map(|file| ["--input-image", file]).collect();
        let words = ["--disclose", &told, "--prompt-file", &prompt];
        let verified = shown.verify(code, "star.png", &[&words[..], &files].concat());
        let words =
            ["replay", &told, "--prompt-file", &prompt, "--device", "cpu", "--model", model];
        let replayed = shown.says(code, &[&words[..], &files].concat());
        (verified, replayed)
    };
    let (verified, replayed) = both(0, &[&a, &b]);
    assert!(verified.contains("input images") && replayed.contains("bit for bit"), "{replayed}");
    for (files, problem) in [
        (vec![&b, &a], "in another order"),
        (vec![&a], "from 2 input images, and --input-image names 1"),
        (vec![], "from 2 input images, and --input-image names 0"),
        (vec![&a, &a], "is not input image 2"),
        (vec![&prompt, &b], "is not input image 1"),
    ] {
        let (verified, replayed) = both(10, &files);
        assert!(verified.contains(problem) && replayed.contains(problem), "{verified}\n{replayed}");
    }
    // Under a mask, which is committed to as well. The right half is transparent.
    let alpha = |x: u32, _| image::Rgba([0, 0, 0, if x < 48 { 255 } else { 0 }]);
    let (mask, opaque) = (shown.path("mask.png"), shown.path("opaque.png"));
    image::RgbaImage::from_fn(96, 70, alpha).save(&mask).unwrap();
    image::RgbaImage::from_pixel(96, 70, image::Rgba([0, 0, 0, 255])).save(&opaque).unwrap();
    let drawn = |code: i32, name: &str, mask: &str, more: &[&str]| {
        let words = ["--image", &a, "--mask", mask, "--provenance", "c2pa"];
        shown.drawn(code, name, &[&words[..], more].concat())
    };
    drawn(0, "masked.png", &mask, &[]);
    assert_eq!(image::image_dimensions(shown.at("masked.png")).unwrap(), (96, 64));
    for (mask, more, says) in [
        (&opaque, &[][..], "is transparent nowhere"),
        (&b, &[], "has 64×80 pixels, and the first image 96×70"),
        (&a, &[], "has no alpha channel"),
        (&prompt, &[], "is neither PNG"),
        (&mask, &["--size", "64x64"], "`auto` or `96x64`"),
    ] {
        let said = drawn(1, "refused.png", mask, more);
        assert!(said.contains(says), "{said}");
    }
    let masked_told = shown.path("masked.png.provenance.json");
    let opened = |code: i32, more: &[&str]| {
        let words = ["replay", &masked_told, "--prompt-file", &prompt, "--device", "cpu"];
        let words = [&words[..], &["--model", model, "--input-image", &a], more].concat();
        shown.says(code, &words)
    };
    assert!(opened(0, &["--input-mask", &mask]).contains("bit for bit"));
    assert!(opened(10, &[]).contains("under a mask: --input-mask names it"));
    assert!(opened(10, &["--input-mask", &opaque]).contains("is not its mask"));
    // What came with the image says otherwise, and is believed in nothing.
    shown.change("lie", |told| drop(told.as_object_mut().unwrap().remove("images")));
    let words = ["--disclose", &shown.path("lie"), "--prompt-file", &prompt];
    assert!(shown.verify(10, "star.png", &words).contains("something else was asked for"));
}

/// Two kinds of nodes, and what each says without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_in_clear_text_signs_by_setting_and_sealed_on_request() {
    let shown = Shown::start().await;
    let off = Program::serve(&["--allow-plaintext"], Stdio::null());
    off.ready().await;
    let asked = |more: Value| {
        let mut body = json!({ "model": MODEL, "prompt": PROMPT, "size": "64x64", "steps": 1,
            "seed": 3, "response_format": "b64_json" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let clear = async |url: &str, more: Value| -> Value {
        let url = format!("{url}/v1/images/generations");
        http().post(url).json(&asked(more)).send().await.unwrap().json().await.unwrap()
    };
    let is_signed = |answer: &Value| {
        let data = &answer["data"][0];
        let file = data["b64_json"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let signed = holds_manifest(&BASE64_STANDARD.decode(file).unwrap());
        (signed, data["provenance"]["receipt"].is_string())
    };
    let on = &shown.node.url;
    assert_eq!(is_signed(&clear(on, json!({})).await), (true, true));
    assert_eq!(is_signed(&clear(on, json!({ "provenance": "none" })).await), (false, false));
    assert_eq!(is_signed(&clear(on, json!({ "provenance": "receipt" })).await), (false, true));
    assert_eq!(is_signed(&clear(&off.url, json!({})).await), (false, false));
    assert_eq!(
        is_signed(&clear(&off.url, json!({ "provenance": "receipt" })).await),
        (false, true)
    );
    let salt = "ab".repeat(32);
    let own = clear(on, json!({ "provenance_salt": salt })).await;
    assert_eq!(own["data"][0]["provenance"]["salt"], salt, "the operator's word commits");
    for (more, param) in [
        (json!({ "provenance": "c2pa" }), "provenance"),
        (json!({ "provenance": "c2pa+mark" }), "provenance"),
        (json!({ "provenance": "mark" }), "provenance"),
        (json!({ "provenance": true }), "provenance"),
        (json!({ "provenance": "receipt", "provenance_salt": "no" }), "provenance_salt"),
        (json!({ "provenance_salt": salt }), "provenance_salt"),
        (json!({ "provenance": "none", "provenance_salt": salt }), "provenance_salt"),
    ] {
        assert_eq!(clear(&off.url, more).await["error"]["param"], param);
    }

    // Sealed: nobody outside sees by the length what was asked for.
    let mut lengths = Vec::new();
    for (more, signed) in
        [(json!({}), false), (json!({ "provenance": "c2pa", "provenance_salt": salt }), true)]
    {
        let sent = sealed(on, &asked(more)).await;
        let envelope: Value = serde_json::from_str(&sent.text).unwrap();
        lengths.push(envelope["ciphertext"].as_str().unwrap_or_else(|| panic!("{envelope}")).len());
        let answer: Value = serde_json::from_str(&sent.open()).unwrap();
        assert_eq!(is_signed(&answer), (signed, signed));
        if signed {
            let told = &answer["data"][0]["provenance"];
            assert_eq!(told["salt"], salt);
            check_commitment(told);
        }
    }
    assert_eq!(lengths[0], lengths[1]);
    // Even where the operator has clear answers signed: sealed, only the client says what is said.
    let sent = sealed(on, &asked(json!({ "provenance_salt": salt }))).await;
    assert_eq!(sent.status, 400);
    let refused: Value = serde_json::from_str(&sent.open()).unwrap();
    assert_eq!(refused["error"]["param"], "provenance_salt");
    let sent = sealed(&off.url, &asked(json!({ "provenance": "c2pa" }))).await;
    assert_eq!(sent.status, 400);
    assert!(!sent.text.contains("manifests"), "sealed: {}", sent.text);
}

async fn sealed(url: &str, body: &Value) -> Sent {
    let lock = http().post(format!("{url}/v1/nodes/lock")).json(&json!({ "model": MODEL }));
    let lock: Value = lock.send().await.unwrap().json().await.unwrap();
    let key = BASE64_STANDARD.decode(lock["public_key"].as_str().unwrap()).unwrap();
    let body = body.to_string();
    let mut exchange = Exchange::seal_to(url, &key.try_into().unwrap(), body.as_bytes(), http());
    exchange.envelope.model_name = MODEL.to_owned();
    exchange.send().await
}

/// The receipt commits to what was asked for, under the client's own salt.
fn check_commitment(told: &Value) {
    let receipt = BASE64_STANDARD.decode(told["receipt"].as_str().unwrap()).unwrap();
    let statement = SignedReceipt::read(&receipt).unwrap().receipt.statement;
    let drawing = Drawing {
        prompt: PROMPT,
        seed: 3,
        width_px: 64,
        height_px: 64,
        steps: 1,
        guidance: None,
        inputs: &[],
        mask: None,
    };
    let salt = Salt::from_hex(told["salt"].as_str().unwrap()).unwrap();
    assert_eq!(drawing.commitment(&salt), statement.commitment);
    assert_eq!((statement.platform.as_str(), statement.measurements.len()), ("simulated", 4));
}
