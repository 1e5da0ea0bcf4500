//! Prompts as token ids, padded to the encoders' lengths.
//!
//! The tokenizers keep no cache of the words they have seen: those would be pieces of prompts.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use serde_json::{Value, json};
use tokenizers::{ModelWrapper, Tokenizer};
use zeroize::Zeroizing;

use super::tokenizer_file::{self, TokenizerFault};
use crate::{Error, PromptTokens, Result, checkpoint::json};

/// Ids of one prompt, padded.
pub(crate) struct Tokens {
    pub(crate) ids: Zeroizing<Vec<u32>>,
    /// Ids that are not padding, special tokens included.
    pub(crate) used: usize,
    /// Whether the prompt had more.
    pub(crate) truncated: bool,
}

impl Tokens {
    /// What is told of a prompt.
    pub(crate) fn counted(&self) -> PromptTokens {
        PromptTokens { t5: self.used, computed: self.ids.len(), truncated: self.truncated }
    }
}

/// CLIP's byte-level BPE: start, text, end, then padding.
pub(crate) struct ClipTokenizer {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
    padding: u32,
    length: usize,
}

impl ClipTokenizer {
    const START: &str = "<|startoftext|>";
    const END: &str = "<|endoftext|>";

    /// From `vocab.json` and `merges.txt`, the form FLUX.1 is published in, for an encoder of `vocab_size`
    /// tokens.
    pub(crate) fn from_vocabulary(
        path: &Path,
        vocabulary: &[u8],
        merges: &str,
        vocab_size: usize,
    ) -> Result<Self> {
        let vocabulary = json::value(vocabulary)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        // The first line of merges.txt names its version.
        let merges: Vec<&str> = merges
            .lines()
            .filter(|line| !line.starts_with("#version") && !line.is_empty())
            .collect();
        let special = |token: &'static str| {
            let id = vocabulary.get(token).and_then(Value::as_u64);
            let id = id.ok_or_else(|| Error::MissingToken { path: path.to_owned(), token })?;
            Ok::<Value, Error>(json!({
                "id": id, "content": token, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }))
        };
        let tokenizer = json!({
            "added_tokens": [special(Self::START)?, special(Self::END)?],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "NFC" },
                { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
                { "type": "Lowercase" },
            ]},
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                {
                    "type": "Split", "behavior": "Removed", "invert": true,
                    // Contractions, words, single digits, runs of anything else.
                    "pattern": { "Regex":
                        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+" },
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
                },
            ]},
            "model": {
                "type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": Self::END,
                "continuing_subword_prefix": "", "end_of_word_suffix": "</w>", "fuse_unk": false,
            },
        });
        Self::of(of_value(path, tokenizer, vocab_size)?, path)
    }

    /// From a `tokenizer.json`, for an encoder of `vocab_size` tokens.
    pub(crate) fn from_json(path: &Path, json: &[u8], vocab_size: usize) -> Result<Self> {
        Self::of(parse(path, json, vocab_size)?, path)
    }

    fn of(tokenizer: Tokenizer, path: &Path) -> Result<Self> {
        let start = id(&tokenizer, path, Self::START)?;
        let end = id(&tokenizer, path, Self::END)?;
        Ok(Self { tokenizer, start, end, padding: end, length: 77 })
    }

    /// Pads to `length` tokens, with `padding` where the tokenizer's configuration names one.
    pub(crate) fn padded(self, length: usize, padding: Option<&str>) -> Self {
        let padding = padding.and_then(|token| self.tokenizer.token_to_id(token));
        Self { padding: padding.unwrap_or(self.padding), length, ..self }
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Tokens> {
        let ids = plain_ids(&self.tokenizer, text)?;
        let framed = Frame { start: Some(self.start), end: self.end, padding: self.padding };
        Ok(framed.apply(&ids, self.length))
    }
}

/// T5's Unigram model: text, end, then padding.
pub(crate) struct T5Tokenizer {
    tokenizer: Tokenizer,
    end: u32,
    padding: u32,
    length: usize,
}

impl T5Tokenizer {
    /// From a `tokenizer.json`, for an encoder of `vocab_size` tokens, padding to `length`.
    pub(crate) fn from_json(
        path: &Path,
        json: &[u8],
        vocab_size: usize,
        length: usize,
    ) -> Result<Self> {
        let tokenizer = parse(path, json, vocab_size)?;
        let end = id(&tokenizer, path, "</s>")?;
        let padding = id(&tokenizer, path, "<pad>")?;
        Ok(Self { tokenizer, end, padding, length })
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Tokens> {
        let ids = plain_ids(&self.tokenizer, text)?;
        let framed = Frame { start: None, end: self.end, padding: self.padding };
        Ok(framed.apply(&ids, self.length))
    }
}

/// What is put around a text's ids.
struct Frame {
    start: Option<u32>,
    end: u32,
    padding: u32,
}

impl Frame {
    fn apply(&self, ids: &[u32], length: usize) -> Tokens {
        let specials = 1 + usize::from(self.start.is_some());
        let kept = ids.len().min(length.saturating_sub(specials));
        // Allocated once, so that no copy is left behind when it is wiped.
        let mut framed = Zeroizing::new(Vec::with_capacity(length.max(specials)));
        framed.extend(self.start);
        framed.extend_from_slice(&ids[..kept]);
        framed.push(self.end);
        let used = framed.len();
        framed.resize(length.max(used), self.padding);
        Tokens { ids: framed, used, truncated: kept < ids.len() }
    }
}

/// Qwen2's byte-level BPE from `vocab.json`, `merges.txt`, and the tokens beside the vocabulary by their ids, as
/// `added_tokens_decoder` of `tokenizer_config.json` lists them.
pub(super) fn qwen2(
    path: &Path,
    [vocabulary, merges]: [&[u8]; 2],
    added: &Value,
    vocab_size: usize,
) -> Result<Tokenizer> {
    let vocabulary =
        json::value(vocabulary).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    let merges = String::from_utf8_lossy(merges);
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    // Ids are keys, and those have the order of words: the library numbers tokens as they come.
    let mut added: Vec<(u64, Value)> = added
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(id, token)| Some((id.parse().ok()?, token.clone())))
        .collect();
    added.sort_by_key(|(id, _)| *id);
    for (id, token) in &mut added {
        if let Value::Object(token) = token {
            token.insert("id".to_owned(), json!(*id));
        }
    }
    let expected: Vec<(u64, String)> = added
        .iter()
        .filter_map(|(id, token)| Some((*id, token.get("content")?.as_str()?.to_owned())))
        .collect();
    let tokens: Vec<Value> = added.into_iter().map(|(_, token)| token).collect();
    let tokenizer = json!({
        "added_tokens": tokens,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            {
                "type": "Split", "behavior": "Isolated", "invert": false,
                "pattern": { "Regex": tokenizer_file::QWEN2_PATTERN },
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
            },
        ]},
        "model": {
            "type": "BPE", "vocab": vocabulary, "merges": merges,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
        },
    });
    let tokenizer = of_value(path, tokenizer, vocab_size)?;
    // A gap in the numbers would give every token behind it another's.
    for (id, content) in expected {
        if tokenizer.token_to_id(&content).map(u64::from) != Some(id) {
            let fault = TokenizerFault::AddedId { id };
            return Err(Error::Tokenizer { path: path.to_owned(), source: fault.into() });
        }
    }
    Ok(tokenizer)
}

/// A tokenizer of these bytes, for an encoder of so many tokens.
pub(super) fn parse(path: &Path, json: &[u8], vocab_size: usize) -> Result<Tokenizer> {
    let json = json::value(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
    of_value(path, json, vocab_size)
}

fn of_value(path: &Path, json: Value, vocab_size: usize) -> Result<Tokenizer> {
    let error = |source| Error::Tokenizer { path: path.to_owned(), source };
    let mut tokenizer = tokenizer_file::build(json).map_err(|fault| error(fault.into()))?;
    let ids = tokenizer.get_vocab(true);
    // The embedding has no row for it.
    if let Some(&id) = ids.values().find(|&&id| id as usize >= vocab_size) {
        return Err(error(TokenizerFault::Id { id, vocab_size }.into()));
    }
    let mut model = tokenizer.get_model().clone();
    match &mut model {
        ModelWrapper::BPE(model) => model.resize_cache(0),
        ModelWrapper::Unigram(model) => model.resize_cache(0),
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => {}
    }
    tokenizer.with_model(model);
    Ok(tokenizer)
}

pub(super) fn id(tokenizer: &Tokenizer, path: &Path, token: &'static str) -> Result<u32> {
    tokenizer.token_to_id(token).ok_or_else(|| Error::MissingToken { path: path.to_owned(), token })
}

/// Ids of a text alone, without special tokens around it.
pub(super) fn plain_ids(tokenizer: &Tokenizer, text: &str) -> Result<Zeroizing<Vec<u32>>> {
    // The library's tables come from a file: what they make it do to one text concerns that text alone.
    let encoded = catch_unwind(AssertUnwindSafe(|| tokenizer.encode_fast(text, false)));
    // The cause may quote the text, so it is dropped.
    let encoding = encoded.map_err(|_| Error::Tokenize)?.map_err(|_| Error::Tokenize)?;
    Ok(Zeroizing::new(encoding.get_ids().to_vec()))
}

#[cfg(test)]
mod tests {
    use tokenizers::normalizers::Precompiled;

    use super::*;

    #[test]
    fn frames_and_pads() {
        let frame = Frame { start: Some(1), end: 2, padding: 0 };
        let tokens = frame.apply(&[7, 8], 6);
        assert_eq!(*tokens.ids, [1, 7, 8, 2, 0, 0]);
        assert_eq!((tokens.used, tokens.truncated), (4, false));
    }

    #[test]
    fn truncation_keeps_the_end() {
        let frame = Frame { start: None, end: 2, padding: 0 };
        let tokens = frame.apply(&[7, 8, 9], 3);
        assert_eq!(*tokens.ids, [7, 8, 2]);
        assert_eq!((tokens.used, tokens.truncated), (3, true));
        assert!(!frame.apply(&[7, 8], 3).truncated);
    }

    #[test]
    fn clip_splits_as_clip_does() {
        let vocabulary = json!({
            "<|startoftext|>": 0, "<|endoftext|>": 1,
            "a": 2, "a</w>": 3, "b</w>": 4, "1</w>": 5, "!</w>": 6, "ab</w>": 7, "b": 8, "!": 9,
        });
        let merges = "#version: 0.2\na b</w>\n";
        let vocabulary = vocabulary.to_string();
        let tokenizer =
            ClipTokenizer::from_vocabulary(Path::new("v"), vocabulary.as_bytes(), merges, 10)
                .unwrap()
                .padded(12, None);
        let tokens = tokenizer.encode("AB  a\n11!!").unwrap();
        assert_eq!(*tokens.ids, [0, 7, 3, 5, 5, 9, 6, 1, 1, 1, 1, 1]);
        assert_eq!(tokens.used, 8);
        assert!(tokenizer.encode(&"a ".repeat(20)).unwrap().truncated);
    }

    #[test]
    fn names_the_token_that_is_missing() {
        let found = ClipTokenizer::from_vocabulary(Path::new("vocab.json"), b"{\"a\":0}", "", 9);
        assert!(matches!(found, Err(Error::MissingToken { token: "<|startoftext|>", .. })));
    }

    #[test]
    fn an_id_beyond_the_embedding_is_refused() {
        let vocabulary = br#"{"<|startoftext|>":0,"<|endoftext|>":1,"a":9}"#;
        let load = |vocab_size| {
            ClipTokenizer::from_vocabulary(Path::new("vocab.json"), vocabulary, "", vocab_size)
        };
        assert!(load(10).is_ok());
        let Err(Error::Tokenizer { source, .. }) = load(9) else { panic!("id 9 of 9") };
        assert!(source.to_string().contains("token 9 is none"), "{source}");
    }

    #[test]
    fn a_panic_of_the_library_costs_one_text() {
        let vocabulary = br#"{"<|startoftext|>":0,"<|endoftext|>":1}"#;
        let mut clip =
            ClipTokenizer::from_vocabulary(Path::new("vocab.json"), vocabulary, "", 2).unwrap();
        // A trie of one unit, which leads out of it: what `charsmap` refuses to load.
        let map = Precompiled::from(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]).unwrap();
        clip.tokenizer.with_normalizer(Some(map)).unwrap();
        assert!(matches!(clip.encode("a"), Err(Error::Tokenize)));
        clip.tokenizer.with_normalizer(None::<Precompiled>).unwrap();
        assert!(clip.encode("a").is_ok());
    }
}
