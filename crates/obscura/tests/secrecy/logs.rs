//! What a node writes, at its most talkative and in a hostile environment: nothing of what it was sent.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};
use tests::http;
use tokenizers::{Model, models::bpe::BPE};

use crate::{
    client::{Exchange, MODEL, files, node_public},
    collector,
    pieces::{Secret, find},
    program::Program,
};

/// No word of it is in any vocabulary, on any page or in any message.
const PROMPT: &str =
    "Xylophonist quagmires, zephyrine bdellium kumquats \u{e9}gl\u{f6}gue \u{1f98a}";

/// Variables by which people make programs and libraries talk.
const HOSTILE: [(&str, &str); 8] = [
    ("RUST_LOG", "trace"),
    ("RUST_LOG_STYLE", "always"),
    ("RUST_BACKTRACE", "full"),
    ("RUST_LIB_BACKTRACE", "1"),
    ("RUST_SPANTRACE", "1"),
    ("TOKENIZERS_LOG", "trace"),
    ("OTEL_LOG_LEVEL", "debug"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a=b"),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_tells_what_was_sent() {
    // In a release build, where there is no more to be had, `info`.
    let is_release = !cfg!(debug_assertions) || std::env::var_os("OBSCURA_PROGRAM").is_some();
    let most = if is_release { "info" } else { "trace" };
    for (format, filter) in [
        ("text", most.to_owned()),
        ("json", format!("{most},node={most},engine={most},node::worker={most},obscura={most}")),
    ] {
        let (clear, written) = run(format, &filter).await;
        let secrets = secrets(&clear.files);
        for (place, written) in written {
            assert_eq!(find(&written, &secrets), Vec::<String>::new(), "{place}, {format}");
        }
        assert_eq!(find(clear.answers.as_bytes(), &secrets), Vec::<String>::new(), "in the clear");
    }
}

/// What came back from one node: in the clear, and the files of the images.
struct Clear {
    answers: String,
    files: Vec<Vec<u8>>,
}

/// A node's whole life; what it wrote, by place.
async fn run(format: &str, filter: &str) -> (Clear, [(&'static str, Vec<u8>); 3]) {
    let directory = tempfile::tempdir().unwrap();
    let [here, scratch] = ["here", "scratch"].map(|name| directory.path().join(name));
    [&here, &scratch].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    let log = directory.path().join("log");
    let (received, collector) = collector::start().await;
    let setting = format!("otlp_endpoint={collector}");
    let mut command =
        Program::command(&["--allow-plaintext", "--log-format", format, "--set", &setting]);
    command.current_dir(&here).env("OBSCURA_LOG", filter).envs(HOSTILE);
    for variable in ["TMPDIR", "HOME", "XDG_CACHE_HOME"] {
        command.env(variable, &scratch);
    }
    let node = Program::start(command.stderr(Stdio::from(fs::File::create(&log).unwrap())));
    node.ready().await;
    // What others may see of a process. These three are of who started it: searching them would find
    // numbers of theirs.
    let seen = |name: &str| fs::read(format!("/proc/{}/{name}", node.id())).unwrap_or_default();
    let given = ["cmdline", "environ", "comm"];
    let before = given.map(seen);
    let clear = ask_everything(&node).await;
    assert!(given.map(seen) == before, "as it was before the node was asked anything");
    let maps = seen("maps");
    node.stop();

    let log = fs::read(log).unwrap();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("answered") && text.contains("ready"), "{text}");
    assert!(!text.contains("tokenizers"), "{text}");
    let traces = received.lock().unwrap().clone();
    assert!(!traces.is_empty(), "spans were exported");
    for directory in [&here, &scratch] {
        assert_eq!(entries(directory), Vec::<String>::new(), "a node writes no files");
    }
    (clear, [("the log", log), ("the traces", traces), ("maps", maps)])
}

/// Requests of every kind, well formed and not.
async fn ask_everything(node: &Program) -> Clear {
    let mut clear = Clear { answers: String::new(), files: Vec::new() };
    let short = json!({"prompt": PROMPT, "size": "64x64"});
    let with = |more: Value| {
        let mut fields = short.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    for fields in [
        short.clone(),
        with(json!({"n": 2, "output_format": "jpeg", "user": PROMPT})),
        with(json!({"stream": true, "partial_images": 2, "progress": true})),
    ] {
        let exchange = Exchange::of(node, fields).await;
        let (status, answer) = exchange.send(node).await;
        assert_eq!(status, 200, "{answer}");
        clear.files.extend(files(&exchange.open(&answer)));
        clear.answers += &answer;
        // Again: refused as a replay.
        let (status, answer) = exchange.send(node).await;
        assert_eq!(status, 409, "{answer}");
        clear.answers += &answer;
    }
    for refused in [
        with(json!({"n": 0})),
        with(json!({"size": PROMPT})),
        with(json!({"model": PROMPT})),
        with(json!({"style": PROMPT})),
        with(json!({"quality": [PROMPT]})),
        with(json!({"prompt": PROMPT.repeat(500)})),
        with(json!({"prompt": {"text": PROMPT}})),
    ] {
        let (status, answer) = Exchange::of(node, refused).await.send(node).await;
        assert_eq!(status, 400, "{answer}");
        clear.answers += &answer;
    }
    let mut tampered = Exchange::of(node, short.clone()).await;
    tampered.envelope["plaintext_body_hash"] = tampered.envelope["client_dh_public_key"].clone();
    let elsewhere = Exchange::seal(&[9; 32], &short);
    let broken = Exchange::seal(&node_public(node).await, &Value::String(PROMPT.to_owned()));
    for (exchange, expected) in [(tampered, 400), (elsewhere, 422), (broken, 400)] {
        let (status, answer) = exchange.send(node).await;
        assert_eq!(status, expected, "{answer}");
        clear.answers += &answer;
    }
    let url = |path: &str| format!("{}/{path}", node.url);
    for body in [short.clone(), with(json!({"size": PROMPT})), with(json!({"stream": true}))] {
        let mut body = body;
        body["model"] = MODEL.into();
        let asked = http().post(url(&format!("v1/images/generations?q={PROMPT}"))).json(&body);
        // Of the answer to a request in the clear, only the images are the client's.
        asked.send().await.unwrap().bytes().await.unwrap();
    }
    let asked = http().get(url("metrics")).header("user-agent", "Xylophonist quagmires").send();
    clear.answers += &asked.await.unwrap().text().await.unwrap();
    for path in
        ["readyz", "info", "v1/models", &PROMPT.replace(' ', "/"), "v1/images/files/Xylophonist"]
    {
        clear.answers += &http().get(url(path)).send().await.unwrap().text().await.unwrap();
    }
    clear
}

fn secrets(files: &[Vec<u8>]) -> Vec<Secret> {
    assert!(files.len() >= 4, "{}", files.len());
    let mut secrets = vec![Secret::prompt(PROMPT, &tokens())];
    for file in files {
        secrets.push(Secret::bytes("an image's file", file));
        let pixels = image::load_from_memory(file).unwrap().to_rgb8().into_raw();
        secrets.push(Secret::bytes("an image", &pixels));
    }
    secrets
}

/// The prompt as the demo model's two encoders have it.
fn tokens() -> Vec<Vec<u32>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    let t5 = tokenizers::Tokenizer::from_file(model.join("tokenizer_2/tokenizer.json")).unwrap();
    let t5 = t5.encode(PROMPT, false).unwrap().get_ids().to_vec();
    let path = |name: &str| model.join("tokenizer").join(name).to_str().unwrap().to_owned();
    let clip = BPE::from_file(&path("vocab.json"), &path("merges.txt"))
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .unwrap();
    let ascii: String = PROMPT.to_lowercase().chars().filter(char::is_ascii).collect();
    let words = ascii.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let clip = words.flat_map(|word| clip.tokenize(word).unwrap()).map(|token| token.id).collect();
    vec![t5, clip]
}

fn entries(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| format!("{:?}", entry.unwrap().path())).collect()
}
