//! What is fuzzed: each target is one function over bytes from outside, with the inputs it starts from.
//!
//! The fuzzer (`scripts/fuzz.sh`) and an ordinary test (`tests/fuzz.rs`) share this file. A target fails
//! where it panics, hangs or takes memory that its input did not pay for; what it returns does not matter.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use attest::{
    Platform, Policy, Report,
    binding::Nonce,
    event_log::EventLog,
    gpu_evidence::{self, GpuEvidence},
    measure::{
        AcpiTables, CommandLine, Firmware, FirmwareLog, Image, Memory, Platform as Machine,
        SnpMachine, Vcpus, snp_launch_digest,
    },
    nonces::NoncePath,
    verify::{Challenge, appraise, verify},
};
use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest,
    CreateImageResponse, ErrorBody, FormField, Format, GuidanceUse, ImageRequest, Limits,
    ModelCapabilities, Operation, Seed, Sequenced, Size,
};
use provenance::{Manifest, ManifestSigner, Receipt, SignedReceipt, Statement, embed};
use seal::{Epoch, Keyring, KeyringLimits};
use serde_json::Value;

/// A target.
pub struct Target {
    /// As `scripts/fuzz.sh` and the corpus's folder call it.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// The inputs it starts from, made of the fixtures in this folder.
    pub seeds: fn(&Path) -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "envelope", run: envelope, seeds: envelope_seeds },
    Target { name: "request", run: request, seeds: request_seeds },
    Target { name: "form", run: form, seeds: form_seeds },
    Target { name: "input_image", run: engine::fuzzing::input_image, seeds: image_seeds },
    Target { name: "response", run: response, seeds: response_seeds },
    Target { name: "stream", run: stream, seeds: stream_seeds },
    Target { name: "report", run: report, seeds: report_seeds },
    Target { name: "quote", run: quote, seeds: quote_seeds },
    Target { name: "gpu", run: gpu, seeds: gpu_seeds },
    Target { name: "event_log", run: event_log, seeds: event_log_seeds },
    Target { name: "measure", run: measure, seeds: measure_seeds },
    Target { name: "safetensors", run: flux::fuzzing::safetensors, seeds: safetensors_seeds },
    Target { name: "lora", run: flux::fuzzing::lora, seeds: lora_seeds },
    Target { name: "config", run: flux::fuzzing::config, seeds: config_seeds },
    Target { name: "tokenizer", run: flux::fuzzing::tokenizer, seeds: tokenizer_seeds },
    Target { name: "manifest", run: manifest, seeds: manifest_seeds },
    Target { name: "provenance", run: provenance, seeds: provenance_seeds },
];

/// Runs the target of this name.
///
/// # Panics
/// Where there is none, or the input is a finding.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(input);
}

/// A request as it arrives: envelope, opening, and what was inside.
fn envelope(input: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<ConfidentialComputeRequest>(input) else { return };
    let keys = seal::dangerous::node_keys(NODE_SECRET, [7; 32]);
    let limits = KeyringLimits { grace: Duration::ZERO, max_ciphertext_bytes: 1 << 18 };
    let keyring = Keyring::new(Epoch::new(keys, [0; 32], 16), limits);
    if let Ok((plaintext, _)) = keyring.open(&envelope, Instant::now()) {
        request(plaintext.as_bytes());
    }
}

/// The vectors' node: 01 02 03 … 20.
const NODE_SECRET: [u8; 32] = {
    let mut secret = [0; 32];
    let mut i = 0;
    while i < 32 {
        secret[i] = i as u8 + 1;
        i += 1;
    }
    secret
};

/// A request in clear text, checked against what a node offers.
fn request(input: &[u8]) {
    if let Ok(request) = CreateImageRequest::from_json(input) {
        checked(request);
    }
}

/// A form, as an edit's.
fn form(input: &[u8]) {
    let Ok(parts) = web::multipart::parts(input, "xyz") else { return };
    assert!(parts.iter().map(|part| part.data.len()).sum::<usize>() <= input.len());
    let fields = parts.iter().map(|part| FormField { name: &part.name, value: part.data });
    if let Ok(request) = CreateImageRequest::from_form(fields) {
        checked(request);
    }
}

/// As a generation, or as an edit whose first image has some size.
fn checked(mut request: CreateImageRequest) {
    let capabilities = ModelCapabilities {
        model: "black-forest-labs/FLUX.1-schnell".to_owned(),
        native_size: Size::new(1024, 1024).expect("multiples of 16"),
        guidance: GuidanceUse::Reads,
        max_input_images: 4,
        limits: Limits {
            max_pixels: 1 << 22,
            max_total_pixels: 10 << 20,
            max_prompt_chars: 32_000,
        },
    };
    let seed = || Seed::new(0);
    let parsed = match request.operation() {
        Operation::Generation => ImageRequest::parse(request, &capabilities, seed),
        Operation::Edit => request.take_input_files(4).and_then(|files| {
            let side = files.iter().map(|file| file.len()).sum::<usize>() as u32 % 9000;
            ImageRequest::parse_edit(request, [side.max(1), 512], &capabilities, seed)
        }),
    };
    if let Ok(request) = parsed {
        assert!(request.pixels() <= 10 << 20);
        assert!(request.latent_patches() * 256 <= request.pixels());
    }
}

/// A node's answer as the client reads it: the envelope, its opening, and, as if it had opened, the body of
/// an answer, of an event or of an error.
fn response(input: &[u8]) {
    let _ = CreateImageResponse::from_json(input);
    let _ = Sequenced::from_json(Operation::Generation, input);
    let _ = Sequenced::from_json(Operation::Edit, input);
    let _ = serde_json::from_slice::<ErrorBody>(input);
    let Ok(envelope) = serde_json::from_slice::<ConfidentialComputeResponse>(input) else { return };
    let node = seal::dangerous::node_keys(NODE_SECRET, [7; 32]).exchange_public();
    let (_, opener) = seal::seal_request(&node, seal::Zeroizing::new(b"{}".to_vec()))
        .expect("randomness, and a key of the right kind");
    let _ = opener.stream_unattested().open(&envelope);
}

/// A stream of events as the client reads it, each of them like an answer. The first byte says in how
/// large chunks it comes.
fn stream(input: &[u8]) {
    let Some((&chunk_bytes, stream)) = input.split_first() else { return };
    for message in client::fuzzing::messages(stream, usize::from(chunk_bytes)) {
        response(&message);
    }
}

/// A whole report, by the rules for simulated nodes.
fn report(input: &[u8]) {
    let _ = appraise(input, &simulated(), &challenge());
}

fn simulated() -> Policy {
    Policy::production().dangerous().accept_simulated()
}

fn challenge() -> Challenge {
    let nonce = Nonce::new([7; 32]).expect("not all zeros");
    Challenge { nonce, now_secs: 1_800_000_000 }
}

/// A quote and its collateral. The first byte says whose; two more, where the quote ends.
fn quote(input: &[u8]) {
    let Some((&[kind, low, high], rest)) = input.split_first_chunk() else { return };
    let end = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (quote, collateral) = rest.split_at(end);
    let platform = if kind.is_multiple_of(2) { Platform::Tdx } else { Platform::Snp };
    let report = Report {
        platform,
        quote: quote.to_vec(),
        collateral: collateral.to_vec(),
        ..empty_report()
    };
    let _ = verify(&report, &Policy::production(), &challenge());
}

fn empty_report() -> Report {
    Report {
        platform: Platform::Tdx,
        nonce: Nonce::ABSENT,
        nonce_path: NoncePath::alone([0; 32]),
        keyset: Vec::new(),
        possession: [0; 64],
        model_manifest: Vec::new(),
        device_evidence: Vec::new(),
        event_log: Vec::new(),
        quote: Vec::new(),
        collateral: Vec::new(),
    }
}

/// What a GPU signs: an SPDM message of so many bytes as the first two say, then its certificates.
fn gpu(input: &[u8]) {
    let Some((&length, rest)) = input.split_first_chunk() else { return };
    let end = usize::from(u16::from_le_bytes(length)).min(rest.len());
    let (report, certificates) = rest.split_at(end);
    let gpu = GpuEvidence { report: report.to_vec(), certificates: certificates.to_vec() };
    let report = Report { device_evidence: gpu_evidence::encode(&[gpu]), ..empty_report() };
    let _ = verify(&report, &Policy::production(), &challenge());
}

fn event_log(input: &[u8]) {
    if let Ok(log) = EventLog::parse(input) {
        let _ = log.replay();
        assert_eq!(EventLog::parse(&log.to_json()).ok().as_ref(), Some(&log));
    }
}

/// An image of anybody's, and a receipt.
fn provenance(input: &[u8]) {
    if let Ok(manifest) = Manifest::read(input) {
        let _ = (manifest.check_bytes(input), manifest.check_signature());
    }
    let _ = SignedReceipt::read(input);
}

fn provenance_seeds(_: &Path) -> Vec<Vec<u8>> {
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

fn manifest(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(manifest) = flux::Manifest::parse(text) {
        assert_eq!(flux::Manifest::parse(&manifest.to_toml()).ok(), Some(manifest));
    }
}

// Where each starts.

fn vectors(fixtures: &Path) -> Vec<Value> {
    let file = fs::read(fixtures.join("wire/atoma-wire-v1.json")).expect("the wire's vectors");
    let vectors: Value = serde_json::from_slice(&file).expect("JSON");
    vectors["cases"].as_array().expect("cases").clone()
}

fn field_of_vectors(fixtures: &Path, field: &str) -> Vec<Vec<u8>> {
    let bytes = |value: &Value| match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    };
    vectors(fixtures).iter().filter_map(|case| case.get(field).map(bytes)).collect()
}

fn envelope_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    field_of_vectors(fixtures, "request")
}

fn request_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let mut seeds = field_of_vectors(fixtures, "request_plaintext");
    seeds.push(
        br#"{"model":"black-forest-labs/FLUX.1-schnell","prompt":"a","n":2,"size":"512x768","quality":"hd",
        "style":"vivid","output_format":"jpeg","output_compression":80,"response_format":"b64_json",
        "stream":true,"partial_images":3,"background":"auto","moderation":"low","user":"u","seed":7,
        "steps":4,"guidance":3.5,"progress":true}"#
            .to_vec(),
    );
    seeds.push(
        br#"{"model":"black-forest-labs/FLUX.1-schnell","prompt":"a","input_fidelity":"high","images":
        ["data:image/png;base64,AAEC",{"image_url":"data:image/webp;base64,AwQF"},{"file_id":"f"}],"mask":null}"#
            .to_vec(),
    );
    seeds
}

fn form_seeds(_: &Path) -> Vec<Vec<u8>> {
    let fields = [
        ("name=\"model\"", "black-forest-labs/FLUX.1-schnell"),
        ("name=prompt", "a \"red\" fox"),
        ("name=\"image[]\"; filename=\"a;\\\"b.png\"\r\nContent-Type: image/png", "\u{1}PNG"),
        ("name=image", ""),
        ("name=\"n\"\r\nContent-Transfer-Encoding: binary", "2"),
        ("name=\"seed\"", "-1"),
        ("name=\"stream\"", "true"),
    ];
    let part = |(head, value): &(&str, &str)| {
        format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    };
    let parts: String = fields.iter().map(part).collect();
    vec![format!("before\r\n{parts}--xyz--\r\nafter").into_bytes(), b"--xyz--".to_vec()]
}

/// One in each format, of 80×64 pixels.
fn image_seeds(_: &Path) -> Vec<Vec<u8>> {
    let size = Size::new(80, 64).expect("multiples of 16");
    let rgb: Vec<u8> = (0..3 * size.pixels()).map(|i| (i * i / 97) as u8).collect();
    let image = engine::Image { size, rgb: rgb.into() };
    [Format::Png, Format::JPEG, Format::WebP]
        .map(|format| engine::encode(&image, format).expect("an image of a format").to_vec())
        .to_vec()
}

fn response_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let mut seeds = field_of_vectors(fixtures, "response");
    seeds.extend(field_of_vectors(fixtures, "response_plaintext"));
    let events = [
        r#"{"type":"image_generation.progress","sequence_number":0,"final":false,"step":1,"steps":4}"#,
        r#"{"type":"image_generation.partial_image","sequence_number":1,"final":false,"b64_json":"AA==",
        "partial_image_index":0,"created_at":1,"size":"16x16","quality":"low","background":"opaque",
        "output_format":"png"}"#,
        r#"{"type":"error","sequence_number":2,"final":true,"error":{"message":"m","type":"server_error",
        "param":null,"code":null}}"#,
    ];
    seeds.extend(events.map(|event| event.as_bytes().to_vec()));
    seeds
}

/// The vectors' answers as events, in chunks of odd sizes, between what else a stream may have.
fn stream_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let answers = field_of_vectors(fixtures, "response");
    let event = |answer: &Vec<u8>| [b"data: ", answer.as_slice(), b"\r\n\n"].concat();
    let mut whole = b"\x07: waiting\n\nevent: message\nid: 1\nretry: 10\n".to_vec();
    whole.extend(answers.iter().take(2).flat_map(event));
    whole.extend(b"data:{}\n\ndata: cut off");
    let mut seeds = vec![whole, b"\x01data:\ndata\n\n\ndata:  [DONE] \n".to_vec()];
    seeds.extend(answers.iter().map(|answer| [b"\xff".as_slice(), &event(answer)].concat()));
    seeds
}

fn attestation(fixtures: &Path, name: &str) -> Vec<u8> {
    fs::read(fixtures.join("attestation").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn report_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    vec![attestation(fixtures, "simulated/report.json")]
}

fn quote_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let seed = |kind: u8, quote: &str, collateral: Option<&str>| {
        let quote = attestation(fixtures, quote);
        let mut bytes = vec![kind];
        bytes.extend((quote.len() as u16).to_le_bytes());
        bytes.extend(&quote);
        bytes.extend(collateral.map(|name| attestation(fixtures, name)).unwrap_or_default());
        bytes
    };
    vec![
        seed(0, "tdx/v4.quote", Some("tdx/v4.collateral.json")),
        seed(0, "tdx/v5-td15ex.quote", Some("tdx/v5-td15ex.collateral.json")),
        seed(0, "tdx/sgx.quote", Some("tdx/sgx.collateral.json")),
        seed(1, "snp/milan-v2.report", Some("snp/milan.chain.pem")),
    ]
}

fn gpu_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let report = attestation(fixtures, "gpu/hopper.report");
    let mut bytes = (report.len() as u16).to_le_bytes().to_vec();
    bytes.extend(&report);
    bytes.extend(attestation(fixtures, "gpu/hopper.chain.pem"));
    vec![bytes]
}

/// A file of a release, as each of the things that it may be.
fn measure(input: &[u8]) {
    let line: CommandLine = "console=ttyS0".parse().expect("printable");
    let known = Image::new(&efi_image(), b"initrd", &line).expect("the smallest EFI image");
    let _ = Image::new(input, b"initrd", &line);
    let _ = FirmwareLog::parse(input).map(|log| log.differences(1, &known.rtmr1_events()));
    let Ok(firmware) = Firmware::new(input) else { return };
    let acpi = AcpiTables::new(&[0; 128], b"RSD PTR 000000000000", b"FACS").expect("their form");
    let memory = Memory::new(2 << 30).expect("a machine's");
    let _ = Machine::new(&firmware, memory, &acpi).map(|machine| machine.rtmr0());
    let vcpus = Vcpus::new(2).expect("a machine's");
    let cpu = "EPYC-v4".parse().expect("one of QEMU's");
    let _ = snp_launch_digest(&firmware, &known, &SnpMachine::new(cpu, vcpus));
}

/// Headers, and one section.
fn efi_image() -> Vec<u8> {
    let mut file = vec![0; 0x300];
    for (at, bytes) in [
        (0, &b"MZ"[..]),
        (0x3c, &[0x40]),
        (0x40, b"PE\0\0\x64\x86\x01"),
        (0x54, &[0xa0]),
        (0x58, &[0x0b, 2]),
        (0x58 + 61, &[2]),
        (0x58 + 108, &[6]),
        (0x58 + 0xa0 + 17, &[1]),
        (0x58 + 0xa0 + 21, &[2]),
    ] {
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

fn measure_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let guest = fixtures.join("attestation/guest");
    let file = |name| fs::read(guest.join(name)).expect("a fixture");
    let published: Value = serde_json::from_slice(&file("tdx-2g.json")).expect("JSON");
    let log = published["event_log"].as_str().expect("a log").as_bytes().to_vec();
    vec![file("ovmf_AmdSev_suffix.bin"), file("ovmf_OvmfX64_suffix.bin"), log, efi_image()]
}

fn event_log_seeds(_: &Path) -> Vec<Vec<u8>> {
    let mut log = EventLog::default();
    log.push_model([7; 32]);
    log.push("another", b"payload");
    vec![log.to_json(), b"[]".to_vec()]
}

/// The forms of names, and what must not be taken for one.
fn lora_seeds(_: &Path) -> Vec<Vec<u8>> {
    let pair = |metadata: &str, down: &str, up: &str, alpha: &str| {
        let alpha = match alpha {
            "" => String::new(),
            name => format!(r#","{name}":{{"dtype":"BF16","shape":[],"data_offsets":[16,18]}}"#),
        };
        let header = format!(
            r#"{{{metadata}"{down}":{{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}},"{up}":{{"dtype":"BF16","shape":[6,1],"data_offsets":[4,16]}}{alpha}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0x80, 0x3f].repeat(if alpha.is_empty() { 8 } else { 9 }));
        bytes
    };
    let q = "transformer.transformer_blocks.0.attn.to_q";
    let qkv = "lora_unet_double_blocks_0_img_attn_qkv";
    let single = "diffusion_model.single_blocks.1.linear1";
    let told = r#""__metadata__":{"lora_adapter_metadata":"{\"transformer.lora_alpha\": 2, \"transformer.alpha_pattern\": {\"to_q\": 1.5}}"},"#;
    vec![
        pair("", &format!("{q}.lora_A.weight"), &format!("{q}.lora_B.weight"), ""),
        pair(told, &format!("{q}.lora_A.weight"), &format!("{q}.lora_B.weight"), ""),
        pair(
            "",
            &format!("{qkv}.lora_down.weight"),
            &format!("{qkv}.lora_up.weight"),
            &format!("{qkv}.alpha"),
        ),
        pair("", &format!("{single}.lora_A.weight"), &format!("{single}.lora_B.weight"), ""),
        pair(
            "",
            &format!("{q}.lokr_w1"),
            &format!("{q}.lora_magnitude_vector"),
            "lora_te1_x.alpha",
        ),
    ]
}

fn safetensors_seeds(_: &Path) -> Vec<Vec<u8>> {
    let headers = [
        r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}"#,
        r#"{"a.weight":{"dtype":"F16","shape":[5,1],"data_offsets":[0,10]}}"#,
        "{}",
    ];
    headers
        .iter()
        .map(|header| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend([0; 10]);
            bytes
        })
        .collect()
}

/// The first byte says which configuration.
fn config_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let files = [
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "transformer/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
    ];
    let demo = fixtures.join("../../models/demo");
    files
        .iter()
        .enumerate()
        .map(|(which, file)| {
            let mut bytes = vec![which as u8];
            bytes.extend(fs::read(demo.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")));
            bytes
        })
        .collect()
}

/// A small tokenizer of each kind, and the demo model's with its character map.
fn tokenizer_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let unigram = r#"{"version":"1.0","added_tokens":[{"id":0,"content":"<pad>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":false,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"model":{"type":"Unigram","unk_id":2,"vocab":[["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["▁a",-1.5]],"byte_fallback":false}}"#;
    let bpe = r#"{"added_tokens":[],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\s+"},"behavior":"Removed","invert":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},"model":{"type":"BPE","dropout":null,"unk_token":"<|endoftext|>","continuing_subword_prefix":"","end_of_word_suffix":"</w>","fuse_unk":false,"vocab":{"<|startoftext|>":0,"<|endoftext|>":1,"a":2,"b</w>":3,"ab</w>":4},"merges":["a b</w>"]}}"#;
    let map = r#"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAA="},"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0.0]]}}"#;
    let whole = fs::read(fixtures.join("../../models/demo/tokenizer_2/tokenizer.json"));
    let mut seeds: Vec<Vec<u8>> = [unigram, bpe, map].map(|text| text.as_bytes().to_vec()).into();
    seeds.extend(whole);
    seeds
}

fn manifest_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let models = fixtures.join("../../models");
    ["flux1-schnell.toml", "demo/obscura.toml"]
        .map(|name| fs::read(models.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
        .into()
}
