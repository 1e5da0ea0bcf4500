//! What tensors of a LoRA's file are called.
//!
//! | form | example |
//! |---|---|
//! | diffusers | `transformer.transformer_blocks.0.attn.to_q.lora_A.weight` |
//! | Black Forest Labs, ComfyUI | `diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight` |
//! | Kohya | `lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight`, `….alpha` |
//!
//! Sources: diffusers v0.42.1, `loaders/lora_conversion_utils.py`, and sd-scripts, `networks/lora_flux.py`.

use super::LoraError;
use crate::checkpoint::renaming::Renaming;

/// What of a pair a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A: (rank, in)
    Down,
    /// B: (out, rank)
    Up,
    Alpha,
}

const KINDS: [(&str, Kind); 7] = [
    (".lora_A.weight", Kind::Down),
    (".lora_B.weight", Kind::Up),
    (".lora_down.weight", Kind::Down),
    (".lora_up.weight", Kind::Up),
    (".lora.down.weight", Kind::Down),
    (".lora.up.weight", Kind::Up),
    (".alpha", Kind::Alpha),
];

/// Other ways to update weights, by what is in their tensors' names.
const METHODS: [(&str, &str); 15] = [
    (".lora_magnitude_vector", "DoRA"),
    (".dora_scale", "DoRA"),
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".vera_", "VeRA"),
    (".lora_mid.", "LoCon's Tucker form"),
    (".glora_", "GLoRA"),
    (".lora_A.bias", "LoRA with biases"),
    (".lora_B.bias", "LoRA with biases"),
    (".diff_b", "full differences of weights"),
    (".diff", "full differences of weights"),
    (".w_norm", "norms that were trained"),
    (".processor.", "XLabs' form of LoRA"),
];

/// Text encoders', in each form.
const TEXT_ENCODERS: [&str; 3] = ["text_encoder", "lora_te", "cond_stage_model"];

/// What stands before a layer's name with dots.
const PREFIXES: [&str; 4] =
    ["transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model."];

/// What stands before one with underscores.
const UNDERSCORED: [&str; 2] = ["lora_unet_", "lora_transformer_"];

/// The layer, by the publisher's name or diffusers', and what of it the tensor is. `None`: no such name is known.
///
/// # Errors
/// Where it belongs to another method, or to a text encoder.
pub(super) fn parse(key: &str, renaming: &Renaming) -> Result<Option<(String, Kind)>, LoraError> {
    if TEXT_ENCODERS.iter().any(|prefix| key.starts_with(prefix)) {
        return Err(LoraError::TextEncoder { key: key.to_owned() });
    }
    if let Some(&(_, method)) = METHODS.iter().find(|(part, _)| key.contains(part)) {
        return Err(LoraError::Method { key: key.to_owned(), method });
    }
    let found = KINDS.iter().find_map(|(end, kind)| Some((key.strip_suffix(end)?, *kind)));
    let Some((mut layer, kind)) = found else { return Ok(None) };
    if let Some(rest) = UNDERSCORED.iter().find_map(|prefix| layer.strip_prefix(prefix)) {
        return Ok(renaming.dotted(rest).map(|layer| (layer, kind)));
    }
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| layer.strip_prefix(prefix)) {
        layer = rest;
    }
    Ok((!layer.is_empty()).then(|| (layer.to_owned(), kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{bfl, bfl2};

    fn layer(key: &str, renaming: &Renaming) -> Option<String> {
        parse(key, renaming).unwrap().map(|(layer, _)| layer)
    }

    #[test]
    fn every_form_names_the_layer() {
        for key in [
            "transformer.transformer_blocks.3.attn.to_q.lora_A.weight",
            "transformer_blocks.3.attn.to_q.lora.up.weight",
            "base_model.model.transformer_blocks.3.attn.to_q.lora_B.weight",
            "diffusion_model.transformer_blocks.3.attn.to_q.alpha",
            "lora_transformer_transformer_blocks_3_attn_to_q.lora_down.weight",
        ] {
            let found = layer(key, &bfl::TRANSFORMER);
            assert_eq!(found.as_deref(), Some("transformer_blocks.3.attn.to_q"), "{key}");
        }
        for (key, expected) in [
            ("lora_unet_double_blocks_12_img_attn_qkv.alpha", "double_blocks.12.img_attn.qkv"),
            ("lora_unet_single_blocks_0_linear1.lora_up.weight", "single_blocks.0.linear1"),
            ("lora_unet_final_layer_adaLN_modulation_1.alpha", "final_layer.adaLN_modulation.1"),
            (
                "lora_transformer_single_transformer_blocks_7_proj_mlp.alpha",
                "single_transformer_blocks.7.proj_mlp",
            ),
        ] {
            assert_eq!(layer(key, &bfl::TRANSFORMER).as_deref(), Some(expected), "{key}");
        }
        let key = "lora_unet_single_blocks_1_linear1.alpha";
        assert_eq!(layer(key, &bfl2::TRANSFORMER).as_deref(), Some("single_blocks.1.linear1"));
    }

    #[test]
    fn what_is_no_lora_of_this_model_is_told_apart() {
        for key in [
            "lora_unet_input_blocks_4_1_proj_in.lora_down.weight",
            "lora_unet_double_blocks_00_img_attn_qkv.alpha",
            "lora_unet_double_blocks_0_img_attn_qkv_.alpha",
            "transformer.transformer_blocks.0.attn.norm_q.weight",
            ".alpha",
            "",
        ] {
            assert_eq!(layer(key, &bfl::TRANSFORMER), None, "{key}");
        }
        let refused = |key: &str| parse(key, &bfl::TRANSFORMER).unwrap_err().to_string();
        assert!(refused("a.lora_magnitude_vector.weight").contains("DoRA"));
        assert!(refused("a.dora_scale").contains("DoRA"));
        assert!(refused("a.hada_w1_a").contains("LoHa"));
        assert!(refused("a.lokr_w1").contains("LoKr"));
        assert!(refused("lora_te1_text_model.alpha").contains("text encoder"));
        assert!(refused("text_encoder.x.lora_A.weight").contains("text encoder"));
    }
}
