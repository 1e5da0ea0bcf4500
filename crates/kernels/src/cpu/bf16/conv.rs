//! 3×3 convolutions on channels-last images: products whose rows are where the image already has them.
//!
//! A band of the image's rows is copied with a border of zeros, its pixels in whole lines. The three pixels
//! that a row of the kernel sees then lie beside each other, and those of the next pixel begin a pixel
//! later: with a stride of one pixel, tiles read overlapping rows, and nothing is unfolded. The kernel's
//! three rows are three parts of K. Between two rows of the image two results belong to no pixel; they are
//! computed and not written. Where pixels are to be doubled first, four 2×2 kernels begin at four places.

use candle_core::{Result, Tensor, bail};
use half::bf16;

use super::{
    super::{
        convert::{narrow_side, widen_side, zeros},
        grid::{Grid, Rectangle},
        matrix::Elements,
        simd::vectorised,
    },
    level::on_machine,
    line::Line,
    packed::{Right, VnniPanels},
    phases::phases,
    product::{Rows, multiply},
    tiles::{Block, Machine, SIDE, Strides, TILE, Tiles},
};
use crate::operand::{Conv3x3, ConvForm, Kernel3x3, PackedWeight, packed_as};

/// Pixels of a band, about: a few hundred KB to 1.5 MB.
const BAND_PIXELS: usize = 4096;
/// Blocks of 32 pixels, and panels of 32 channels, whose sums are there at once.
const BLOCKS: usize = 10;
const PANELS: usize = 8;

pub(super) fn conv3x3(x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let made;
    let kernel = match &conv.kernel {
        Kernel3x3::Packed(packed) => packed_as::<VnniPanels>(&**packed),
        Kernel3x3::Plain(weight) => {
            made = VnniPanels::of_kernel(weight)?;
            Some(&made)
        }
    };
    let Some(kernel) = kernel else { bail!("a kernel of another type than bf16") };
    if kernel.channels() != channels {
        bail!("{channels} channels and a convolution of {}", kernel.channels())
    }
    let phases = match form {
        ConvForm::Upsampled => Vec::from(phases(kernel)),
        ConvForm::Plain | ConvForm::Add(_) => Vec::new(),
    };
    let (kernels, scale) = match &phases[..] {
        [] => (vec![(kernel.right(), [0, 0])], 1),
        four => (four.iter().map(|phase| (phase.right(), phase.place)).collect(), 2),
    };
    let (row, outputs) = (scale * width * kernel.outputs(), kernel.outputs());
    let mut out = zeros(scale * height * row);
    let residual = match form {
        ConvForm::Add(residual) => Some(Elements::of(residual)),
        ConvForm::Plain | ConvForm::Upsampled => None,
    };
    let elements = [x, &conv.bias].map(Elements::of);
    let convolution = Convolution {
        image: elements[0].exactly(height * width * channels)?,
        size: [height, width, channels],
        kernels,
        scale,
        bias: elements[1].exactly(outputs)?,
        residual: residual.as_ref().map(|all| all.exactly(out.len())).transpose()?,
    };
    let rows = scale * convolution.band_rows(rayon::current_num_threads());
    let bands = Grid::new(&mut out, row, 0..row);
    on_machine!(machine => {
        let scratch = || (machine.tiles(), Scratch::default());
        bands.each([rows, row], scratch, |(tiles, scratch), out| {
            convolution.band(tiles, scratch, out);
        });
    });
    Tensor::from_vec(out, (scale * height, scale * width, outputs), x.device())
}

struct Convolution<'a> {
    /// (h, w, c)
    image: &'a [bf16],
    size: [usize; 3],
    /// Each, and the place of its results in squares of `scale`².
    kernels: Vec<(Right<'a>, [usize; 2])>,
    scale: usize,
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
    /// Rows of the image that make a band: enough bands for all threads, and no more copying than that needs.
    fn band_rows(&self, threads: usize) -> usize {
        let [height, width, _] = self.size;
        (BAND_PIXELS / (width + 2)).min(height / (2 * threads)).max(2).min(height.max(1))
    }

    /// Whole rows of the output.
    fn band<T: Tiles>(&self, tiles: &T, scratch: &mut Scratch, mut out: Rectangle<'_, bf16>) {
        let ([_, width, channels], outputs) = (self.size, self.bias.len());
        let (first, rows) = (out.rows().start / self.scale, out.rows().len() / self.scale);
        let lines = channels.div_ceil(SIDE);
        let blocks = (rows * (width + 2)).div_ceil(SIDE);
        let read = blocks * SIDE + 2 * (width + 2) + 2;
        if scratch.pixels.len() < read * lines {
            scratch.pixels.resize(read * lines, Line::ZERO);
        }
        self.copy(&mut scratch.pixels, first, rows);
        for &(right, place) in &self.kernels {
            let a = Rows {
                lines: &scratch.pixels[(place[0] * (width + 2) + place[1]) * lines..],
                strides: Strides { row: lines, tile: TILE * lines, step: 1 },
                block: SIDE * lines,
                part: (width + 2) * lines,
            };
            let to =
                Destination { width, outputs, scale: self.scale, place, residual: self.residual };
            for from in (0..right.panels()).step_by(PANELS) {
                let panels = from..right.panels().min(from + PANELS);
                for from in (0..blocks).step_by(BLOCKS) {
                    let (some, b) = (from..blocks.min(from + BLOCKS), (right, panels.clone()));
                    multiply(tiles, (a, some), b, &mut scratch.sums, |[block, panel], sums| {
                        let bias = &self.bias[panel * SIDE..outputs.min((panel + 1) * SIDE)];
                        let (rows, columns) = (out.rows(), out.columns());
                        let whole = out.part(rows, columns);
                        write(sums, bias, to, [block * SIDE, panel * SIDE], whole);
                    });
                }
            }
        }
    }

    /// Rows `first` − 1 to `first` + `rows` of the image, with zeros around.
    fn copy(&self, pixels: &mut [Line], first: usize, rows: usize) {
        let [height, width, channels] = self.size;
        let lines = channels.div_ceil(SIDE);
        let to = pixels.chunks_exact_mut(((width + 2) * lines).max(1)).take(rows + 2);
        for (i, to) in to.enumerate() {
            let Some(y) = (first + i).checked_sub(1).filter(|&y| y < height) else {
                to.fill(Line::ZERO);
                continue;
            };
            to[..lines].fill(Line::ZERO);
            to[(width + 1) * lines..].fill(Line::ZERO);
            let row = self.image[y * width * channels..][..width * channels].chunks_exact(channels);
            for (to, pixel) in to[lines..].chunks_exact_mut(lines).zip(row) {
                for (line, values) in to.iter_mut().zip(pixel.chunks(SIDE)) {
                    line.fill(values);
                }
            }
        }
    }
}

/// Where a block's sums go.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    /// Of the image.
    width: usize,
    outputs: usize,
    /// Results of a pixel, each way, and which of them these are.
    scale: usize,
    place: [usize; 2],
    residual: Option<&'a [bf16]>,
}

vectorised! {
    /// out ← sums + bias (+ residual), from a position in the band and a channel on; `out` is the band.
    fn write<'a>(
        sums: &'a Block,
        bias: &'a [bf16],
        to: Destination<'a>,
        from: [usize; 2],
        out: Rectangle<'a, bf16>,
    ) {
        let mut out = out;
        let Destination { width, outputs, scale, place, residual } = to;
        let (first, rows) = (out.rows().start, out.rows().len() / scale);
        let [position, channel] = from;
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
                let (to, at) = (y * scale + place[0], (x * scale + place[1]) * outputs + channel);
                if let Some(residual) = residual {
                    let row_start = (first + to) * scale * width * outputs;
                    let onto = widen_side::<SIDE>(&residual[row_start + at..][..count]);
                    for j in 0..SIDE {
                        row[j] += onto[j];
                    }
                }
                narrow_side(&row, &mut out.row(to)[at..][..count]);
            }
            x += 1;
            if x == width + 2 {
                (y, x) = (y + 1, 0);
            }
        }
    }
}
