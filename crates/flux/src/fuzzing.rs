//! Readers of a model directory's files, for fuzzing: each takes the bytes of one file.

use std::path::Path;

use crate::{
    checkpoint::{self, bfl, bfl2, json},
    config::{
        AutoEncoderConfig, ClipConfig, FLUX1, ModelIndex, SchedulerConfig, T5Config,
        TransformerConfig, flux2,
    },
    lora,
    text::{ChatTokenizer, ClipTokenizer, T5Tokenizer},
};

/// A weights file.
pub fn safetensors(file: &[u8]) {
    let _ = checkpoint::read_tensors(Path::new("fuzz"), file);
}

/// A LoRA's file, for either kind of model.
pub fn lora(file: &[u8]) {
    for renaming in [&bfl::TRANSFORMER, &bfl2::TRANSFORMER] {
        let _ = lora::read_bytes(file, renaming);
    }
}

/// A configuration: the first byte says of which component.
pub fn config(input: &[u8]) {
    let Some((which, file)) = input.split_first() else { return };
    let _ = match which % 9 {
        0 => json::read(file)
            .map(|index: ModelIndex| index.check(&FLUX1).or_else(|_| index.check(&flux2::FAMILY))),
        1 => json::read(file).map(|config: ClipConfig| config.check()),
        2 => json::read(file).map(|config: T5Config| config.check()),
        3 => json::read(file).map(|config: TransformerConfig| config.check()),
        4 => json::read(file).map(|config: AutoEncoderConfig| config.check()),
        5 => json::read(file).map(|config: SchedulerConfig| config.check()),
        6 => json::read(file).map(|config: flux2::Qwen3Config| config.check()),
        7 => json::read(file).map(|config: flux2::TransformerConfig| config.check()),
        _ => json::read(file).map(|config: flux2::AutoEncoderConfig| config.check()),
    };
}

/// A `tokenizer.json`, as CLIP's and as T5's, and a prompt through what it makes.
pub fn tokenizer(file: &[u8]) {
    const PROMPT: &str = "A red fox,  «ﷺ» İ\u{0}\u{301} 🦊🏽 </s>\n1/2 don't";
    let path = Path::new("fuzz");
    if let Ok(clip) = ClipTokenizer::from_json(path, file, 1 << 16) {
        let _ = clip.encode(PROMPT);
    }
    let padding = ("<|endoftext|>", 64);
    if let Ok(chat) = ChatTokenizer::from_json(path, file, 1 << 16, padding) {
        let _ = chat.encode(PROMPT);
    }
    if let Ok(t5) = T5Tokenizer::from_json(path, file, 1 << 16, 64) {
        let _ = t5.encode(PROMPT);
    }
}
