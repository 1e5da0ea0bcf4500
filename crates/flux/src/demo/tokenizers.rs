//! Tokenizers that know single characters, in the files' own form.

use serde_json::{Map, Value, json};

/// Bytes, bytes at the end of a word, start and end.
pub(super) const CLIP_TOKENS: usize = 2 * 256 + 2;
/// The end of a text.
pub(super) const CLIP_END: usize = CLIP_TOKENS - 1;
/// Padding, end, unknown, the blank, printable ASCII without the blank, and bytes.
pub(super) const T5_TOKENS: usize = 3 + 1 + 94 + 256;

/// `vocab.json` of a byte-level BPE that merges nothing.
pub(super) fn clip_vocabulary() -> Vec<u8> {
    let mut vocabulary = Map::new();
    for (id, letter) in byte_letters().enumerate() {
        vocabulary.insert(letter.to_string(), json!(id));
        vocabulary.insert(format!("{letter}</w>"), json!(256 + id));
    }
    vocabulary.insert("<|startoftext|>".to_owned(), json!(CLIP_END - 1));
    vocabulary.insert("<|endoftext|>".to_owned(), json!(CLIP_END));
    Value::Object(vocabulary).to_string().into_bytes()
}

/// `tokenizer.json` of a Unigram model of characters, and of bytes for all others.
pub(super) fn t5() -> Vec<u8> {
    let special = ["<pad>", "</s>", "<unk>"];
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    let characters = std::iter::once('▁').chain('!'..='~').map(String::from);
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let vocabulary: Vec<Value> = special
        .into_iter()
        .map(|token| json!([token, 0.0]))
        .chain(characters.map(|token| json!([token, -1.0])))
        .chain(bytes.map(|token| json!([token, -10.0])))
        .collect();
    json!({
        "added_tokens": added,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" },
        "model": { "type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": true },
    })
    .to_string()
    .into_bytes()
}

/// The letters that byte-level BPE writes the bytes as: itself where it prints, otherwise the next
/// free one from U+0100 on. In the order of the bytes.
fn byte_letters() -> impl Iterator<Item = char> {
    let mut next = 0x100..;
    (0..=255u8).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => next.next().and_then(char::from_u32).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::{ClipTokenizer, T5Tokenizer};

    #[test]
    fn vocabularies_are_as_large_as_they_say() {
        let clip: Value = serde_json::from_slice(&clip_vocabulary()).unwrap();
        assert_eq!(clip.as_object().unwrap().len(), CLIP_TOKENS);
        let t5: Value = serde_json::from_slice(&t5()).unwrap();
        assert_eq!(t5["model"]["vocab"].as_array().unwrap().len(), T5_TOKENS);
    }

    #[test]
    fn every_text_has_tokens_of_its_own() {
        let path = Path::new("demo");
        let clip = ClipTokenizer::from_vocabulary(path, &clip_vocabulary(), "").unwrap();
        let t5 = T5Tokenizer::from_json(path, &t5(), 64).unwrap();
        let texts = ["a red fox", "a red fix", "狐", "🦊", "æ", "a  red\nfox!"];
        for (i, text) in texts.iter().enumerate() {
            let ids = t5.encode(text).unwrap().ids;
            assert!(!ids[..3].contains(&2), "{text} has unknown tokens");
            for other in &texts[..i] {
                assert_ne!(*clip.encode(text).unwrap().ids, *clip.encode(other).unwrap().ids);
                assert_ne!(*ids, *t5.encode(other).unwrap().ids);
            }
        }
    }
}
