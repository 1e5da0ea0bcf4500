//! 3×3 convolutions on channels-last pictures, in tiles of 2×2 outputs by Winograd's method.
//!
//! Blocks of tiles are transformed, multiplied and transformed back while they are in the cache. A
//! picture whose pixels are to be doubled first is never doubled: the rows of a tile's patch are then
//! a, b, b, c, of which the transform makes a − b, 2b, 0, b − c, and likewise for columns. Where it is
//! 0, no product is needed, which leaves 9 of 16.

use candle_core::{Error, Result, Tensor};
use kernels::cpu::{Matrix, MatrixMut, Product};
use rayon::prelude::*;

use super::{
    matrix::Elements,
    winograd::{POINTS, Place, transform_kernel, transform_patch, transform_tile},
};
use crate::layers::Conv3x3;

/// Tiles of a block: what one product makes. As many rows as the product reads without packing.
const BLOCK_TILES: usize = 48;
/// Tiles of a task, at least.
const TASK_TILES: usize = 2 * BLOCK_TILES;

pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    convolve(x, conv, Pixels::Plain, None)
}

pub(crate) fn conv3x3_onto(x: &Tensor, conv: &Conv3x3, onto: &Tensor) -> Result<Tensor> {
    let onto = Elements::of(onto);
    convolve(x, conv, Pixels::Plain, Some(onto.slice()?))
}

pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    convolve(x, conv, Pixels::Doubled, None)
}

/// How the picture's pixels are seen.
#[derive(Clone, Copy)]
enum Pixels {
    Plain,
    /// Each one doubled both ways.
    Doubled,
}

impl Pixels {
    /// The first place, 0 to 3, of the patch of tile `tile` along one axis; −1 is outside.
    fn source(self, tile: usize, place: usize) -> Option<usize> {
        match self {
            Self::Plain => (2 * tile + place).checked_sub(1),
            Self::Doubled => (tile + place.div_ceil(2)).checked_sub(1),
        }
    }

    /// Whether the transform of any patch is zero at `point`.
    fn vanish_at(self, point: usize) -> bool {
        matches!(self, Self::Doubled) && (point / 4 == 2 || point % 4 == 2)
    }
}

fn convolve(x: &Tensor, conv: &Conv3x3, pixels: Pixels, onto: Option<&[f32]>) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let outputs = conv.weight.dim(0)?;
    let elements = [x, &conv.weight, &conv.bias].map(Elements::of);
    let kernel = transform_kernel(elements[1].slice()?, outputs);
    let convolution = Convolution {
        picture: elements[0].slice()?,
        size: [height, width, channels],
        pixels,
        kernel: &kernel,
        bias: elements[2].slice()?,
        onto,
        zeros: &vec![0.0; channels],
    };
    let [height, width] = convolution.out_size();
    let rows = 2 * TASK_TILES.div_ceil(width.div_ceil(2));
    let mut out = vec![0.0; height * width * outputs];
    out.par_chunks_mut(rows * width * outputs)
        .enumerate()
        .try_for_each_init(Scratch::default, |scratch, (band, out)| {
            convolution.band(scratch, band * rows, out)
        })
        .map_err(Error::wrap)?;
    Tensor::from_vec(out, (height, width, outputs), x.device())
}

struct Convolution<'a> {
    /// (h, w, c)
    picture: &'a [f32],
    size: [usize; 3],
    pixels: Pixels,
    /// (16, c, o)
    kernel: &'a [f32],
    /// (o,)
    bias: &'a [f32],
    /// What the result is added to: (h, w, o).
    onto: Option<&'a [f32]>,
    /// A pixel outside the picture: (c,).
    zeros: &'a [f32],
}

/// What a block of tiles needs; kept from block to block.
#[derive(Default)]
struct Scratch {
    /// (16, tiles, c)
    patches: Vec<f32>,
    /// (16, tiles, o); zero where the patches vanish.
    products: Vec<f32>,
    /// (2, 2, o)
    tile: Vec<f32>,
}

impl Convolution<'_> {
    fn out_size(&self) -> [usize; 2] {
        let [height, width, _] = self.size;
        match self.pixels {
            Pixels::Plain => [height, width],
            Pixels::Doubled => [2 * height, 2 * width],
        }
    }

    /// Whole rows of the output, from an even one on: (rows, w, o).
    fn band(
        &self,
        scratch: &mut Scratch,
        first_row: usize,
        out: &mut [f32],
    ) -> kernels::cpu::Result<()> {
        let ([_, width], [_, _, channels], outputs) = (self.out_size(), self.size, self.bias.len());
        let rows = out.len() / (width * outputs);
        let columns = width.div_ceil(2);
        let tiles = rows.div_ceil(2) * columns;
        scratch.patches.resize(POINTS * BLOCK_TILES * channels, 0.0);
        scratch.products.resize(POINTS * BLOCK_TILES * outputs, 0.0);
        scratch.tile.resize(4 * outputs, 0.0);
        for first in (0..tiles).step_by(BLOCK_TILES) {
            let count = BLOCK_TILES.min(tiles - first);
            for i in 0..count {
                let tile = [first_row / 2 + (first + i) / columns, (first + i) % columns];
                let place = Place { start: i * channels, step: BLOCK_TILES * channels };
                transform_patch(self.patch(tile), &mut scratch.patches, place);
            }
            self.multiply(scratch, count)?;
            for i in 0..count {
                let place = Place { start: i * outputs, step: BLOCK_TILES * outputs };
                transform_tile(&scratch.products, place, self.bias, &mut scratch.tile);
                let (y, x) = (2 * ((first + i) / columns), 2 * ((first + i) % columns));
                for (dy, pixels) in scratch.tile.chunks_exact(2 * outputs).enumerate() {
                    // The last row and column of an odd size have but half a tile.
                    if y + dy < rows {
                        let at = ((y + dy) * width + x) * outputs;
                        let length = pixels.len().min((width - x) * outputs);
                        self.place(&pixels[..length], first_row * width * outputs, out, at);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sixteen products (tiles, c) · (c, o), less those that vanish.
    fn multiply(&self, scratch: &mut Scratch, tiles: usize) -> kernels::cpu::Result<()> {
        let (channels, outputs) = (self.size[2], self.bias.len());
        let patches = scratch.patches.chunks_exact(BLOCK_TILES * channels);
        let products = scratch.products.chunks_exact_mut(BLOCK_TILES * outputs);
        let kernels = self.kernel.chunks_exact(channels * outputs);
        for (point, ((patches, kernel), products)) in patches.zip(kernels).zip(products).enumerate()
        {
            if !self.pixels.vanish_at(point) {
                let a = Matrix::new(patches, [tiles, channels], [channels, 1])?;
                let b = Matrix::new(kernel, [channels, outputs], [outputs, 1])?;
                Product { a, b }.write(MatrixMut::new(products, [tiles, outputs], outputs)?)?;
            }
        }
        Ok(())
    }

    /// The 4×4 pixels that a tile (row, column) is made from, row by row.
    fn patch(&self, [row, column]: [usize; 2]) -> [&[f32]; POINTS] {
        let [height, width, channels] = self.size;
        let inside = |place: Option<usize>, end: usize| place.filter(|&place| place < end);
        let rows: [_; 4] = std::array::from_fn(|i| inside(self.pixels.source(row, i), height));
        let columns: [_; 4] = std::array::from_fn(|i| inside(self.pixels.source(column, i), width));
        std::array::from_fn(|i| match (rows[i / 4], columns[i % 4]) {
            (Some(y), Some(x)) => &self.picture[(y * width + x) * channels..][..channels],
            _ => self.zeros,
        })
    }

    /// out[at..] ← pixels (+ onto); `out` begins at element `origin` of the picture.
    fn place(&self, pixels: &[f32], origin: usize, out: &mut [f32], at: usize) {
        let out = &mut out[at..][..pixels.len()];
        match self.onto {
            Some(onto) => {
                let onto = &onto[origin + at..][..pixels.len()];
                for ((out, x), onto) in out.iter_mut().zip(pixels).zip(onto) {
                    *out = x + onto;
                }
            }
            None => out.copy_from_slice(pixels),
        }
    }
}
