//! FLUX.1's transformer: each block modulates by itself, feed-forwards activate by GELU, layers have biases.
//!
//! Source: the behaviour of diffusers' `FluxTransformer2DModel`.

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
    checkpoint::{VarBuilder, renaming::IMAGE_QKV},
    config::TransformerConfig,
    layers::{self, Biases},
};

/// Base of the rotary frequencies.
const THETA: f64 = 10_000.0;

impl Transformer {
    /// Loads FLUX.1's.
    ///
    /// # Errors
    /// Where a tensor is missing or misshapen.
    pub(crate) fn flux1(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width();
        let shape = Shape {
            in_channels: config.in_channels,
            text_width: config.joint_attention_dim,
            width,
            head_width: config.attention_head_dim,
            mlp_width: config.mlp_width(),
            mlp: Mlp::Gelu,
            biases: Biases::With,
            axes: Axes { dims: config.axes_dims_rope.to_vec(), theta: THETA },
        };
        let mut blocks = Blocks {
            conditioner: conditioner(config, &vb.pp("time_text_embed"))?,
            modulation: ModulationLayers { double: Vec::new(), single: Vec::new() },
            double: Vec::new(),
            single: Vec::new(),
        };
        for i in 0..config.num_layers {
            let vb = vb.pp("transformer_blocks").pp(i);
            let modulation = |name| layers::linear(&vb.pp(name), [6 * width, width]);
            let names = ["norm1.linear", "norm1_context.linear"];
            blocks.modulation.double.push([modulation(names[0])?, modulation(names[1])?]);
            let stream = |names| shape.stream(&vb, names, ["net.0.proj", "net.2"]);
            blocks.double.push(DoubleBlock { image: stream(&IMAGE)?, text: stream(&TEXT)? });
        }
        for i in 0..config.num_single_layers {
            let vb = vb.pp("single_transformer_blocks").pp(i);
            let modulation = layers::linear(&vb.pp("norm.linear"), [3 * width, width])?;
            blocks.modulation.single.push(modulation);
            blocks.single.push(single_block(&shape, &vb)?);
        }
        shape.transformer(blocks, vb)
    }
}

fn single_block(shape: &Shape, vb: &VarBuilder<'_>) -> Result<SingleBlock> {
    let (width, hidden, biases) = (shape.width, shape.mlp_width, shape.biases);
    let attention = vb.pp("attn");
    let [norm_q, norm_k] = shape.qk_norms(&attention)?;
    Ok(SingleBlock {
        qkv: layers::block_qkv(&attention, &IMAGE_QKV, [width, width], biases)?,
        norm_q,
        norm_k,
        mlp: shape.mlp,
        fc1: layers::block_linear(&vb.pp("proj_mlp"), [hidden, width], biases)?,
        out: layers::block_linear(&vb.pp("proj_out"), [width, width + hidden], biases)?,
    })
}

fn conditioner(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Conditioner> {
    let width = config.width();
    let load = |name, inputs| embeddings::Mlp::load(&vb.pp(name), [width, inputs], Biases::With);
    Ok(Conditioner {
        timestep: load("timestep_embedder", CHANNELS)?,
        text: Some(load("text_embedder", config.pooled_projection_dim)?),
        guidance: config
            .guidance_embeds
            .then(|| load("guidance_embedder", CHANNELS))
            .transpose()?,
    })
}
