//! FLUX.2-klein's transformer: one modulation for all double blocks of each stream and one for all single
//! blocks, feed-forwards that gate by SiLU, no biases, text that knows its place.
//!
//! Source: the behaviour of diffusers' `Flux2Transformer2DModel`.

use super::{
    Transformer,
    blocks::{DoubleBlock, Mlp, SingleBlock},
    embeddings::{self, CHANNELS, Conditioner},
    loading::{Blocks, IMAGE, Shape, TEXT},
    modulation::ModulationLayers,
    rotary::Axes,
};
use crate::{
    Result,
    checkpoint::VarBuilder,
    config::flux2::TransformerConfig,
    layers::{self, Biases},
};

impl Transformer {
    /// Loads FLUX.2-klein's.
    ///
    /// # Errors
    /// Where a tensor is missing or misshapen.
    pub(crate) fn flux2(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width();
        let shape = Shape {
            in_channels: config.in_channels,
            text_width: config.joint_attention_dim,
            width,
            head_width: config.attention_head_dim,
            mlp_width: config.mlp_width(),
            mlp: Mlp::SwiGlu,
            biases: Biases::Without,
            axes: Axes { dims: config.axes_dims_rope.to_vec(), theta: config.rope_theta },
        };
        let timestep = vb.pp("time_guidance_embed.timestep_embedder");
        let timestep = embeddings::Mlp::load(&timestep, [width, CHANNELS], Biases::Without)?;
        let modulation = |name: &str, parts| {
            layers::linear_unbiased(&vb.pp(name).pp("linear"), [parts * width, width])
        };
        let mut blocks = Blocks {
            conditioner: Conditioner { timestep, text: None, guidance: None },
            modulation: ModulationLayers {
                double: vec![[
                    modulation("double_stream_modulation_img", 6)?,
                    modulation("double_stream_modulation_txt", 6)?,
                ]],
                single: vec![modulation("single_stream_modulation", 3)?],
            },
            double: Vec::new(),
            single: Vec::new(),
        };
        for i in 0..config.num_layers {
            let vb = vb.pp("transformer_blocks").pp(i);
            let stream = |names| shape.stream(&vb, names, ["linear_in", "linear_out"]);
            blocks.double.push(DoubleBlock { image: stream(&IMAGE)?, text: stream(&TEXT)? });
        }
        for i in 0..config.num_single_layers {
            let attention = vb.pp("single_transformer_blocks").pp(i).pp("attn");
            blocks.single.push(single_block(&shape, &attention)?);
        }
        shape.transformer(blocks, vb)
    }
}

/// Queries, keys, values and both halves of the gate are one tensor, cut in two when it is loaded.
fn single_block(shape: &Shape, vb: &VarBuilder<'_>) -> Result<SingleBlock> {
    let (width, hidden) = (shape.width, shape.mlp_width);
    let rows = [3 * width, shape.fc1_width()];
    let [qkv, fc1] = layers::block_linears(&vb.pp("to_qkv_mlp_proj"), rows, width)?;
    let [norm_q, norm_k] = shape.qk_norms(vb)?;
    let out = layers::block_linear(&vb.pp("to_out"), [width, width + hidden], shape.biases)?;
    Ok(SingleBlock { qkv, norm_q, norm_k, mlp: shape.mlp, fc1, out })
}
