//! 3×3 convolutions on channels-last images: products whose rows are where the image already has them.
//!
//! A band of the image's rows is copied with a border of zeros, its pixels in whole lines. The three pixels
//! that a row of the kernel sees then lie beside each other, and those of the next pixel begin a pixel
//! later: with a stride of one pixel, tiles read overlapping rows, and nothing is unfolded. The kernel's
//! three rows are three parts of K. Between two rows of the image two results belong to no pixel; they are
//! computed and not written. Where pixels are to be doubled first, the band is copied so.

use std::borrow::Cow;

use candle_core::{Result, Tensor, bail};
use half::bf16;

use super::{
    super::{
        convert::{narrow_side, widen_side, zeros},
        matrix::Elements,
        simd::vectorised,
    },
    grid::{Grid, Rectangle},
    level::on_machine,
    line::Line,
    packed::VnniPanels,
    product::{Rows, multiply},
    tiles::{Block, Machine, SIDE, Strides, TILE, Tiles},
};
use crate::operand::{Conv3x3, ConvForm, Kernel3x3};

/// Pixels of a band, about: a few hundred KB to 1.5 MB.
const BAND_PIXELS: usize = 4096;
/// Blocks of 32 pixels, and panels of 32 channels, whose sums are there at once.
const BLOCKS: usize = 10;
const PANELS: usize = 8;

pub(super) fn conv3x3(x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let kernel = match &conv.kernel {
        Kernel3x3::Vnni(kernel) => Cow::Borrowed(kernel),
        Kernel3x3::Plain(weight) => Cow::Owned(VnniPanels::of_kernel(weight)?),
        Kernel3x3::Winograd(_) => bail!("a kernel of another type than bf16"),
    };
    if kernel.channels() != channels {
        bail!("{channels} channels and a convolution of {}", kernel.channels())
    }
    let scale = if let ConvForm::Upsampled = form { 2 } else { 1 };
    let (size, outputs) = ([scale * height, scale * width], kernel.outputs());
    let mut out = zeros(size[0] * size[1] * outputs);
    let residual = match form {
        ConvForm::Add(residual) => Some(Elements::of(residual)),
        ConvForm::Plain | ConvForm::Upsampled => None,
    };
    let elements = [x, &conv.bias].map(Elements::of);
    let convolution = Convolution {
        image: Image { elements: elements[0].slice_of()?, width, channels, scale },
        size,
        kernel: &kernel,
        bias: elements[1].exactly(outputs)?,
        residual: residual.as_ref().map(|all| all.exactly(out.len())).transpose()?,
    };
    let (rows, row) = (convolution.band_rows(rayon::current_num_threads()), size[1] * outputs);
    let bands = Grid::new(&mut out, row, 0..row);
    on_machine!(machine => {
        let scratch = || (machine.tiles(), Scratch::default());
        bands.each([rows, row], scratch, |(tiles, scratch), out| {
            convolution.band(tiles, scratch, out);
        });
    });
    Tensor::from_vec(out, (size[0], size[1], outputs), x.device())
}

/// Pixels to read: (h, w, c), each seen `scale` times both ways.
#[derive(Clone, Copy)]
struct Image<'a> {
    elements: &'a [bf16],
    width: usize,
    channels: usize,
    scale: usize,
}

impl<'a> Image<'a> {
    fn pixel(&self, y: usize, x: usize) -> &'a [bf16] {
        let at = y / self.scale * self.width + x / self.scale;
        &self.elements[at * self.channels..][..self.channels]
    }
}

struct Convolution<'a> {
    image: Image<'a>,
    /// Rows and columns of what is made.
    size: [usize; 2],
    kernel: &'a VnniPanels,
    /// (o,)
    bias: &'a [bf16],
    /// What the result is added to: (h, w, o).
    residual: Option<&'a [bf16]>,
}

/// What a band needs; kept from one to the next.
#[derive(Default)]
struct Scratch {
    /// (rows + 2, w + 2, c/32), and what the last block reads behind it.
    pixels: Vec<Line>,
    sums: Vec<Block>,
}

impl Convolution<'_> {
    /// Rows of a band: enough bands for all threads, and no more copying than that needs.
    fn band_rows(&self, threads: usize) -> usize {
        let [height, width] = self.size;
        (BAND_PIXELS / (width + 2)).min(height / (2 * threads)).max(2).min(height.max(1))
    }

    /// Whole rows of the output: (rows, w, o).
    fn band<T: Tiles>(&self, tiles: &T, scratch: &mut Scratch, mut out: Rectangle<'_, bf16>) {
        let ([_, width], outputs) = (self.size, self.bias.len());
        let (first, rows) = (out.rows().start, out.rows().len());
        let lines = self.image.channels.div_ceil(SIDE);
        let blocks = (rows * (width + 2)).div_ceil(SIDE);
        let read = blocks * SIDE + 2 * (width + 2) + 2;
        if scratch.pixels.len() < read * lines {
            scratch.pixels.resize(read * lines, Line::ZERO);
        }
        self.copy(&mut scratch.pixels, first, rows);
        let a = Rows {
            lines: &scratch.pixels,
            strides: Strides { row: lines, tile: TILE * lines, step: 1 },
            block: SIDE * lines,
            part: (width + 2) * lines,
        };
        let right = self.kernel.right();
        let place = Place { width, outputs, residual: self.residual };
        for from in (0..right.panels()).step_by(PANELS) {
            let panels = from..right.panels().min(from + PANELS);
            for from in (0..blocks).step_by(BLOCKS) {
                let some = from..blocks.min(from + BLOCKS);
                let b = (right, panels.clone());
                multiply(tiles, (a, some), b, &mut scratch.sums, |[block, panel], sums| {
                    let bias = &self.bias[panel * SIDE..outputs.min((panel + 1) * SIDE)];
                    let whole = out.part(first..first + rows, 0..width * outputs);
                    write(sums, bias, place, [block * SIDE, panel * SIDE], whole);
                });
            }
        }
    }

    /// Rows `first` − 1 to `first` + `rows` of the image, with zeros around.
    fn copy(&self, pixels: &mut [Line], first: usize, rows: usize) {
        let [height, width] = self.size;
        let lines = self.image.channels.div_ceil(SIDE);
        let to = pixels.chunks_exact_mut(((width + 2) * lines).max(1)).take(rows + 2);
        for (i, to) in to.enumerate() {
            let Some(y) = (first + i).checked_sub(1).filter(|&y| y < height) else {
                to.fill(Line::ZERO);
                continue;
            };
            to[..lines].fill(Line::ZERO);
            to[(width + 1) * lines..].fill(Line::ZERO);
            for (x, to) in to[lines..].chunks_exact_mut(lines).take(width).enumerate() {
                for (line, values) in to.iter_mut().zip(self.image.pixel(y, x).chunks(SIDE)) {
                    line.fill(values);
                }
            }
        }
    }
}

/// Where a block's sums go.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    width: usize,
    outputs: usize,
    residual: Option<&'a [bf16]>,
}

vectorised! {
    /// out ← sums + bias (+ residual), from a place of the band and a channel on; `out` is the band.
    fn write<'a>(
        sums: &'a Block,
        bias: &'a [bf16],
        place: Place<'a>,
        at: [usize; 2],
        out: Rectangle<'a, bf16>,
    ) {
        let mut out = out;
        let Place { width, outputs, residual } = place;
        let (first, rows) = (out.rows().start, out.rows().len());
        let [position, channel] = at;
        let count = bias.len();
        let bias = widen_side::<SIDE>(bias);
        let (mut y, mut x) = (position / (width + 2), position % (width + 2));
        for i in 0..SIDE {
            if y >= rows {
                break;
            }
            if x < width {
                let mut row = sums.0[i];
                for j in 0..SIDE {
                    row[j] += bias[j];
                }
                let at = x * outputs + channel;
                if let Some(residual) = residual {
                    let row_start = (first + y) * width * outputs;
                    let onto = widen_side::<SIDE>(&residual[row_start + at..][..count]);
                    for j in 0..SIDE {
                        row[j] += onto[j];
                    }
                }
                narrow_side(&row, &mut out.row(y)[at..][..count]);
            }
            x += 1;
            if x == width + 2 {
                (y, x) = (y + 1, 0);
            }
        }
    }
}
