//! What is left in a node's memory of an exchange once it is over, and of keys that serve no more.
//!
//! The test reads the memory of the whole process, as whoever broke into it could: heap, stacks of all
//! threads, locked pages. It knows what to look for, since it keeps the client's secrets.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use aes_gcm::aes::{
    Aes256,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tests::http;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    client::{Exchange, MODEL, files, node_public},
    keys::{expect_no_key, locked_secrets},
    program::Program,
    scan::{Memory, Needles},
};

const PROMPT: &str =
    "a xylophonist quagmires zephyrine bdellium and seven kumquats under a gibbous moon";
/// An answer is on its way before the last buffer is freed.
const SETTLED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_outlives_its_use() {
    let node = Program::start(
        Program::command(&["--set", "key_lifetime_secs=6", "--set", "key_grace_secs=3"])
            .stderr(Stdio::null()),
    );
    node.ready().await;
    let Ok(memory) = Memory::of(node.id()) else {
        eprintln!("skipped: reading another process's memory takes root");
        return;
    };
    let keys = NodeKeys::find(&memory, node_public(&node).await);
    let public = node_public(&node).await;
    assert!(locked_secrets(&memory, public) > 0, "the search finds what the node still holds");

    // Found while it is there, or the test would find nothing whatever were left.
    let held = memory.find(&Needles::new(keys.needles()));
    assert!(!held.is_empty(), "the node's secret lies on its locked page");

    let mut secrets = Vec::new();
    let mut exchanges = Vec::new();
    for n in 0..4 {
        let exchange =
            Exchange::of(&node, json!({"prompt": PROMPT, "size": "64x64", "seed": n})).await;
        let (status, answer) = exchange.send(&node).await;
        assert_eq!(status, 200, "{answer}");
        secrets.extend(of_exchange(&exchange, &answer));
        exchanges.push(exchange);
    }
    expect_none(&memory, "after answers", &secrets).await;

    let fields = json!({
        "prompt": PROMPT, "size": "64x64", "stream": true, "partial_images": 2, "progress": true,
    });
    let stream = Exchange::of(&node, fields).await;
    let (status, answer) = stream.send(&node).await;
    assert_eq!(status, 200, "{answer}");
    secrets.extend(of_exchange(&stream, &answer));
    let refused = Exchange::of(&node, json!({"prompt": PROMPT, "size": "1x1"})).await;
    let (status, answer) = refused.send(&node).await;
    assert_eq!(status, 400, "{answer}");
    secrets.extend(of_exchange(&refused, "{"));
    exchanges.extend([stream, refused]);
    expect_none(&memory, "after a stream and a refusal", &secrets).await;

    // The first keys go when their grace ends, on a node that nobody asks for anything.
    let mut all = secrets;
    all.extend(keys.needles());
    expect_none(&memory, "after rotation, on a quiet node", &all).await;
    expect_no_key(&memory, "after rotation", &exchanges, public);
}

/// The route in clear text leaves nothing either, once its client has closed the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_clear_text_leaves_nothing() {
    let node = Program::serve(&["--allow-plaintext"], Stdio::null());
    node.ready().await;
    let Ok(memory) = Memory::of(node.id()) else {
        eprintln!("skipped: reading another process's memory takes root");
        return;
    };
    let prompt = Needles::new(of_prompt());
    let slow = tokio::spawn(in_clear_text(&node, json!({"size": "512x512", "steps": 8})));
    while memory.find(&prompt).is_empty() {
        assert!(!slow.is_finished(), "the prompt is not found while its image is made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut secrets = of_prompt();
    let mut answers = vec![slow.await.unwrap()];
    answers.push(in_clear_text(&node, json!({"size": "64x64"})).await);
    let stream = json!({"size": "64x64", "stream": true, "partial_images": 2});
    answers.push(in_clear_text(&node, stream).await);
    answers.push(in_clear_text(&node, json!({"size": "1x1"})).await);
    for (status, answer) in &answers {
        assert_eq!(*status == 400, answer.contains("\"error\""), "{answer}");
        let events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
        let bodies: Vec<Value> = match serde_json::from_str(answer) {
            Ok(body) => vec![body],
            Err(_) => events.map(|event| serde_json::from_str(event).unwrap()).collect(),
        };
        let files = files(&bodies);
        assert_eq!(*status == 200, !files.is_empty(), "{answer}");
        files.iter().for_each(|file| secrets.extend(of_file(file)));
    }
    expect_none(&memory, "after requests in clear text", &secrets).await;
}

/// Sends these fields, the prompt and the model's name; the status, and the answer. The connection
/// ends with it.
fn in_clear_text(node: &Program, fields: Value) -> impl Future<Output = (u16, String)> + use<> {
    let mut body = json!({"model": MODEL, "prompt": PROMPT, "response_format": "b64_json"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let asked = http().post(format!("{}/v1/images/generations", node.url)).json(&body).send();
    async {
        let answer = asked.await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// Nor do input images, whichever way they came in, whatever became of the request.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_leaves_nothing() {
    // As the client of these tests asks for its key.
    const KLEIN: &str = MODEL;
    let directory = tests::klein::model_directory("klein-2x0");
    let words = ["--allow-plaintext", "--model-id", KLEIN];
    let mut command = Program::command_with_model(directory.path().as_os_str(), &words);
    let node = Program::start(command.stderr(Stdio::null()));
    node.ready().await;
    let Ok(memory) = Memory::of(node.id()) else {
        eprintln!("skipped: reading another process's memory takes root");
        return;
    };
    let input = |format| {
        let pixels = image::RgbImage::from_raw(160, 96, tests::klein::pattern(160, 96)).unwrap();
        let mut file = std::io::Cursor::new(Vec::new());
        pixels.write_to(&mut file, format).unwrap();
        file.into_inner()
    };
    let url = |file: &[u8]| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(file));
    let mut secrets = of_prompt();
    let mut answers = Vec::new();
    for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::WebP] {
        let file = input(format);
        secrets.extend(
            of_file(&file).into_iter().map(|(name, bytes)| (format!("input: {name}"), bytes)),
        );
        let fields = json!({
            "model": KLEIN, "prompt": PROMPT, "steps": 1, "size": "64x64", "images": [url(&file)],
        });
        let sealed = Exchange::of(&node, fields.clone()).await;
        let (status, answer) = sealed.send_to(&node, "edits").await;
        assert_eq!(status, 200, "{answer}");
        answers.extend(sealed.open(&answer));
        let in_clear = http().post(format!("{}/v1/images/edits", node.url)).json(&fields);
        answers.push(in_clear.send().await.unwrap().json().await.unwrap());
        // Refused after it was decoded in part.
        let refused = json!({
            "model": KLEIN, "prompt": PROMPT, "images": [url(&file), url(&file[..file.len() / 2])],
        });
        let refused = http().post(format!("{}/v1/images/edits", node.url)).json(&refused);
        assert_eq!(refused.send().await.unwrap().status(), 400);
    }
    let files = files(&answers);
    assert_eq!(files.len(), 6);
    files.iter().for_each(|file| secrets.extend(of_file(file)));
    expect_none(&memory, "after edits", &secrets).await;
}

/// A node's long-lived secrets, as whoever reads its memory finds them.
struct NodeKeys {
    exchange: [u8; 32],
    /// Seeds of Ed25519; which one it is, only a signature would tell.
    signing: Vec<[u8; 32]>,
}

impl NodeKeys {
    /// Tries every window of the locked pages.
    fn find(memory: &Memory, public: [u8; 32]) -> Self {
        let mut exchange = None;
        let mut signing = Vec::new();
        for region in memory.regions().iter().filter(|region| region.is_locked) {
            let bytes = memory.read(region.start, region.end - region.start);
            for window in bytes.windows(32).step_by(8) {
                let secret: [u8; 32] = window.try_into().unwrap();
                if secret.iter().filter(|byte| **byte == 0).count() > 8 {
                    continue;
                }
                if PublicKey::from(&StaticSecret::from(secret)).to_bytes() == public {
                    exchange = Some(secret);
                }
                let verifying = SigningKey::from_bytes(&secret).verifying_key().to_bytes();
                // Its public half lies beside it.
                if bytes.windows(32).any(|window| window == verifying) {
                    signing.push(secret);
                }
            }
        }
        assert!(!signing.is_empty(), "the signing key lies on a locked page");
        Self { exchange: exchange.expect("the X25519 secret lies on a locked page"), signing }
    }

    /// Without the bytes that X25519 and Ed25519 change before they compute with them.
    fn needles(&self) -> Vec<(String, Vec<u8>)> {
        let mut needles = Vec::new();
        push_halves(&mut needles, "the node's X25519 secret", &self.exchange[1..31]);
        for seed in &self.signing {
            push_halves(&mut needles, "the node's Ed25519 seed", seed);
            let expanded = Sha512::digest(seed);
            push_halves(&mut needles, "the node's Ed25519 scalar", &expanded[1..31]);
            push_halves(&mut needles, "the node's Ed25519 prefix", &expanded[32..]);
        }
        needles
    }
}

/// Everything that nobody but the client may know once its answer is sent.
fn of_exchange(exchange: &Exchange, answer: &str) -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    push_halves(&mut needles, "a shared secret", &exchange.shared);
    push_halves(&mut needles, "an HKDF key", &exchange.extracted);
    for (round, key) in round_keys(&exchange.key).iter().enumerate() {
        let name = if round < 2 { "an AES key" } else { "a round key" };
        needles.push((name.to_owned(), key.to_vec()));
    }
    let mut hash_key = [0; 16].into();
    Aes256::new(&exchange.key.into()).encrypt_block(&mut hash_key);
    needles.push(("a GHASH key".to_owned(), hash_key.to_vec()));

    needles.extend(of_prompt());
    assert!(exchange.plaintext.windows(PROMPT.len()).any(|window| window == PROMPT.as_bytes()));
    if answer == "{" {
        return needles;
    }
    let files = files(&exchange.open(answer));
    assert!(!files.is_empty());
    files.iter().for_each(|file| needles.extend(of_file(file)));
    needles
}

fn of_prompt() -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    push_windows(&mut needles, "the prompt", PROMPT.as_bytes(), 12);
    let utf32: Vec<u8> = PROMPT.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    push_windows(&mut needles, "the prompt as characters", &utf32, 24);
    needles
}

fn of_file(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut needles = Vec::new();
    push_windows(&mut needles, "an image's file", file, 16);
    let base64 = BASE64_STANDARD.encode(file);
    push_windows(&mut needles, "an image in base64", base64.as_bytes(), 24);
    let pixels = image::load_from_memory(file).unwrap().to_rgb8().into_raw();
    push_windows(&mut needles, "an image's pixels", &pixels, 24);
    needles
}

fn push_halves(needles: &mut Vec<(String, Vec<u8>)>, name: &str, secret: &[u8]) {
    let (low, high) = secret.split_at(secret.len() / 2);
    needles.extend([low, high].map(|half| (name.to_owned(), half.to_vec())));
}

/// Up to 50 windows whose bytes vary.
fn push_windows(needles: &mut Vec<(String, Vec<u8>)>, name: &str, bytes: &[u8], length: usize) {
    let varied = |window: &&[u8]| {
        let mut distinct = window.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() >= 7
    };
    let step = (bytes.len() / 50).max(4) / 4 * 4;
    let windows = bytes.windows(length).step_by(step).filter(varied);
    needles.extend(windows.map(|window| (name.to_owned(), window.to_vec())));
}

/// Looks until nothing is found, and fails where that takes too long.
async fn expect_none(memory: &Memory, when: &str, secrets: &[(String, Vec<u8>)]) {
    let mut unique: Vec<_> = secrets.to_vec();
    unique.sort();
    unique.dedup_by(|a, b| a.1 == b.1);
    let needles = Needles::new(unique);
    let started = Instant::now();
    loop {
        let found: BTreeMap<_, _> = memory.find(&needles);
        if found.is_empty() {
            return;
        }
        assert!(started.elapsed() < SETTLED, "{when}, left in memory: {found:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The 15 round keys of AES-256 (FIPS 197, §5.2).
fn round_keys(key: &[u8; 32]) -> Vec<[u8; 16]> {
    let mut words: Vec<[u8; 4]> =
        key.chunks_exact(4).map(|word| word.try_into().unwrap()).collect();
    let mut round_constant = 1_u8;
    while words.len() < 60 {
        let mut word = *words.last().unwrap();
        match words.len() % 8 {
            0 => {
                word.rotate_left(1);
                word = word.map(substitute);
                word[0] ^= round_constant;
                round_constant = doubled(round_constant);
            }
            4 => word = word.map(substitute),
            _ => {}
        }
        let before = words[words.len() - 8];
        words.push(std::array::from_fn(|at| word[at] ^ before[at]));
    }
    words.chunks_exact(4).map(|words| words.concat().try_into().unwrap()).collect()
}

fn doubled(x: u8) -> u8 {
    x << 1 ^ if x & 0x80 == 0 { 0 } else { 0x1b }
}

/// AES's S-box: the inverse in GF(2^8), and an affine map (§5.1.1).
fn substitute(x: u8) -> u8 {
    let product = |a: u8, b: u8| {
        let mut power = a;
        (0..8).fold(0, |sum, bit| {
            let term = if b >> bit & 1 == 1 { power } else { 0 };
            power = doubled(power);
            sum ^ term
        })
    };
    // x^254 is the inverse.
    let inverse = (0..254).fold(1, |power, _| product(power, x));
    let b = inverse;
    b ^ b.rotate_left(1) ^ b.rotate_left(2) ^ b.rotate_left(3) ^ b.rotate_left(4) ^ 0x63
}

#[test]
fn the_key_schedule_is_that_of_fips_197() {
    // Appendix A.3.
    let key: [u8; 32] = [
        0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77,
        0x81, 0x1f, 0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14,
        0xdf, 0xf4,
    ];
    let keys = round_keys(&key);
    assert_eq!(keys.len(), 15);
    assert_eq!(keys[2][..4], [0x9b, 0xa3, 0x54, 0x11]);
    assert_eq!(keys[14][12..], [0x70, 0x6c, 0x63, 0x1e]);
}
