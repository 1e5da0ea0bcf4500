//! Requests and answers, sealed and opened.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use protocol::{
    ConfidentialComputeRequest, ConfidentialComputeResponse, CreateImageRequest,
    CreateImageResponse, ErrorBody, FormField, GuidanceUse, ImageRequest, Limits,
    ModelCapabilities, Operation, Seed, Sequenced, Size,
};
use seal::{Epoch, Keyring, KeyringLimits};
use serde_json::Value;

/// A request as it arrives: envelope, opening, and what was inside.
pub(super) fn envelope(input: &[u8]) {
    let Ok(envelope) = serde_json::from_slice::<ConfidentialComputeRequest>(input) else { return };
    let keys = seal::dangerous::node_keys(NODE_SECRET, [7; 32]);
    let limits = KeyringLimits { grace: Duration::ZERO, max_ciphertext_bytes: 1 << 18 };
    let keyring = Keyring::new(Epoch::new(keys, [0; 32], 16), limits);
    if let Ok((plaintext, _)) = keyring.open(&envelope, Instant::now()) {
        request(plaintext.as_bytes());
    }
}

pub(super) fn envelope_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    field_of_vectors(fixtures, "request")
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
pub(super) fn request(input: &[u8]) {
    if let Ok(request) = CreateImageRequest::from_json(input) {
        checked(request);
    }
}

pub(super) fn request_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
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
    seeds.push(
        br#"{"model":"black-forest-labs/FLUX.1-schnell","prompt":"a","size":"auto","images":
        ["data:image/png;base64,AAEC"],"mask":{"image_url":"data:image/png;base64,AwQF"}}"#
            .to_vec(),
    );
    seeds
}

/// A form, as an edit's.
pub(super) fn form(input: &[u8]) {
    let Ok(parts) = web::multipart::parts(input, "xyz") else { return };
    assert!(parts.iter().map(|part| part.data.len()).sum::<usize>() <= input.len());
    let fields = parts.iter().map(|part| FormField { name: &part.name, value: part.data });
    if let Ok(request) = CreateImageRequest::from_form(fields) {
        checked(request);
    }
}

pub(super) fn form_seeds(_: &Path) -> Vec<Vec<u8>> {
    let fields = [
        ("name=\"model\"", "black-forest-labs/FLUX.1-schnell"),
        ("name=prompt", "a \"red\" fox"),
        ("name=\"image[]\"; filename=\"a;\\\"b.png\"\r\nContent-Type: image/png", "\u{1}PNG"),
        ("name=image", ""),
        ("name=mask; filename=m.png", "\u{2}PNG"),
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
            let side = files.images.iter().map(|file| file.len()).sum::<usize>() as u32 % 9000;
            let first_px = [side.max(1), 512];
            match files.mask {
                None => ImageRequest::parse_edit(request, first_px, &capabilities, seed),
                Some(_) => ImageRequest::parse_masked_edit(request, first_px, &capabilities, seed),
            }
        }),
    };
    if let Ok(request) = parsed {
        assert!(request.pixels() <= 10 << 20);
        assert!(request.latent_patches() * 256 <= request.pixels());
    }
}

/// A node's answer as the client reads it: the envelope, its opening, and, as if it had opened, the body of
/// an answer, of an event or of an error.
pub(super) fn response(input: &[u8]) {
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

pub(super) fn response_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
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

/// A stream of events as the client reads it, each of them like an answer. The first byte says in how
/// large chunks it comes.
pub(super) fn stream(input: &[u8]) {
    let Some((&chunk_bytes, stream)) = input.split_first() else { return };
    for message in client::fuzzing::messages(stream, usize::from(chunk_bytes)) {
        response(&message);
    }
}

/// The vectors' answers as events, in chunks of odd sizes, between what else a stream may have.
pub(super) fn stream_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let answers = field_of_vectors(fixtures, "response");
    let event = |answer: &Vec<u8>| [b"data: ", answer.as_slice(), b"\r\n\n"].concat();
    let mut whole = b"\x07: waiting\n\nevent: message\nid: 1\nretry: 10\n".to_vec();
    whole.extend(answers.iter().take(2).flat_map(event));
    whole.extend(b"data:{}\n\ndata: cut off");
    let mut seeds = vec![whole, b"\x01data:\ndata\n\n\ndata:  [DONE] \n".to_vec()];
    seeds.extend(answers.iter().map(|answer| [b"\xff".as_slice(), &event(answer)].concat()));
    seeds
}

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
