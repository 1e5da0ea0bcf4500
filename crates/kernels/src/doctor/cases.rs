//! What the kernels are compared on: a model's own shapes, and others that are no multiples of
//! anything.

mod autoencoder;
mod encoders;
mod int8;
#[cfg(feature = "cuda")]
mod quantised;
mod transformer;

use candle_core::{DType, Result, Tensor};

use super::{Depth, Examination, Outputs};
use crate::{Linear, Precision};

/// Tolerances of ‖kernel − reference‖ / ‖reference‖.
const F32: f64 = 1e-5;
const BF16: f64 = 1e-2;

/// The widths of a model.
#[derive(Debug, Clone, Copy)]
struct Widths {
    dtype: DType,
    text_tokens: usize,
    /// The transformer's heads, and values of each.
    heads: [usize; 2],
    /// T5's width, hidden width and heads.
    t5: [usize; 3],
    /// CLIP's width, hidden width and heads.
    clip: [usize; 3],
    /// The decoder's channels: deepest, in the middle, last.
    channels: [usize; 3],
    groups: usize,
}

/// FLUX.1's.
const FLUX: Widths = Widths {
    dtype: DType::BF16,
    text_tokens: 256,
    heads: [24, 128],
    t5: [4096, 10240, 64],
    clip: [768, 3072, 12],
    channels: [512, 256, 128],
    groups: 32,
};

/// About the demo model's, in f32.
const SMALL: Widths = Widths {
    dtype: DType::F32,
    text_tokens: 77,
    heads: [4, 64],
    t5: [64, 160, 4],
    clip: [64, 256, 4],
    channels: [64, 32, 16],
    groups: 8,
};

/// The same in bf16, with heads as wide as FLUX.1's.
const SMALL_BF16: Widths = Widths { dtype: DType::BF16, heads: [2, 128], ..SMALL };

/// All of them. Grids are rows and columns of tokens: of 16×16 pixels each.
pub(super) fn all(
    examination: &mut Examination<'_>,
    depth: Depth,
    precisions: &[Precision],
) -> Result<()> {
    if examination.device.is_cpu() {
        let grids: &[[usize; 2]] = match depth {
            Depth::Short => &[[5, 7]],
            Depth::Full => &[[5, 7], [16, 16], [17, 33]],
        };
        if precisions.iter().any(|precision| precision.dtype() == DType::F32) {
            model(examination, &SMALL, grids)?;
        }
        if precisions.iter().any(|precision| precision.dtype() == DType::BF16) {
            model(examination, &SMALL_BF16, grids)?;
        }
        if precisions.contains(&Precision::Int8) {
            for grid in grids {
                int8::layers(examination, &SMALL, SMALL.text_tokens + grid[0] * grid[1])?;
            }
        }
        return Ok(());
    }
    // Of 528×272 pixels, then 256², 1024², 2048×1024.
    let grids: &[[usize; 2]] = match depth {
        Depth::Short => &[[17, 33]],
        Depth::Full => &[[17, 33], [16, 16], [64, 64], [64, 128]],
    };
    if precisions.iter().any(|precision| precision.dtype() == DType::BF16) {
        model(examination, &FLUX, grids)?;
    }
    #[cfg(feature = "cuda")]
    if precisions.contains(&Precision::Fp8) {
        for grid in grids {
            quantised::layers(examination, &FLUX, FLUX.text_tokens + grid[0] * grid[1])?;
        }
    }
    if precisions.contains(&Precision::F32) {
        transformer::tokens(examination, &SMALL, 35)?;
        encoders::all(examination, &SMALL)?;
        autoencoder::without_convolutions(examination, &SMALL, [5, 7])?;
    }
    Ok(())
}

fn model(examination: &mut Examination<'_>, widths: &Widths, grids: &[[usize; 2]]) -> Result<()> {
    for grid in grids {
        transformer::tokens(examination, widths, grid[0] * grid[1])?;
    }
    transformer::together(examination, widths, grids[0][0] * grids[0][1])?;
    transformer::modulation(examination, widths)?;
    encoders::all(examination, widths)?;
    // The reference's memory, in f32, is most of what a decoder of 2048×1024 would take.
    for &grid in grids.iter().take(3) {
        autoencoder::decoder(examination, widths, grid)?;
    }
    Ok(())
}

/// The tolerance of a dtype.
fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { F32 } else { BF16 }
}

/// A layer of a weight and, behind it, a bias.
fn layer(tensors: &[Tensor]) -> Linear {
    Linear::new(tensors[0].clone(), tensors.get(1).cloned())
}

/// One tensor, or none, as a comparison wants it.
fn one(output: Result<Option<Tensor>>) -> Result<Option<Outputs>> {
    Ok(output?.map(|output| vec![output]))
}
