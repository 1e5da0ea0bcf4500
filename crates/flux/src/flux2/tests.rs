//! The tokenizer that Qwen publish is read within its bounds, and gives the ids that diffusers' pipeline asks its
//! text encoder for: `tests/fixtures/klein/qwen3`, which `tests/parity/make_qwen.py` recorded.

use std::{fmt::Write as _, fs, ops::Range, path::PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::tokenizer;
use crate::{
    FileDigest, Pins,
    bench::klein_configs,
    checkpoint::{Directory, Files},
    text::{ChatTokenizer, Tokens},
};

/// Of the `tokenizer.json` that Qwen publish with every size of Qwen3.
const PUBLISHED: &str = "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4";
const LENGTH: usize = 512;
const END_OF_TEXT: u32 = 151_643;

/// Of all characters: code points of one text, and of one digest.
const TEXT: usize = 32;
const BLOCK: u32 = 0x1000;

#[test]
fn the_published_files_give_the_ids_of_diffusers() {
    let directory = directory();
    fs::write(directory.path().join("tokenizer/tokenizer.json"), published_file()).unwrap();
    gives_the_recorded_ids(&load(&directory));
}

#[test]
fn the_published_vocabulary_and_merges_give_the_ids_of_diffusers() {
    let directory = directory();
    let write = |name, content| {
        fs::write(directory.path().join("tokenizer").join(name), content).unwrap();
    };
    let ids = (0_u32..).zip(tokens()).map(|(id, token)| (token, id.into()));
    write("vocab.json", Value::Object(ids.collect()).to_string());
    write("merges.txt", fixture("merges.txt"));
    gives_the_recorded_ids(&load(&directory));
}

fn gives_the_recorded_ids(tokenizer: &ChatTokenizer) {
    let recorded: Value = serde_json::from_str(&fixture("texts.json")).unwrap();
    for recorded in recorded["prompts"].as_array().unwrap() {
        let name = &recorded["name"];
        let prompt = recorded["prompt"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(recorded["ids"].clone()).unwrap();
        let found = tokenizer.encode(prompt).unwrap();
        assert_eq!(used(&found), ids, "{name}");
    }
    let blocks = recorded["blocks"].as_array().unwrap();
    let firsts = (0..0x33000).step_by(BLOCK as usize).chain([0xe_0000]);
    let mut compared = 0;
    for (first, digest) in firsts.zip(blocks) {
        assert_eq!(block(tokenizer, first..first + BLOCK), *digest, "from U+{first:04X} on");
        compared += 1;
    }
    assert_eq!(compared, blocks.len());
}

/// Ids without padding, which must be as the mask says that they are used.
fn used(tokens: &Tokens) -> &[u32] {
    assert_eq!(tokens.ids.len(), LENGTH);
    let (used, padding) = tokens.ids.split_at(tokens.used);
    assert!(padding.iter().all(|id| *id == END_OF_TEXT));
    used
}

/// SHA-256 of the ids of all characters in a block, which stand side by side, and between others.
fn block(tokenizer: &ChatTokenizer, points: Range<u32>) -> String {
    let mut digest = Sha256::new();
    let points: Vec<u32> = points.collect();
    for points in points.chunks(TEXT) {
        let letters: Vec<char> = points.iter().copied().filter_map(char::from_u32).collect();
        let mut between = String::new();
        for letter in &letters {
            write!(between, "'{letter}1 {letter}a").unwrap();
        }
        for text in [letters.into_iter().collect(), between] {
            for id in used(&tokenizer.encode(&text).unwrap()) {
                digest.update(id.to_le_bytes());
            }
        }
    }
    FileDigest(digest.finalize().into()).to_string()
}

/// A directory with the published configuration, the chat template in it.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    let folder = directory.path().join("tokenizer");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("tokenizer_config.json"), fixture("tokenizer_config.json")).unwrap();
    directory
}

fn load(directory: &TempDir) -> ChatTokenizer {
    let files = Files::Folder(directory.path().to_owned());
    tokenizer(&mut Directory::new(files, Pins::None), &klein_configs().unwrap().text).unwrap()
}

/// By their ids: the bytes, those that can be seen first, then what each merge makes.
fn tokens() -> Vec<String> {
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable_by_key(|letter| *letter);
    let merged = merges().into_iter().map(|[left, right]| left + &right);
    bytes.into_iter().map(String::from).chain(merged).collect()
}

fn merges() -> Vec<[String; 2]> {
    let lines = fixture("merges.txt");
    let pair = |line: &str| line.split_once(' ').map(|(a, b)| [a.to_owned(), b.to_owned()]);
    lines.lines().skip(1).map(|line| pair(line).unwrap()).collect()
}

/// `tokenizer.json` made of the merges, byte for byte as it is published.
fn published_file() -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let config: Value = serde_json::from_str(&fixture("tokenizer_config.json")).unwrap();
    let added = config["added_tokens_decoder"].as_object().unwrap().iter().map(|(id, token)| {
        let field = |name: &str| format!("      \"{name}\": {}", token[name]);
        let fields = ["content", "single_word", "lstrip", "rstrip", "normalized", "special"];
        format!("    {{\n      \"id\": {id},\n{}\n    }}", fields.map(field).join(",\n"))
    });
    let added: Vec<String> = added.collect();
    let vocabulary = tokens().into_iter().zip(0..);
    let vocabulary: Vec<String> =
        vocabulary.map(|(token, id)| format!("      {}: {id}", quoted(&token))).collect();
    let merges = merges().into_iter().map(|[left, right]| {
        format!("      [\n        {},\n        {}\n      ]", quoted(&left), quoted(&right))
    });
    let merges: Vec<String> = merges.collect();
    let file = fixture("tokenizer.json.in")
        .trim_end()
        .replace("ADDED", &added.join(",\n"))
        .replace("VOCABULARY", &vocabulary.join(",\n"))
        .replace("MERGES", &merges.join(",\n"));
    let digest = FileDigest(Sha256::digest(&file).into());
    assert_eq!(digest.to_string(), PUBLISHED);
    file
}

/// A file of the fixture.
fn fixture(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/klein/qwen3");
    fs::read_to_string(folder.join(name)).unwrap()
}
