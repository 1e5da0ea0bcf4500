//! 3×3 convolutions on channels-last images, in tiles of 2×2 outputs by Winograd's method.
//!
//! Blocks of tiles are transformed, multiplied and transformed back while they are in the cache. An
//! image whose pixels are to be doubled first is never doubled: the rows of a tile's patch are then
//! a, b, b, c, of which the transform makes a − b, 2b, 0, b − c, and likewise for columns. Where it is
//! 0, no product is needed, which leaves 9 of 16.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::{
    matrix::{Elements, Matrix},
    panels::{Side, lay_out},
    registers::{Columns, Onto, Registers},
    winograd::{
        POINTS, PointStride, restore_kernel, transform_kernel, transform_patch, transform_tile,
    },
};
use crate::operand::{Conv3x3, ConvForm, Kernel3x3, PackedWeight, packed_as};

/// Tiles of a block: what one product makes. Whole rows of registers, of 6 and of 12.
const BLOCK_TILES: usize = 48;
/// Tiles of a task, at least.
const TASK_TILES: usize = 2 * BLOCK_TILES;

/// A convolution's weight (out, 3, 3, in), transformed, in panels as wide as the registers' sums:
/// (16, out/width, in, width), filled up with zeros.
pub(super) struct WinogradKernel {
    elements: Vec<f32>,
    registers: Registers,
    channels: usize,
    outputs: usize,
}

impl WinogradKernel {
    /// Of a contiguous f32 weight (out, 3, 3, in) on the CPU.
    pub(super) fn of(weight: &Tensor) -> Result<Self> {
        let (outputs, _, _, channels) = weight.dims4()?;
        let registers = Registers::here();
        let width = registers.columns();
        let transformed = transform_kernel(Elements::of(weight).slice()?, outputs);
        let mut elements = vec![0.0; POINTS * channels * outputs.next_multiple_of(width)];
        let points = transformed.chunks_exact((channels * outputs).max(1));
        let of_point = (channels * outputs.next_multiple_of(width)).max(1);
        for (to, point) in elements.chunks_exact_mut(of_point).zip(points) {
            for (panel, to) in to.chunks_exact_mut(channels * width).enumerate() {
                for (to, row) in to.chunks_exact_mut(width).zip(point.chunks_exact(outputs)) {
                    let columns = panel * width..outputs.min((panel + 1) * width);
                    to[..columns.len()].copy_from_slice(&row[columns]);
                }
            }
        }
        Ok(Self { elements, registers, channels, outputs })
    }

    /// Of a point: (out/width, in, width).
    fn point(&self, point: usize) -> &[f32] {
        let elements = self.elements.len() / POINTS;
        &self.elements[point * elements..][..elements]
    }
}

impl PackedWeight for WinogradKernel {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn to_tensor(&self) -> Result<Tensor> {
        let Self { channels, outputs, registers, .. } = *self;
        let width = registers.columns();
        let mut transformed = vec![0.0; POINTS * channels * outputs];
        for (point, to) in transformed.chunks_exact_mut((channels * outputs).max(1)).enumerate() {
            for (panel, from) in self.point(point).chunks_exact(channels * width).enumerate() {
                for (row, from) in to.chunks_exact_mut(outputs).zip(from.chunks_exact(width)) {
                    let columns = panel * width..outputs.min((panel + 1) * width);
                    let count = columns.len();
                    row[columns].copy_from_slice(&from[..count]);
                }
            }
        }
        let kernel = restore_kernel(&transformed, [channels, outputs]);
        Tensor::from_vec(kernel, (outputs, 3, 3, channels), &Device::Cpu)
    }
}

pub(super) fn conv3x3(x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Tensor> {
    match form {
        ConvForm::Plain => convolve(x, conv, Pixels::Plain, None),
        ConvForm::Upsampled => convolve(x, conv, Pixels::Doubled, None),
        ConvForm::Add(residual) => {
            let residual = Elements::of(residual);
            convolve(x, conv, Pixels::Plain, Some(residual.slice()?))
        }
    }
}

/// How the image's pixels are seen.
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

fn convolve(
    x: &Tensor,
    conv: &Conv3x3,
    pixels: Pixels,
    residual: Option<&[f32]>,
) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let made;
    let kernel = match &conv.kernel {
        Kernel3x3::Packed(packed) => packed_as::<WinogradKernel>(&**packed),
        Kernel3x3::Plain(weight) => {
            made = WinogradKernel::of(weight)?;
            Some(&made)
        }
    };
    let Some(kernel) = kernel else { bail!("a kernel of another type than f32") };
    if kernel.channels != channels {
        bail!("{channels} channels and a convolution of {}", kernel.channels)
    }
    let outputs = kernel.outputs;
    let elements = [x, &conv.bias].map(Elements::of);
    let convolution = Convolution {
        image: elements[0].slice()?,
        size: [height, width, channels],
        pixels,
        kernel,
        bias: elements[1].slice()?,
        residual,
        zeros: &vec![0.0; channels],
    };
    let [height, width] = convolution.out_size();
    let rows = 2 * TASK_TILES.div_ceil(width.div_ceil(2));
    let mut out = vec![0.0; height * width * outputs];
    out.par_chunks_mut(rows * width * outputs)
        .enumerate()
        .try_for_each_init(Scratch::default, |scratch, (band, out)| {
            convolution.band(scratch, band * rows, out)
        })?;
    Tensor::from_vec(out, (height, width, outputs), x.device())
}

struct Convolution<'a> {
    /// (h, w, c)
    image: &'a [f32],
    size: [usize; 3],
    pixels: Pixels,
    kernel: &'a WinogradKernel,
    /// (o,)
    bias: &'a [f32],
    /// What the result is added to: (h, w, o).
    residual: Option<&'a [f32]>,
    /// A pixel outside the image: (c,).
    zeros: &'a [f32],
}

/// What a block of tiles needs; kept from block to block.
#[derive(Default)]
struct Scratch {
    /// (16, tiles, c)
    patches: Vec<f32>,
    /// One point's patches, as registers read them.
    left: Vec<f32>,
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
    fn band(&self, scratch: &mut Scratch, first_row: usize, out: &mut [f32]) -> Result<()> {
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
                let place = PointStride { start: i * channels, step: BLOCK_TILES * channels };
                transform_patch(self.patch(tile), &mut scratch.patches, place);
            }
            self.multiply(scratch, count)?;
            for i in 0..count {
                let place = PointStride { start: i * outputs, step: BLOCK_TILES * outputs };
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
    fn multiply(&self, scratch: &mut Scratch, tiles: usize) -> Result<()> {
        let (channels, outputs) = (self.size[2], self.bias.len());
        let registers = self.kernel.registers;
        let width = registers.columns();
        let patches = scratch.patches.chunks_exact(BLOCK_TILES * channels);
        let products = scratch.products.chunks_exact_mut(BLOCK_TILES * outputs);
        scratch.left.resize(BLOCK_TILES * channels, 0.0);
        for (point, (patches, products)) in patches.zip(products).enumerate() {
            if self.pixels.vanish_at(point) {
                continue;
            }
            let patches = Matrix::new(patches, [tiles, channels], [channels, 1])?;
            let left = &mut scratch.left[..tiles.next_multiple_of(registers.rows()) * channels];
            lay_out(patches, 0..tiles, 0..channels, (registers, Side::Rows), left);
            let products = &mut products[..tiles * outputs];
            let panels = self.kernel.point(point).chunks_exact(channels * width);
            for (panel, right) in panels.enumerate() {
                let columns = panel * width..(panel + 1) * width;
                let mut out = Columns::some(products, outputs, columns);
                registers.multiply(left, right, &mut out, Onto::Zero);
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
            (Some(y), Some(x)) => &self.image[(y * width + x) * channels..][..channels],
            _ => self.zeros,
        })
    }

    /// out[at..] ← pixels (+ residual); `out` begins at element `origin` of the image.
    fn place(&self, pixels: &[f32], origin: usize, out: &mut [f32], at: usize) {
        let out = &mut out[at..][..pixels.len()];
        match self.residual {
            Some(residual) => {
                let residual = &residual[origin + at..][..pixels.len()];
                for ((out, x), residual) in out.iter_mut().zip(pixels).zip(residual) {
                    *out = x + residual;
                }
            }
            None => out.copy_from_slice(pixels),
        }
    }
}
