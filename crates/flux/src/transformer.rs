//! A transformer of the FLUX family: noisy latents, a prompt and a noise level → the velocity of the flow.
//!
//! Everything that does not change from step to step (the text's projection, the rotation angles, the
//! modulation of every block at every step, the projection of input images) is computed once, by
//! [`Transformer::prepare`]. n images of one size can be drawn together, each from a prompt of its own: their
//! tokens follow each other. What the models call their tensors, and what they have of each layer, is in
//! `flux1.rs` and `flux2.rs`.

mod blocks;
mod embeddings;
mod flux1;
mod flux2;
mod loading;
mod modulation;
mod rotary;
mod rows;

use std::{cell::RefCell, sync::Arc};

use candle_core::{Device, Tensor};
use kernels::{Epilogue, Linear, Rotations};

use crate::{Result, latents::Grid};

use blocks::{DoubleBlock, SingleBlock, Tokens};
use embeddings::Conditioner;
use modulation::{ModulationLayers, Modulations, ShiftScale};
use rotary::{Axes, Sequence};
use rows::{interleave, of_each};

/// Double-stream blocks, in which text and image have weights of their own, then single-stream
/// blocks over both together.
pub(crate) struct Transformer {
    image_in: Linear,
    text_in: Linear,
    conditioner: Conditioner,
    modulation: ModulationLayers,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    norm_out: Linear,
    image_out: Linear,
    axes: Axes,
    /// Of the images before: a copy to a GPU may wait for what it computes.
    latest_rotations: RefCell<Option<(Sequence, Arc<Rotations>)>>,
}

/// What n images are made from.
pub(crate) struct Conditions<'a> {
    /// n
    pub(crate) images: usize,
    /// The text encoder's states (n·l, joint_attention_dim).
    pub(crate) states: &'a Tensor,
    /// CLIP's pooled vectors (n, pooled_projection_dim), where the model reads them.
    pub(crate) pooled: Option<&'a Tensor>,
    /// Noise levels of all steps, in thousandths.
    pub(crate) timesteps: &'a [f32],
    /// Guidance scale; only a model with a guidance embedding looks at it.
    pub(crate) guidance: f32,
    pub(crate) grid: Grid,
    /// Input images, where there are any.
    pub(crate) references: Option<References<'a>>,
}

/// Input images that images are made from: as many, of the same sizes, for each of the n.
#[derive(Clone, Copy)]
pub(crate) struct References<'a> {
    /// Their latents (n·r, in_channels), those of an image side by side.
    pub(crate) tokens: &'a Tensor,
    /// Where they lie in each of them.
    pub(crate) grids: &'a [Grid],
}

/// What all steps of n images share.
pub(crate) struct Prepared {
    /// (n·l, d)
    text: Tensor,
    /// Input images' tokens, where there are any: (n·r, d).
    references: Option<Tensor>,
    rotations: Arc<Rotations>,
    /// Of the image's stream and the text's: 6 parts each. Of each block, or one for all.
    double: Vec<[Modulations; 2]>,
    /// 3 parts each. Of each block, or one for all.
    single: Vec<Modulations>,
    /// 2 parts.
    out: Modulations,
}

impl Transformer {
    /// Whether a tensor, by diffusers' name, is a layer that every step runs through, and so one that is
    /// kept in 8 bits where those are asked for. Modulation, embeddings and the last layer stay as they are:
    /// they are little work, and what they lose shows.
    pub(crate) fn is_block_weight(name: &str) -> bool {
        const BLOCKS: [&str; 2] = ["transformer_blocks.", "single_transformer_blocks."];
        let is_other = |part: &str| part.starts_with("norm");
        BLOCKS.iter().any(|block| name.starts_with(block))
            && name.ends_with(".weight")
            && !name.split('.').any(is_other)
    }

    /// Computes what does not depend on the latents.
    pub(crate) fn prepare(&self, conditions: &Conditions<'_>) -> Result<Prepared> {
        let &Conditions { images, states, grid, references, .. } = conditions;
        // (steps·n, d)
        let conditioning = self.conditioner.forward(conditions)?;
        let modulation = |layer: &Linear, parts| -> Result<Modulations> {
            let all = kernels::linear(&conditioning, layer, Epilogue::None)?;
            Ok(Modulations { all, images, parts })
        };
        let of_both =
            |[image, text]: &[Linear; 2]| Ok([modulation(image, 6)?, modulation(text, 6)?]);
        let sequence = Sequence {
            text_tokens: states.dim(0)? / images,
            image: grid,
            references: references.map_or_else(Vec::new, |all| all.grids.to_vec()),
        };
        let project = |all: References<'_>| {
            let tokens = all.tokens.to_dtype(states.dtype())?;
            kernels::linear(&tokens, &self.image_in, Epilogue::None)
        };
        Ok(Prepared {
            text: kernels::linear(states, &self.text_in, Epilogue::None)?,
            references: references.map(project).transpose()?,
            rotations: self.rotations(sequence, conditioning.device())?,
            double: self.modulation.double.iter().map(of_both).collect::<Result<_>>()?,
            single: self
                .modulation
                .single
                .iter()
                .map(|layer| modulation(layer, 3))
                .collect::<Result<_>>()?,
            out: modulation(&self.norm_out, 2)?,
        })
    }

    fn rotations(&self, sequence: Sequence, device: &Device) -> Result<Arc<Rotations>> {
        let mut latest = self.latest_rotations.borrow_mut();
        if let Some((of, rotations)) = &*latest
            && *of == sequence
        {
            return Ok(rotations.clone());
        }
        let made = Arc::new(rotary::rotations(&self.axes, &sequence, device)?);
        *latest = Some((sequence, made.clone()));
        Ok(made)
    }

    /// latents (n·tokens, in_channels) → their velocity at this step (n·tokens, in_channels).
    pub(crate) fn velocity(
        &self,
        latents: &Tensor,
        prepared: &Prepared,
        step: usize,
    ) -> Result<Tensor> {
        let Prepared { rotations, out, references, .. } = prepared;
        let image = kernels::linear(latents, &self.image_in, Epilogue::None)?;
        let drawn = image.dim(0)?;
        // Input images are tokens behind the image's own: (n·(tokens + r), d)
        let image = match references {
            Some(references) => interleave([&image, references], out.images)?,
            None => image,
        };
        let mut streams = [image, prepared.text.clone()].map(Tokens::Sum);
        // Where one modulation is for all blocks, it comes round again for each.
        for (block, modulation) in self.double.iter().zip(prepared.double.iter().cycle()) {
            streams = block.forward(streams, modulation, step, rotations)?;
        }
        let [image, text] = streams;
        let (image, text) = (image.sum()?, text.sum()?);
        // Text first, as in the joint attention: (n·(l + tokens), d)
        let mut both = Tokens::Sum(interleave([&text, &image], out.images)?);
        for (block, modulation) in self.single.iter().zip(prepared.single.iter().cycle()) {
            both = block.forward(both, modulation, step, rotations)?;
        }
        // (n·(l + tokens), d) → (n·tokens, d)
        let [_, image] = of_each(&both.sum()?, [text.dim(0)?, image.dim(0)?], out.images)?;
        let image = match references {
            Some(references) => {
                let [image, _] = of_each(&image, [drawn, references.dim(0)?], out.images)?;
                image
            }
            None => image,
        };
        // Here scale comes before shift, unlike in the blocks.
        let by = ShiftScale { scale: out.part(step, 0)?, shift: out.part(step, 1)? };
        let image = kernels::ada_layer_norm(&image, by.by())?;
        Ok(kernels::linear(&image, &self.image_out, Epilogue::None)?)
    }
}
