//! FLUX.1's transformer: noisy latents, a prompt and a noise level → the velocity of the flow.
//!
//! Everything that does not change from step to step (the text's projection, the rotation angles,
//! the modulation of every block at every step) is computed once, by [`Transformer::prepare`]. n
//! pictures of one size can be drawn together, each from a prompt of its own: their tokens follow each
//! other.
//! Source: the behaviour of diffusers' `FluxTransformer2DModel`.

mod blocks;
mod embeddings;
mod modulation;
mod rotary;
mod rows;

use std::{cell::RefCell, sync::Arc};

use candle_core::{Device, Tensor};

use crate::{
    Result,
    checkpoint::Scope,
    config::TransformerConfig,
    latents::Grid,
    layers::Linear,
    ops::{self, Rotations, Shift},
};

use blocks::{DoubleBlock, SingleBlock};
use embeddings::Conditioner;
use modulation::Modulation;
use rows::{interleave, of_each};

/// Double-stream blocks, in which text and picture have weights of their own, then single-stream
/// blocks over both together.
pub(crate) struct Transformer {
    picture_in: Linear,
    text_in: Linear,
    conditioner: Conditioner,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    norm_out: Linear,
    picture_out: Linear,
    axes: [usize; 3],
    /// Of the pictures before: a copy to a GPU may wait for what it computes.
    latest_rotations: RefCell<Option<(Places, Arc<Rotations>)>>,
}

/// Text tokens, and the picture's: what rotation angles depend on.
type Places = (usize, Grid);

/// What n pictures are made from.
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

/// What all steps of n pictures share.
pub(crate) struct Prepared {
    /// (n·l, d)
    text: Tensor,
    rotations: Arc<Rotations>,
    /// Of the picture's stream and the text's: 6 parts each.
    double: Vec<[Modulation; 2]>,
    /// 3 parts each.
    single: Vec<Modulation>,
    /// 2 parts.
    out: Modulation,
}

impl Transformer {
    pub(crate) fn load(config: &TransformerConfig, scope: &Scope<'_>) -> Result<Self> {
        let width = config.width();
        let double = (0..config.num_layers)
            .map(|i| DoubleBlock::load(config, &scope.at("transformer_blocks").at(i)))
            .collect::<Result<_>>()?;
        let single = (0..config.num_single_layers)
            .map(|i| SingleBlock::load(config, &scope.at("single_transformer_blocks").at(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            picture_in: Linear::load(&scope.at("x_embedder"), [width, config.in_channels])?,
            text_in: Linear::load(
                &scope.at("context_embedder"),
                [width, config.joint_attention_dim],
            )?,
            conditioner: Conditioner::load(config, &scope.at("time_text_embed"))?,
            double,
            single,
            norm_out: Linear::load(&scope.at("norm_out.linear"), [2 * width, width])?,
            picture_out: Linear::load(&scope.at("proj_out"), [config.in_channels, width])?,
            axes: config.axes_dims_rope,
            latest_rotations: RefCell::default(),
        })
    }

    /// Stores the blocks' layers in e4m3 with a scale for each row. Modulation, embeddings and the last
    /// layer stay as they are: they are little work, and what they lose shows.
    pub(crate) fn quantise(&mut self) -> Result<()> {
        let double = self.double.iter_mut().flat_map(DoubleBlock::layers_mut);
        let single = self.single.iter_mut().flat_map(SingleBlock::layers_mut);
        for layer in double.chain(single) {
            ops::quantise(layer)?;
        }
        Ok(())
    }

    /// Computes what does not depend on the latents.
    pub(crate) fn prepare(&self, conditions: &Conditions<'_>) -> Result<Prepared> {
        let pictures = conditions.pooled.dim(0)?;
        // (steps·n, d)
        let conditioning = self.conditioner.forward(conditions)?;
        let modulation = |layer: &Linear, parts| -> Result<Modulation> {
            Ok(Modulation { all: ops::linear(&conditioning, layer)?, pictures, parts })
        };
        let device = conditioning.device();
        let text_tokens = conditions.states.dim(0)? / pictures;
        Ok(Prepared {
            text: ops::linear(conditions.states, &self.text_in)?,
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

    fn rotations(&self, places: Places, device: &Device) -> Result<Arc<Rotations>> {
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
        let mut picture = ops::linear(latents, &self.picture_in)?;
        let mut text = prepared.text.clone();
        for (block, modulation) in self.double.iter().zip(&prepared.double) {
            (picture, text) = block.forward([&picture, &text], modulation, step, rotations)?;
        }
        // Text first, as in the joint attention: (n·(l + tokens), d)
        let mut both = interleave([&text, &picture], out.pictures)?;
        for (block, modulation) in self.single.iter().zip(&prepared.single) {
            both = block.forward(&both, modulation, step, rotations)?;
        }
        // (n·(l + tokens), d) → (n·tokens, d)
        let [_, picture] = of_each(&both, [text.dim(0)?, picture.dim(0)?], out.pictures)?;
        // Here scale comes before shift, unlike in the blocks.
        let (scale, shift) = (out.part(step, 0)?, out.part(step, 1)?);
        let picture = ops::layer_norm_shift(&picture, &Shift { shift: &shift, scale: &scale })?;
        Ok(ops::linear(&picture, &self.picture_out)?)
    }
}
