//! 3×3 convolutions on channels-last pictures, as matrix products.
//!
//! With one pixel of zeros around the picture, the three pixels under a row of the kernel are 3·c
//! adjacent numbers, and those of the next output begin c further on: a matrix whose rows overlap,
//! which needs no copy. The three rows of the kernel are three products, added up.

use candle_core::{CpuStorage, Result, Tensor};
use rayon::prelude::*;

use super::{
    matrix::{Elements, Matrix},
    simd::vectorised,
};
use crate::layers::Conv3x3;

/// Pixels of a tile, about: what one product makes.
const TILE_PIXELS: usize = 1024;

pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    convolve(x, conv, None)
}

pub(crate) fn conv3x3_onto(x: &Tensor, conv: &Conv3x3, onto: &Tensor) -> Result<Tensor> {
    let onto = Elements::of(onto);
    convolve(x, conv, Some(onto.slice()?))
}

pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    // (h, w, c) → (h, 2, w, 2, c) → (2h, 2w, c)
    let doubled = x
        .reshape((height, 1, width, 1, channels))?
        .broadcast_as((height, 2, width, 2, channels))?
        .reshape((2 * height, 2 * width, channels))?;
    convolve(&doubled, conv, None)
}

fn convolve(x: &Tensor, conv: &Conv3x3, onto: Option<&[f32]>) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let outputs = conv.weight.dim(0)?;
    let elements = [x, &conv.weight, &conv.bias].map(Elements::of);
    let [x_elements, kernel, bias] = elements.each_ref();
    let bias = bias.slice()?;
    let padded = CpuStorage::F32(pad(x_elements.slice()?, [height, width, channels]));
    // Row dy of the kernel as (3·c, o): element (j, o) at o·9c + dy·3c + j.
    let kernel_row =
        |dy: usize| kernel.part(dy * 3 * channels, [3 * channels, outputs], [1, 9 * channels]);
    let kernel_rows = [kernel_row(0)?, kernel_row(1)?, kernel_row(2)?];

    // A tile is some whole rows of the padded picture; between two rows, its products hold two
    // pixels that belong to no output.
    let stride = width + 2;
    let tile_rows = (TILE_PIXELS / stride).clamp(1, height);
    let mut out = vec![0.0; height * width * outputs];
    out.par_chunks_mut(tile_rows * width * outputs).enumerate().try_for_each(|(tile, out)| {
        let first = tile * tile_rows;
        let rows = out.len() / (width * outputs);
        let pixels = rows * stride - 2;
        let product = |dy: usize| {
            let start = (first + dy) * stride * channels;
            Matrix::new(&padded, start, [pixels, 3 * channels], [channels, 1])?
                .times(&kernel_rows[dy])
        };
        let products = [product(0)?, product(1)?, product(2)?];
        let onto = onto.map(|onto| &onto[first * width * outputs..]);
        gather(out, products.each_ref().map(Vec::as_slice), [width, outputs], (bias, onto));
        Ok::<(), candle_core::Error>(())
    })?;
    Tensor::from_vec(out, (height, width, outputs), x.device())
}

vectorised! {
    /// out ← Σ products + bias (+ onto), leaving out what lies between the picture's rows.
    fn gather<'a>(
        out: &'a mut [f32],
        products: [&'a [f32]; 3],
        row: [usize; 2],
        added: (&'a [f32], Option<&'a [f32]>),
    ) {
        let ([width, outputs], (bias, onto)) = (row, added);
        for (y, out) in out.chunks_exact_mut(width * outputs).enumerate() {
            let from = y * (width + 2) * outputs;
            let a = &products[0][from..from + width * outputs];
            let b = &products[1][from..from + width * outputs];
            let c = &products[2][from..from + width * outputs];
            for (((o, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *o = a + b + c;
            }
            for pixel in out.chunks_exact_mut(outputs) {
                for (o, b) in pixel.iter_mut().zip(bias) {
                    *o += b;
                }
            }
            if let Some(onto) = onto {
                for (o, x) in out.iter_mut().zip(&onto[y * width * outputs..]) {
                    *o += x;
                }
            }
        }
    }
}

/// (h, w, c) → (h + 2, w + 2, c) with zeros around.
fn pad(x: &[f32], [height, width, channels]: [usize; 3]) -> Vec<f32> {
    let (row, padded_row) = (width * channels, (width + 2) * channels);
    let mut padded = vec![0.0; (height + 2) * padded_row];
    padded[padded_row..][..height * padded_row]
        .par_chunks_mut(padded_row)
        .zip(x.par_chunks(row))
        .for_each(|(to, from)| to[channels..][..row].copy_from_slice(from));
    padded
}
