//! The decoder's kernels.

use candle_core::{DType, Result, Tensor};

use super::{F32, Widths, one, tolerance};
use crate::{
    Activation, Conv3x3, ConvForm, GroupNorm, Heads, Scores, Unpacking,
    doctor::{Case, Examination},
};

/// Channels of a latent pixel.
const LATENT: usize = 16;

/// Everything that depends on the size of an image, given by its rows and columns of tokens.
pub(super) fn decoder(
    examination: &mut Examination<'_>,
    widths: &Widths,
    grid: [usize; 2],
) -> Result<()> {
    without_convolutions(examination, widths, grid)?;
    let [height, width] = grid.map(|side| 2 * side);
    let [deepest, middle, last] = widths.channels;
    for (scale, inputs, outputs, kind) in [
        (1, LATENT, deepest, Kind::Plain),
        (1, deepest, deepest, Kind::Add),
        (1, deepest, deepest, Kind::Upsampled),
        (2, deepest, deepest, Kind::Plain),
        (4, deepest, middle, Kind::Plain),
        (4, middle, middle, Kind::Upsampled),
        (8, middle, last, Kind::Plain),
        (8, last, last, Kind::Add),
        (8, last, 3, Kind::Plain),
    ] {
        let size = [scale * height, scale * width];
        convolution(examination, widths.dtype, Convolution { size, inputs, outputs, kind })?;
    }
    Ok(())
}

/// The same but for its convolutions, for which GPUs have no kernel in f32.
pub(super) fn without_convolutions(
    examination: &mut Examination<'_>,
    widths: &Widths,
    [rows, columns]: [usize; 2],
) -> Result<()> {
    let &Widths { dtype, channels: [deepest, middle, last], groups, .. } = widths;
    let (height, width) = (2 * rows, 2 * columns);
    // A CPU's latents and images are plain copies, which have no kernel.
    if !examination.device.is_cpu() {
        unpacked(examination, [rows, columns], dtype)?;
        bytes(examination, dtype, [8 * height, 8 * width, 3])?;
    }
    one_head(examination, dtype, [height * width, deepest])?;
    for (scale, channels) in [(1, deepest), (4, middle), (8, last)] {
        let shape = [scale * height, scale * width, channels];
        group_norm(examination, dtype, shape, groups)?;
    }
    Ok(())
}

/// One head over all latent pixels, as the decoder's middle has it.
fn one_head(
    examination: &mut Examination<'_>,
    dtype: DType,
    [pixels, channels]: [usize; 2],
) -> Result<()> {
    let inputs = [examination.random(dtype, &[pixels, 3 * channels])?];
    let case = Case {
        kernel: "attention",
        name: format!("{dtype:?} {pixels} × 1 × {channels}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(case, |on, x| {
        let part = |i| x[0].narrow(1, i * channels, channels)?.unsqueeze(1);
        let heads = Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 };
        one(on.attention(&heads, Scores::scaled(channels)))
    });
    Ok(())
}

fn group_norm(
    examination: &mut Examination<'_>,
    dtype: DType,
    shape: [usize; 3],
    groups: usize,
) -> Result<()> {
    let channels = shape[2];
    let inputs = [
        (examination.random(dtype, &shape)? + 2.0)?,
        examination.random(dtype, &[channels])?,
        examination.random(dtype, &[channels])?,
    ];
    let norm = |x: &[Tensor]| GroupNorm { weight: x[1].clone(), bias: x[2].clone(), groups };
    let case = |kernel| Case {
        kernel,
        name: format!("{dtype:?} {shape:?} in {groups}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    for (kernel, then) in [("group norm + silu", Some(Activation::Silu)), ("group norm", None)] {
        examination.compare(case(kernel), |on, x| one(on.group_norm(&x[0], &norm(x), then)));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Convolution {
    size: [usize; 2],
    inputs: usize,
    outputs: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    Add,
    Upsampled,
}

fn convolution(examination: &mut Examination<'_>, dtype: DType, how: Convolution) -> Result<()> {
    let Convolution { size: [height, width], inputs, outputs, kind } = how;
    let tensors = [
        examination.random(dtype, &[height, width, inputs])?,
        examination.weight(dtype, &[outputs, 3, 3, inputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[height, width, outputs])?,
    ];
    let case = Case {
        kernel: "convolution",
        name: format!("{dtype:?} {kind:?} {height}×{width}, {inputs} → {outputs}"),
        tolerance: tolerance(dtype),
        inputs: &tensors,
    };
    examination.compare(case, |on, x| {
        let form = match kind {
            Kind::Plain => ConvForm::Plain,
            Kind::Add => ConvForm::Add(&x[3]),
            Kind::Upsampled => ConvForm::Upsampled,
        };
        one(on.conv3x3(&x[0], &Conv3x3::new(x[1].clone(), x[2].clone()), form))
    });
    Ok(())
}

fn unpacked(
    examination: &mut Examination<'_>,
    [rows, columns]: [usize; 2],
    dtype: DType,
) -> Result<()> {
    const SCALING: f64 = 0.3611;
    const SHIFT: f64 = 0.1159;
    let inputs = [examination.random(DType::F32, &[rows * columns, 4 * LATENT])?];
    let case = Case {
        kernel: "unpacking of latents",
        name: format!("{dtype:?} {rows} × {columns}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    let grid = [rows, columns];
    let how = Unpacking { grid, channels: LATENT, scaling: SCALING, shift: SHIFT, dtype };
    examination.compare(case, |on, x| one(on.unpack(&x[0], how)));
    Ok(())
}

fn bytes(examination: &mut Examination<'_>, dtype: DType, shape: [usize; 3]) -> Result<()> {
    let inputs = [examination.random(dtype, &shape)?];
    let case = Case {
        kernel: "conversion to bytes",
        name: format!("{dtype:?} {shape:?}"),
        // A value between two bytes may be rounded either way.
        tolerance: 100.0 * F32,
        inputs: &inputs,
    };
    examination.compare(case, |on, x| one(on.to_bytes(&x[0])));
    Ok(())
}
