//! Black Forest Labs' single file of FLUX.2, under the names that diffusers gives the same tensors.
//!
//! `flux-2-klein-4b.safetensors` holds the transformer. It differs from diffusers' files in names, in that
//! queries, keys and values of double blocks are one tensor, and in that the last modulation has shift before
//! scale. Names: diffusers v0.42.1, `single_file_utils.py`, `convert_flux2_transformer_checkpoint_to_diffusers`.
//!
//! A name that is not known is kept, and so refused as a surplus tensor under the name it has in its file.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Result;

type Tensors = BTreeMap<String, Tensor>;

/// The tensors of the file as those of diffusers' `transformer/`.
///
/// # Errors
/// Where a tensor operation fails.
pub(crate) fn transformer(tensors: Tensors) -> Result<Tensors> {
    // As ComfyUI saves them.
    const PREFIX: &str = "model.diffusion_model.";
    let is_prefixed = tensors.keys().all(|name| name.starts_with(PREFIX));
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let name = if is_prefixed { name.replacen(PREFIX, "", 1) } else { name };
            if name == "final_layer.adaLN_modulation.1.weight" && tensor.rank() > 0 {
                let halves = tensor.chunk(2, 0)?;
                let swapped = Tensor::cat(&halves.iter().rev().collect::<Vec<_>>(), 0)?;
                return Ok(("norm_out.linear.weight".to_owned(), swapped));
            }
            Ok((renamed(&name).unwrap_or(name), tensor))
        })
        .collect()
}

fn renamed(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    // Norms have a `scale`, everybody else a `weight`.
    if !["weight", "scale"].contains(&kind) {
        return None;
    }
    if let Some(outer) = outer_name(stem) {
        return Some(format!("{outer}.weight"));
    }
    for (blocks, renamed, inner) in [
        ("double_blocks.", "transformer_blocks", double_block_name as fn(&str) -> _),
        ("single_blocks.", "single_transformer_blocks", single_block_name),
    ] {
        if let Some(rest) = stem.strip_prefix(blocks) {
            let (number, part) = rest.split_once('.')?;
            let number: usize = number.parse().ok()?;
            return Some(format!("{renamed}.{number}.{}.weight", inner(part)?));
        }
    }
    None
}

fn outer_name(stem: &str) -> Option<&'static str> {
    Some(match stem {
        "img_in" => "x_embedder",
        "txt_in" => "context_embedder",
        "time_in.in_layer" => "time_guidance_embed.timestep_embedder.linear_1",
        "time_in.out_layer" => "time_guidance_embed.timestep_embedder.linear_2",
        "double_stream_modulation_img.lin" => "double_stream_modulation_img.linear",
        "double_stream_modulation_txt.lin" => "double_stream_modulation_txt.linear",
        "single_stream_modulation.lin" => "single_stream_modulation.linear",
        "final_layer.linear" => "proj_out",
        _ => return None,
    })
}

fn double_block_name(part: &str) -> Option<&'static str> {
    Some(match part {
        "img_attn.qkv" => "attn.to_qkv",
        "txt_attn.qkv" => "attn.to_added_qkv",
        "img_attn.norm.query_norm" => "attn.norm_q",
        "img_attn.norm.key_norm" => "attn.norm_k",
        "txt_attn.norm.query_norm" => "attn.norm_added_q",
        "txt_attn.norm.key_norm" => "attn.norm_added_k",
        "img_attn.proj" => "attn.to_out.0",
        "txt_attn.proj" => "attn.to_add_out",
        "img_mlp.0" => "ff.linear_in",
        "img_mlp.2" => "ff.linear_out",
        "txt_mlp.0" => "ff_context.linear_in",
        "txt_mlp.2" => "ff_context.linear_out",
        _ => return None,
    })
}

fn single_block_name(part: &str) -> Option<&'static str> {
    Some(match part {
        "linear1" => "attn.to_qkv_mlp_proj",
        "linear2" => "attn.to_out",
        "norm.query_norm" => "attn.norm_q",
        "norm.key_norm" => "attn.norm_k",
        _ => return None,
    })
}
