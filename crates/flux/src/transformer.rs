//! FLUX.1's transformer: noisy latents, a prompt and a noise level → the velocity of the flow.
//!
//! Everything that does not change from step to step (the text's projection, the rotation angles,
//! the modulation of every block at every step) is computed once, by [`Transformer::prepare`]. n
//! images of one size can be drawn together, each from a prompt of its own: their tokens follow each
//! other.
//! Source: the behaviour of diffusers' `FluxTransformer2DModel`.

mod blocks;
mod embeddings;
mod modulation;
mod rotary;
mod rows;

use std::{cell::RefCell, sync::Arc};

use candle_core::{Device, Tensor};
use kernels::{Epilogue, Linear, Rotations};

use crate::{Result, checkpoint::VarBuilder, config::TransformerConfig, latents::Grid, layers};

use blocks::{DoubleBlock, SingleBlock, Tokens};
use embeddings::Conditioner;
use modulation::{Modulations, ShiftScale};
use rows::{interleave, of_each};

/// Double-stream blocks, in which text and image have weights of their own, then single-stream
/// blocks over both together.
pub(crate) struct Transformer {
    image_in: Linear,
    text_in: Linear,
    conditioner: Conditioner,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    norm_out: Linear,
    image_out: Linear,
    axes: [usize; 3],
    /// Of the images before: a copy to a GPU may wait for what it computes.
    latest_rotations: RefCell<Option<(SequenceShape, Arc<Rotations>)>>,
}

/// Text tokens, and the image's: what rotation angles depend on.
type SequenceShape = (usize, Grid);

/// What n images are made from.
pub(crate) struct Conditions<'a> {
    /// T5's states (n·l, joint_attention_dim).
    pub(crate) states: &'a Tensor,
    /// CLIP's pooled vectors (n, pooled_projection_dim).
    pub(crate) pooled: &'a Tensor,
    /// Noise levels of all steps, in thousandths.
    pub(crate) timesteps: &'a [f32],
    /// Guidance scale; only a model with a guidance embedding looks at it.
    pub(crate) guidance: f32,
    pub(crate) grid: Grid,
}

/// What all steps of n images share.
pub(crate) struct Prepared {
    /// (n·l, d)
    text: Tensor,
    rotations: Arc<Rotations>,
    /// Of the image's stream and the text's: 6 parts each.
    double: Vec<[Modulations; 2]>,
    /// 3 parts each.
    single: Vec<Modulations>,
    /// 2 parts.
    out: Modulations,
}

impl Transformer {
    pub(crate) fn load(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width();
        let double = (0..config.num_layers)
            .map(|i| DoubleBlock::load(config, &vb.pp("transformer_blocks").pp(i)))
            .collect::<Result<_>>()?;
        let single = (0..config.num_single_layers)
            .map(|i| SingleBlock::load(config, &vb.pp("single_transformer_blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            image_in: layers::linear(&vb.pp("x_embedder"), [width, config.in_channels])?,
            text_in: layers::linear(
                &vb.pp("context_embedder"),
                [width, config.joint_attention_dim],
            )?,
            conditioner: Conditioner::load(config, &vb.pp("time_text_embed"))?,
            double,
            single,
            norm_out: layers::linear(&vb.pp("norm_out.linear"), [2 * width, width])?,
            image_out: layers::linear(&vb.pp("proj_out"), [config.in_channels, width])?,
            axes: config.axes_dims_rope,
            latest_rotations: RefCell::default(),
        })
    }

    /// Whether a tensor, as its file names it, is a layer that every step runs through, and so one that is
    /// kept in 8 bits where those are asked for. Modulation, embeddings and the last layer stay as they are:
    /// they are little work, and what they lose shows.
    pub(crate) fn is_block_weight(name: &str) -> bool {
        const BLOCKS: [&str; 4] = [
            "transformer_blocks.",
            "single_transformer_blocks.",
            "double_blocks.",
            "single_blocks.",
        ];
        const MODULATIONS: [&str; 3] = ["img_mod", "txt_mod", "modulation"];
        let is_other = |part: &str| part.starts_with("norm") || MODULATIONS.contains(&part);
        BLOCKS.iter().any(|block| name.starts_with(block))
            && name.ends_with(".weight")
            && !name.split('.').any(is_other)
    }

    /// Computes what does not depend on the latents.
    pub(crate) fn prepare(&self, conditions: &Conditions<'_>) -> Result<Prepared> {
        let images = conditions.pooled.dim(0)?;
        // (steps·n, d)
        let conditioning = self.conditioner.forward(conditions)?;
        let modulation = |layer: &Linear, parts| -> Result<Modulations> {
            let all = kernels::linear(&conditioning, layer, Epilogue::None)?;
            Ok(Modulations { all, images, parts })
        };
        let device = conditioning.device();
        let text_tokens = conditions.states.dim(0)? / images;
        Ok(Prepared {
            text: kernels::linear(conditions.states, &self.text_in, Epilogue::None)?,
            rotations: self.rotations((text_tokens, conditions.grid), device)?,
            double: self
                .double
                .iter()
                .map(|block| block.modulation(&modulation))
                .collect::<Result<_>>()?,
            single: self
                .single
                .iter()
                .map(|block| block.modulation(&modulation))
                .collect::<Result<_>>()?,
            out: modulation(&self.norm_out, 2)?,
        })
    }

    fn rotations(&self, places: SequenceShape, device: &Device) -> Result<Arc<Rotations>> {
        let mut latest = self.latest_rotations.borrow_mut();
        if let Some((of, rotations)) = &*latest
            && *of == places
        {
            return Ok(rotations.clone());
        }
        let (text_tokens, grid) = places;
        let made = Arc::new(rotary::rotations(self.axes, text_tokens, grid, device)?);
        *latest = Some((places, made.clone()));
        Ok(made)
    }

    /// latents (n·tokens, in_channels) → their velocity at this step (n·tokens, in_channels).
    pub(crate) fn velocity(
        &self,
        latents: &Tensor,
        prepared: &Prepared,
        step: usize,
    ) -> Result<Tensor> {
        let Prepared { rotations, out, .. } = prepared;
        let image = kernels::linear(latents, &self.image_in, Epilogue::None)?;
        let mut streams = [image, prepared.text.clone()].map(Tokens::Sum);
        for (block, modulation) in self.double.iter().zip(&prepared.double) {
            streams = block.forward(streams, modulation, step, rotations)?;
        }
        let [image, text] = streams;
        let (image, text) = (image.sum()?, text.sum()?);
        // Text first, as in the joint attention: (n·(l + tokens), d)
        let mut both = Tokens::Sum(interleave([&text, &image], out.images)?);
        for (block, modulation) in self.single.iter().zip(&prepared.single) {
            both = block.forward(both, modulation, step, rotations)?;
        }
        // (n·(l + tokens), d) → (n·tokens, d)
        let [_, image] = of_each(&both.sum()?, [text.dim(0)?, image.dim(0)?], out.images)?;
        // Here scale comes before shift, unlike in the blocks.
        let by = ShiftScale { scale: out.part(step, 0)?, shift: out.part(step, 1)? };
        let image = kernels::ada_layer_norm(&image, by.by())?;
        Ok(kernels::linear(&image, &self.image_out, Epilogue::None)?)
    }
}
