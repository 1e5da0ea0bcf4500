//! What the kernels are compared on: FLUX.1's own shapes, and others that are no multiples of anything.

mod autoencoder;
mod encoders;
mod transformer;

use candle_core::{DType, Tensor};

use super::doctor::{Depth, Examination};
use crate::{Result, layers::Linear};

/// Tolerances of ‖kernel − reference‖ / ‖reference‖.
pub(super) const F32: f64 = 1e-5;
pub(super) const BF16: f64 = 1e-2;
pub(super) const E4M3: f64 = 5e-2;

/// All of them.
pub(super) fn all(examination: &mut Examination, depth: Depth) -> Result<()> {
    // Rows and columns of tokens: of 528×272, then 256², 1024², 2048×1024.
    let odd = [17, 33];
    let grids: &[[usize; 2]] = match depth {
        Depth::Short => &[odd],
        Depth::Full => &[odd, [16, 16], [64, 64], [64, 128]],
    };
    for &grid in grids {
        transformer::tokens(examination, grid[0] * grid[1])?;
    }
    transformer::in_f32(examination)?;
    transformer::modulation(examination)?;
    encoders::all(examination)?;
    // The decoder's memory is most of what 2048×1024 would take in f32.
    for &grid in grids.iter().take(3) {
        autoencoder::decoder(examination, grid)?;
    }
    autoencoder::in_f32(examination)
}

/// The tolerance of a dtype.
pub(super) fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { F32 } else { BF16 }
}

/// A layer of a weight and, behind it, a bias.
pub(super) fn layer(tensors: &[Tensor]) -> Linear {
    Linear { weight: tensors[0].clone(), bias: tensors.get(1).cloned(), row_scales: None }
}

/// One tensor, or none, as a comparison wants it.
pub(super) fn one(output: Option<Tensor>) -> candle_core::Result<Option<Vec<Tensor>>> {
    Ok(output.map(|output| vec![output]))
}
