//! Black Forest Labs' single file of FLUX.2, under the names that diffusers gives the same tensors.
//!
//! `flux-2-klein-4b.safetensors` holds the transformer. It differs from diffusers' files in names, in that
//! queries, keys and values of double blocks are one tensor, and in that the last modulation has shift before
//! scale. Names: diffusers v0.42.1, `single_file_utils.py`, `convert_flux2_transformer_checkpoint_to_diffusers`.

use super::renaming::Renaming;

/// The transformer's names.
pub(crate) const TRANSFORMER: Renaming = Renaming {
    outer: &[
        ["img_in", "x_embedder"],
        ["txt_in", "context_embedder"],
        ["time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"],
        ["time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"],
        ["double_stream_modulation_img.lin", "double_stream_modulation_img.linear"],
        ["double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"],
        ["single_stream_modulation.lin", "single_stream_modulation.linear"],
        ["final_layer.linear", "proj_out"],
        ["final_layer.adaLN_modulation.1", "norm_out.linear"],
    ],
    double: &[
        ["img_attn.qkv", "attn.to_qkv"],
        ["txt_attn.qkv", "attn.to_added_qkv"],
        ["img_attn.norm.query_norm", "attn.norm_q"],
        ["img_attn.norm.key_norm", "attn.norm_k"],
        ["txt_attn.norm.query_norm", "attn.norm_added_q"],
        ["txt_attn.norm.key_norm", "attn.norm_added_k"],
        ["img_attn.proj", "attn.to_out.0"],
        ["txt_attn.proj", "attn.to_add_out"],
        ["img_mlp.0", "ff.linear_in"],
        ["img_mlp.2", "ff.linear_out"],
        ["txt_mlp.0", "ff_context.linear_in"],
        ["txt_mlp.2", "ff_context.linear_out"],
    ],
    single: &[
        ["linear1", "attn.to_qkv_mlp_proj"],
        ["linear2", "attn.to_out"],
        ["norm.query_norm", "attn.norm_q"],
        ["norm.key_norm", "attn.norm_k"],
    ],
    split: None,
};
