//! Shifts, scales and gates of a block: what noise level and prompts make of it.

use candle_core::Tensor;
use kernels::Linear;

use crate::Result;

/// The layers that make them: one for each block, or one for all blocks of a kind.
pub(super) struct ModulationLayers {
    /// Of the image's stream and the text's: 6 parts each.
    pub(super) double: Vec<[Linear; 2]>,
    /// 3 parts each.
    pub(super) single: Vec<Linear>,
}

/// Of all steps and images.
pub(super) struct Modulations {
    /// (steps·n, parts·d): a step's n images are neighbours.
    pub(super) all: Tensor,
    pub(super) images: usize,
    pub(super) parts: usize,
}

/// What a normalisation is modulated by: (n, d) each.
pub(super) struct ShiftScale {
    pub(super) shift: Tensor,
    pub(super) scale: Tensor,
}

impl ShiftScale {
    pub(super) fn by(&self) -> kernels::Modulation<'_> {
        kernels::Modulation { shift: &self.shift, scale: &self.scale }
    }
}

impl Modulations {
    /// Part `index` of one step: (n, d)
    pub(super) fn part(&self, step: usize, index: usize) -> Result<Tensor> {
        let width = self.all.dim(1)? / self.parts;
        let of_step = self.all.narrow(0, step * self.images, self.images)?;
        Ok(of_step.narrow(1, index * width, width)?.contiguous()?)
    }

    /// Part `first` as a shift, the one behind it as a scale.
    pub(super) fn shift_scale(&self, step: usize, first: usize) -> Result<ShiftScale> {
        Ok(ShiftScale { shift: self.part(step, first)?, scale: self.part(step, first + 1)? })
    }
}
