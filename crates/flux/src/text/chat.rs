//! A prompt as the one message of a chat, in tokens: what Qwen3 reads.
//!
//! A model directory says in a template of its own how a chat is written. Templates are programs; this one
//! is recognised by its digest, what it makes of one message is known, and any other is refused.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;
use zeroize::Zeroizing;

use super::tokens::{Tokens, id, parse, plain_ids, qwen2};
use crate::{Error, FileDigest, Result};

/// SHA-256 of the templates that write one message of a user, an answer that begins, and an empty thought where
/// thinking is off, just as [`BEFORE`] and [`BEHIND`] do. White space at the end is not counted.
const TEMPLATES: [&str; 2] = [
    // Qwen3's, as published with its first release.
    "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5",
    // Of this repository's test models, in its own words.
    "8e6e35b457dcbe8e181fc2cce6f88aba0f4bbe16840f08832a8c3a12d74ac590",
];

const BEFORE: &str = "<|im_start|>user\n";
const BEHIND: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Qwen2's byte-level BPE behind the template.
pub(crate) struct ChatTokenizer {
    tokenizer: Tokenizer,
    padding: u32,
    length: usize,
}

impl ChatTokenizer {
    /// # Errors
    /// Where the template of the file at `path` is none that is known.
    pub(crate) fn check_template(path: &Path, template: &str) -> Result<()> {
        let found = FileDigest(Sha256::digest(template.trim_end()).into());
        if TEMPLATES.contains(&found.to_string().as_str()) {
            return Ok(());
        }
        Err(Error::ChatTemplate { path: path.to_owned(), found })
    }

    /// From a `tokenizer.json`, for an encoder of `vocab_size` tokens, padding to `length` with the token `padding`.
    pub(crate) fn from_json(
        path: &Path,
        json: &[u8],
        vocab_size: usize,
        (padding, length): (&str, usize),
    ) -> Result<Self> {
        Self::of(parse(path, json, vocab_size)?, path, (padding, length))
    }

    /// From `vocab.json` and `merges.txt`, with the tokens beside the vocabulary.
    pub(crate) fn from_vocabulary(
        path: &Path,
        [vocabulary, merges]: [&[u8]; 2],
        added: &Value,
        vocab_size: usize,
        (padding, length): (&str, usize),
    ) -> Result<Self> {
        let tokenizer = qwen2(path, [vocabulary, merges], added, vocab_size)?;
        Self::of(tokenizer, path, (padding, length))
    }

    /// One that knows single bytes and what the template is made of, for benchmarks: a text is as many tokens as
    /// bytes.
    pub(crate) fn of_bytes(vocab_size: usize, length: usize) -> Result<Self> {
        const SPECIALS: [&str; 5] =
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"];
        // The visible characters that byte-level BPE has for bytes.
        let bytes = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<String> = bytes.into_iter().map(String::from).collect();
        bytes.sort_unstable();
        let count = bytes.len();
        let vocabulary: serde_json::Map<String, Value> =
            bytes.into_iter().enumerate().map(|(id, byte)| (byte, id.into())).collect();
        let added: serde_json::Map<String, Value> = SPECIALS
            .iter()
            .enumerate()
            .map(|(i, token)| ((count + i).to_string(), special(token)))
            .collect();
        let vocabulary = Value::Object(vocabulary).to_string();
        Self::from_vocabulary(
            Path::new("bytes"),
            [vocabulary.as_bytes(), b""],
            &Value::Object(added),
            vocab_size,
            (SPECIALS[0], length),
        )
    }

    fn of(tokenizer: Tokenizer, path: &Path, (padding, length): (&str, usize)) -> Result<Self> {
        // One that is missing would be spelled out, and nothing would say so.
        for token in ["<|im_start|>", "<|im_end|>", "<think>", "</think>"] {
            id(&tokenizer, path, token)?;
        }
        let padding = tokenizer
            .token_to_id(padding)
            .ok_or_else(|| Error::MissingToken { path: path.to_owned(), token: "pad_token" })?;
        Ok(Self { tokenizer, padding, length })
    }

    /// The end of what is too long is cut, the template's included, as transformers does.
    pub(crate) fn encode(&self, text: &str) -> Result<Tokens> {
        let mut chat =
            Zeroizing::new(String::with_capacity(BEFORE.len() + text.len() + BEHIND.len()));
        chat.push_str(BEFORE);
        chat.push_str(text);
        chat.push_str(BEHIND);
        let ids = plain_ids(&self.tokenizer, &chat)?;
        let used = ids.len().min(self.length);
        let mut padded = Zeroizing::new(Vec::with_capacity(self.length));
        padded.extend_from_slice(&ids[..used]);
        padded.resize(self.length, self.padding);
        Ok(Tokens { ids: padded, used, truncated: used < ids.len() })
    }
}

fn special(token: &str) -> Value {
    json!({
        "content": token, "special": true, "normalized": false,
        "single_word": false, "lstrip": false, "rstrip": false,
    })
}
