//! What of a `tokenizer.json` is believed.
//!
//! The library that reads it does all that a file asks for: it grows a text a thousandfold, tries a pattern
//! for hours, panics on a map that is cut. So a file may name only the steps that CLIP's and T5's tokenizers
//! are made of, each within bounds; the others are refused by name. What concerns decoding, padding and
//! special tokens is dropped: this crate frames prompts itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use thiserror::Error;
use tokenizers::Tokenizer;

use super::charsmap::{self, CharsmapFault};

/// The longest token, and every other text of the file but a character map.
const MAX_TOKEN_BYTES: usize = 1024;

/// The largest vocabulary in use has 262,144.
const MAX_TOKENS: usize = 300_000;

/// Of all tokens together: a byte costs about a hundred in the trie that is built of them. T5's have 267 kB.
const MAX_VOCABULARY_BYTES: usize = 4 << 20;

/// The largest list in use has 269,443.
const MAX_MERGES: usize = 300_000;

/// Tokens beside the vocabulary: T5 has 103, the most in use is a thousand.
const MAX_ADDED_TOKENS: usize = 2048;

/// Steps of normalising, or of splitting.
const MAX_STEPS: usize = 16;

/// How many times as long normalising may make a text: T5's character map 33 times, and what follows it twice.
const MAX_GROWTH: usize = 256;

/// The regular expressions of tokenizers in use, each known to take time that grows with the text alone, and
/// the shortest text that each matches, in bytes.
const PATTERNS: [(&str, usize); 5] = [
    (r"\s+", 1),
    (" {2,}", 2),
    (r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", 1),
    (
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        1,
    ),
    (QWEN2_PATTERN, 1),
];

/// How Qwen2 splits a text in front of its merges.
pub(super) const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Why a tokenizer's file is refused.
#[derive(Debug, Error)]
pub(super) enum TokenizerFault {
    #[error("{part} is not as tokenizers have it")]
    Malformed { part: &'static str },
    #[error("{part}: {found:?} is not supported")]
    Unsupported { part: &'static str, found: String },
    #[error("{part}: {found} are too many, at most {limit} are read")]
    TooMany { part: &'static str, found: usize, limit: usize },
    #[error("{part}: a text of {bytes} bytes is too long, at most {limit} are read")]
    TooLong { part: &'static str, bytes: usize, limit: usize },
    #[error("normalising may make a text {growth} times as long, at most {MAX_GROWTH} is allowed")]
    Growth { growth: usize },
    #[error("the character map cannot be used: {0}")]
    Charsmap(#[from] CharsmapFault),
    #[error("token {id} is none of the text encoder's {vocab_size}")]
    Id { id: u32, vocab_size: usize },
    #[error("token {id} beside the vocabulary does not get its number")]
    AddedId { id: u64 },
    #[error("the tokenizer's library fails on it")]
    Library(#[source] tokenizers::Error),
    #[error("the tokenizer's library panics on it")]
    Panic,
}

type Result<T, E = TokenizerFault> = std::result::Result<T, E>;

/// Builds a tokenizer from a file's JSON.
///
/// # Errors
/// Where it asks for what is not supported, goes beyond a bound, or the library fails on it.
pub(super) fn build(mut json: Value) -> Result<Tokenizer> {
    let file = object(&json, "the file")?;
    check_model(field(file, "model", "model")?)?;
    check_added_tokens(file.get("added_tokens"))?;
    let growth = normalizers(file.get("normalizer"))?;
    if growth > MAX_GROWTH {
        return Err(TokenizerFault::Growth { growth });
    }
    for step in steps(file.get("pre_tokenizer"), "pre_tokenizer", "pretokenizers")? {
        check_pre_tokenizer(step)?;
    }
    if let Value::Object(file) = &mut json {
        for unused in ["truncation", "padding", "post_processor", "decoder"] {
            file.remove(unused);
        }
    }
    // Nothing outlives a panic but its message.
    match catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(json.to_string()))) {
        Ok(built) => built.map_err(TokenizerFault::Library),
        Err(_) => Err(TokenizerFault::Panic),
    }
}

fn check_model(model: &Value) -> Result<()> {
    const PART: &str = "model";
    let model = object(model, PART)?;
    let unsupported = |found: &str| TokenizerFault::Unsupported { part: PART, found: cut(found) };
    let kind = text(field(model, "type", PART)?, PART)?;
    let tokens: Vec<&str> = match (kind, field(model, "vocab", PART)?) {
        ("BPE", Value::Object(vocabulary)) => vocabulary.keys().map(String::as_str).collect(),
        ("Unigram", Value::Array(vocabulary)) => {
            vocabulary.iter().map(|piece| text(&piece[0], PART)).collect::<Result<_>>()?
        }
        ("BPE" | "Unigram", _) => return Err(TokenizerFault::Malformed { part: PART }),
        _ => return Err(unsupported(kind)),
    };
    at_most("vocabulary", tokens.len(), MAX_TOKENS)?;
    at_most("bytes of all tokens", tokens.iter().map(|t| t.len()).sum(), MAX_VOCABULARY_BYTES)?;
    tokens.iter().try_for_each(|token| short("vocabulary", token))?;
    let merges = model.get("merges").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    at_most("merges", merges.len(), MAX_MERGES)?;
    // The library panics where a merge is longer than any token.
    let longest = tokens.iter().map(|token| token.len()).max().unwrap_or(0);
    if merges.iter().any(|merge| merged_bytes(merge) > longest) {
        return Err(TokenizerFault::Malformed { part: "merges" });
    }
    // The library cuts this from tokens byte by byte, and then calls the rest text.
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    if !prefix.is_empty() {
        return Err(unsupported("continuing_subword_prefix"));
    }
    // The same prompt has the same tokens.
    if model.get("dropout").is_some_and(|dropout| !dropout.is_null() && dropout != 0.0) {
        return Err(unsupported("dropout"));
    }
    let small = ["unk_token", "end_of_word_suffix"];
    small.iter().filter_map(|name| model.get(*name)?.as_str()).try_for_each(|t| short(PART, t))
}

/// Of what a merge makes of two tokens, which stand with a blank between them or in a list.
fn merged_bytes(merge: &Value) -> usize {
    match merge {
        Value::String(both) => both.len().saturating_sub(1),
        Value::Array(both) => both.iter().filter_map(Value::as_str).map(str::len).sum(),
        _ => 0,
    }
}

fn check_added_tokens(tokens: Option<&Value>) -> Result<()> {
    const PART: &str = "added_tokens";
    let tokens = match tokens {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(tokens)) => tokens,
        Some(_) => return Err(TokenizerFault::Malformed { part: PART }),
    };
    at_most(PART, tokens.len(), MAX_ADDED_TOKENS)?;
    for token in tokens {
        let content = text(field(object(token, PART)?, "content", PART)?, PART)?;
        short(PART, content)?;
        // It would be found between any two characters.
        if content.is_empty() {
            return Err(TokenizerFault::Malformed { part: PART });
        }
    }
    Ok(())
}

/// How many times as long all steps together may make a text, in bytes.
fn normalizers(normalizer: Option<&Value>) -> Result<usize> {
    steps(normalizer, "normalizer", "normalizers")?
        .into_iter()
        .try_fold(1usize, |growth, step| Ok(growth.saturating_mul(normalizer_growth(step)?)))
}

fn normalizer_growth(step: &Value) -> Result<usize> {
    const PART: &str = "normalizer";
    let step = object(step, PART)?;
    Ok(match text(field(step, "type", PART)?, PART)? {
        "Strip" | "StripAccents" | "Nmt" => 1,
        // «İ», of two bytes, becomes three.
        "Lowercase" => 2,
        // Unicode Standard Annex 15, "Stability of Normalized Forms": in UTF-8, 3 and 11 times at most.
        "NFC" | "NFD" => 3,
        "NFKC" | "NFKD" => 11,
        "Prepend" => {
            short(PART, text(field(step, "prepend", PART)?, PART)?)?;
            2
        }
        "Precompiled" => {
            let map = text(field(step, "precompiled_charsmap", PART)?, PART)?;
            let malformed = |_| TokenizerFault::Malformed { part: "precompiled_charsmap" };
            charsmap::check(&BASE64_STANDARD.decode(map).map_err(malformed)?)?.max(1)
        }
        "Replace" => {
            let content = text(field(step, "content", PART)?, PART)?;
            short(PART, content)?;
            let shortest = pattern_bytes(field(step, "pattern", PART)?, PART)?;
            content.len().div_ceil(shortest).max(1)
        }
        other => return Err(TokenizerFault::Unsupported { part: PART, found: cut(other) }),
    })
}

fn check_pre_tokenizer(step: &Value) -> Result<()> {
    const PART: &str = "pre_tokenizer";
    let step = object(step, PART)?;
    match text(field(step, "type", PART)?, PART)? {
        "ByteLevel" | "Digits" | "Metaspace" | "Punctuation" | "Whitespace" | "WhitespaceSplit" => {
            Ok(())
        }
        "Split" => pattern_bytes(field(step, "pattern", PART)?, PART).map(drop),
        other => Err(TokenizerFault::Unsupported { part: PART, found: cut(other) }),
    }
}

/// The shortest text that a pattern matches, in bytes.
fn pattern_bytes(pattern: &Value, part: &'static str) -> Result<usize> {
    let pattern = object(pattern, part)?;
    let (kind, value) = pattern.iter().next().ok_or(TokenizerFault::Malformed { part })?;
    let value = text(value, part)?;
    short(part, value)?;
    let known = || PATTERNS.iter().find(|(known, _)| *known == value).map(|(_, bytes)| *bytes);
    match kind.as_str() {
        "String" if !value.is_empty() => Ok(value.len()),
        "Regex" => known()
            .ok_or_else(|| TokenizerFault::Unsupported { part: "pattern", found: cut(value) }),
        _ => Err(TokenizerFault::Malformed { part }),
    }
}

/// One step, or those of a sequence; a sequence in a sequence is refused as a step that is not known.
fn steps<'a>(step: Option<&'a Value>, part: &'static str, list: &str) -> Result<Vec<&'a Value>> {
    let Some(step) = step.filter(|step| !step.is_null()) else { return Ok(Vec::new()) };
    if step["type"] != "Sequence" {
        return Ok(vec![step]);
    }
    let steps = step[list].as_array().ok_or(TokenizerFault::Malformed { part })?;
    at_most(part, steps.len(), MAX_STEPS)?;
    Ok(steps.iter().collect())
}

fn object<'a>(value: &'a Value, part: &'static str) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or(TokenizerFault::Malformed { part })
}

fn text<'a>(value: &'a Value, part: &'static str) -> Result<&'a str> {
    value.as_str().ok_or(TokenizerFault::Malformed { part })
}

fn field<'a>(object: &'a Map<String, Value>, name: &str, part: &'static str) -> Result<&'a Value> {
    object.get(name).ok_or(TokenizerFault::Malformed { part })
}

fn short(part: &'static str, text: &str) -> Result<()> {
    if text.len() <= MAX_TOKEN_BYTES {
        return Ok(());
    }
    Err(TokenizerFault::TooLong { part, bytes: text.len(), limit: MAX_TOKEN_BYTES })
}

fn at_most(part: &'static str, found: usize, limit: usize) -> Result<()> {
    if found <= limit { Ok(()) } else { Err(TokenizerFault::TooMany { part, found, limit }) }
}

/// The beginning of a file's word, for a message.
fn cut(word: &str) -> String {
    word.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unigram() -> Value {
        json!({ "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]] })
    }

    fn refused(file: Value) -> String {
        build(file).expect_err("a hostile file").to_string()
    }

    #[test]
    fn what_grows_a_text_without_bound_is_refused() {
        let double =
            |pattern: Value| json!({ "type": "Replace", "pattern": pattern, "content": "aa" });
        let with = |normalizers: Vec<Value>| {
            let sequence = json!({ "type": "Sequence", "normalizers": normalizers });
            json!({ "model": unigram(), "normalizer": sequence })
        };
        let single = || double(json!({ "String": "a" }));
        assert!(build(with(vec![single(); 8])).is_ok(), "256 times as long at most");
        assert!(refused(with(vec![single(); 9])).contains("512 times as long"));
        assert!(refused(with(vec![single(); 17])).contains("17 are too many"));
        assert!(refused(with(vec![double(json!({ "String": "" }))])).contains("normalizer"));
        let nested = json!({ "type": "Sequence", "normalizers": [] });
        assert!(refused(with(vec![nested])).contains(r#""Sequence" is not supported"#));
    }

    #[test]
    fn a_pattern_that_nobody_uses_is_refused() {
        let file = |step: Value| json!({ "model": unigram(), "pre_tokenizer": step });
        let split = |pattern: &str| {
            json!({
                "type": "Split", "pattern": { "Regex": pattern },
                "behavior": "Isolated", "invert": false,
            })
        };
        assert!(build(file(split(r"\s+"))).is_ok());
        assert!(refused(file(split("(a|a)*$"))).contains("(a|a)*$"));
        let fixed = json!({ "type": "FixedLength", "length": 0 });
        assert!(refused(file(fixed)).contains("FixedLength"));
    }

    #[test]
    fn models_are_bounded() {
        let bpe = |more: Value| {
            let mut model = json!({ "type": "BPE", "vocab": { "a": 0 }, "merges": [] });
            model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "model": model })
        };
        assert!(build(bpe(json!({}))).is_ok());
        let long = "x".repeat(1025);
        for (more, says) in [
            (json!({ "continuing_subword_prefix": "é" }), "continuing_subword_prefix"),
            (json!({ "dropout": 0.5 }), "dropout"),
            (json!({ "unk_token": long }), "1025 bytes"),
            (json!({ "vocab": { long: 1 } }), "1025 bytes"),
            (json!({ "vocab": [1] }), "model"),
            (json!({ "merges": vec!["a a"; 300_001] }), "300001 are too many"),
            (json!({ "vocab": { "a": 0, "ac": 1 }, "merges": ["a b"] }), "library fails"),
            (json!({ "vocab": { "a": 0, "b": 1 }, "merges": ["a b"] }), "merges"),
            (json!({ "vocab": { "a": 0, "b": 1 }, "merges": [["a", "b"]] }), "merges"),
            (json!({ "type": "WordPiece" }), "WordPiece"),
        ] {
            let found = refused(bpe(more));
            assert!(found.contains(says), "{found}");
        }
    }

    #[test]
    fn a_short_character_map_is_an_error() {
        for map in ["", "AAA=", "/////wAAAAA=", "BAAAAAAEAAA=", "%"] {
            let normalizer = json!({ "type": "Precompiled", "precompiled_charsmap": map });
            refused(json!({ "model": unigram(), "normalizer": normalizer }));
        }
    }
}
