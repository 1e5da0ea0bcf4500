//! Files of a model directory. What runs them is in `flux::fuzzing`, but for the manifest.

use std::{fs, path::Path};

pub(super) fn manifest(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    if let Ok(manifest) = flux::Manifest::parse(text) {
        assert_eq!(flux::Manifest::parse(&manifest.to_toml()).ok(), Some(manifest));
    }
}

pub(super) fn manifest_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let models = fixtures.join("../../models");
    ["flux1-schnell.toml", "demo/obscura.toml"]
        .map(|name| fs::read(models.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")))
        .into()
}

/// The forms of names, and what must not be taken for one.
pub(super) fn lora_seeds(_: &Path) -> Vec<Vec<u8>> {
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

pub(super) fn safetensors_seeds(_: &Path) -> Vec<Vec<u8>> {
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
pub(super) fn config_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let files = [
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "transformer/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
    ];
    // Of which a kind of its own reads each, and the index by the same reader.
    let kleins = [
        (0, "model_index.json"),
        (5, "scheduler/scheduler_config.json"),
        (6, "text_encoder/config.json"),
        (7, "transformer/config.json"),
        (8, "vae/config.json"),
    ];
    let demo = fixtures.join("../../models/demo");
    let klein = fixtures.join("klein/klein-2x3/model");
    let of_demo = files.iter().zip(0..).map(|(file, which)| (which, demo.join(file)));
    let of_klein = kleins.iter().map(|(which, file)| (*which, klein.join(file)));
    of_demo
        .chain(of_klein)
        .map(|(which, file)| {
            let mut bytes = vec![which];
            let shown = file.display();
            bytes.extend(fs::read(&file).unwrap_or_else(|e| panic!("{shown}: {e}")));
            bytes
        })
        .collect()
}

/// A small tokenizer of each kind, and the demo model's with its character map.
pub(super) fn tokenizer_seeds(fixtures: &Path) -> Vec<Vec<u8>> {
    let unigram = r#"{"version":"1.0","added_tokens":[{"id":0,"content":"<pad>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":false,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true},"model":{"type":"Unigram","unk_id":2,"vocab":[["<pad>",0.0],["</s>",0.0],["<unk>",0.0],["▁a",-1.5]],"byte_fallback":false}}"#;
    let bpe = r#"{"added_tokens":[],"normalizer":{"type":"NFC"},"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\s+"},"behavior":"Removed","invert":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},"model":{"type":"BPE","dropout":null,"unk_token":"<|endoftext|>","continuing_subword_prefix":"","end_of_word_suffix":"</w>","fuse_unk":false,"vocab":{"<|startoftext|>":0,"<|endoftext|>":1,"a":2,"b</w>":3,"ab</w>":4},"merges":["a b</w>"]}}"#;
    let map = r#"{"normalizer":{"type":"Precompiled","precompiled_charsmap":"BAAAAAAAAAA="},"model":{"type":"Unigram","unk_id":0,"vocab":[["a",0.0]]}}"#;
    let whole = fs::read(fixtures.join("../../models/demo/tokenizer_2/tokenizer.json"));
    // Qwen2's kind, trained on a small corpus, with the tokens of a chat.
    let trained = fs::read(fixtures.join("klein/tokenizer/tokenizer.json"));
    let mut seeds: Vec<Vec<u8>> = [unigram, bpe, map].map(|text| text.as_bytes().to_vec()).into();
    seeds.extend(whole);
    seeds.extend(trained);
    seeds
}
