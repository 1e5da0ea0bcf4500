//! Shifts, scales and gates of a block: what noise level and prompts make of it.

use candle_core::Tensor;

use crate::Result;

/// Of all steps and pictures.
pub(super) struct Modulation {
    /// (steps·n, parts·d): a step's n pictures are neighbours.
    pub(super) all: Tensor,
    pub(super) pictures: usize,
    pub(super) parts: usize,
}

impl Modulation {
    /// Part `index` of one step: (n, d)
    pub(super) fn part(&self, step: usize, index: usize) -> Result<Tensor> {
        let width = self.all.dim(1)? / self.parts;
        let of_step = self.all.narrow(0, step * self.pictures, self.pictures)?;
        Ok(of_step.narrow(1, index * width, width)?.contiguous()?)
    }
}
