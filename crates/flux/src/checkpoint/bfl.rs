//! Black Forest Labs' single files, under the names that diffusers gives the same tensors.
//!
//! `flux1-*.safetensors` holds the transformer, `ae.safetensors` the autoencoder. They differ from
//! diffusers' files in three ways besides names: queries, keys and values (and, in single blocks, the
//! feed-forward's first layer) are one tensor, as layers want them, which is called `to_qkv` as diffusers
//! calls it where it joins them itself; the last modulation has shift before scale, where
//! diffusers has scale before shift; the autoencoder's attention is 1×1 convolutions.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::renaming::{Renaming, Split};
use crate::Result;

type Tensors = BTreeMap<String, Tensor>;

/// The transformer's names.
pub(crate) const TRANSFORMER: Renaming = Renaming {
    outer: &[
        ["img_in", "x_embedder"],
        ["txt_in", "context_embedder"],
        ["time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"],
        ["time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"],
        ["vector_in.in_layer", "time_text_embed.text_embedder.linear_1"],
        ["vector_in.out_layer", "time_text_embed.text_embedder.linear_2"],
        ["guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"],
        ["guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"],
        ["final_layer.linear", "proj_out"],
        ["final_layer.adaLN_modulation.1", "norm_out.linear"],
    ],
    double: &[
        ["img_mod.lin", "norm1.linear"],
        ["txt_mod.lin", "norm1_context.linear"],
        ["img_attn.qkv", "attn.to_qkv"],
        ["txt_attn.qkv", "attn.to_added_qkv"],
        ["img_attn.norm.query_norm", "attn.norm_q"],
        ["img_attn.norm.key_norm", "attn.norm_k"],
        ["txt_attn.norm.query_norm", "attn.norm_added_q"],
        ["txt_attn.norm.key_norm", "attn.norm_added_k"],
        ["img_attn.proj", "attn.to_out.0"],
        ["txt_attn.proj", "attn.to_add_out"],
        ["img_mlp.0", "ff.net.0.proj"],
        ["img_mlp.2", "ff.net.2"],
        ["txt_mlp.0", "ff_context.net.0.proj"],
        ["txt_mlp.2", "ff_context.net.2"],
    ],
    single: &[
        ["modulation.lin", "norm.linear"],
        ["norm.query_norm", "attn.norm_q"],
        ["norm.key_norm", "attn.norm_k"],
        ["linear2", "proj_out"],
    ],
    // Three of the stream's width, then the feed-forward's four.
    split: Some(Split { whole: "linear1", parts: ["attn.to_qkv", "proj_mlp"], shares: [3, 4] }),
};

/// The tensors of `ae.safetensors` as those of diffusers' `vae/`.
///
/// # Errors
/// Where a tensor operation fails.
pub(crate) fn autoencoder(tensors: Tensors) -> Result<Tensors> {
    // diffusers counts the decoder's levels from the latents up, BFL from the image down.
    let levels = tensors
        .keys()
        .filter_map(|name| name.strip_prefix("decoder.up.")?.split('.').next()?.parse().ok())
        .max()
        .map_or(0, |top: u32| top as usize + 1);
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let renamed = autoencoder_name(&name, levels).unwrap_or(name);
            let is_attention = renamed.contains(".attentions.") && tensor.rank() == 4;
            // (out, in, 1, 1) → (out, in)
            let tensor = if is_attention { tensor.flatten_from(1)? } else { tensor };
            Ok((renamed, tensor))
        })
        .collect()
}

/// Only the decoder's names: nothing here encodes images.
fn autoencoder_name(name: &str, levels: usize) -> Option<String> {
    let inner = name.strip_prefix("decoder.")?;
    if let Some(rest) = inner.strip_prefix("norm_out.") {
        return Some(format!("decoder.conv_norm_out.{rest}"));
    }
    if let Some(rest) = inner.strip_prefix("mid.block_") {
        let (number, rest) = rest.split_once('.')?;
        let index = number.parse::<usize>().ok()?.checked_sub(1)?;
        return Some(format!("decoder.mid_block.resnets.{index}.{}", shortcut(rest)));
    }
    if let Some(rest) = inner.strip_prefix("mid.attn_1.") {
        let (part, kind) = rest.split_once('.')?;
        let part = match part {
            "norm" => "group_norm",
            "q" => "to_q",
            "k" => "to_k",
            "v" => "to_v",
            "proj_out" => "to_out.0",
            _ => return None,
        };
        return Some(format!("decoder.mid_block.attentions.0.{part}.{kind}"));
    }
    let (level, rest) = inner.strip_prefix("up.")?.split_once('.')?;
    let block = levels.checked_sub(1)?.checked_sub(level.parse().ok()?)?;
    if let Some(rest) = rest.strip_prefix("upsample.") {
        return Some(format!("decoder.up_blocks.{block}.upsamplers.0.{rest}"));
    }
    let (resnet, rest) = rest.strip_prefix("block.")?.split_once('.')?;
    Some(format!("decoder.up_blocks.{block}.resnets.{resnet}.{}", shortcut(rest)))
}

fn shortcut(rest: &str) -> String {
    rest.replace("nin_shortcut.", "conv_shortcut.")
}
