//! The decoder's kernels.

use candle_core::{DType, Tensor};

use super::{F32, Widths, one, tolerance};
use crate::{
    Result,
    doctor::{Case, Examination},
    latents::Grid,
    layers::{Conv3x3, GroupNorm},
    ops::{Heads, Scores, Unpacking, fused, reference},
};

/// Channels of a latent pixel.
const LATENT: usize = 16;

/// Everything that depends on the size of a picture, given by its rows and columns of tokens.
pub(super) fn decoder(
    examination: &mut Examination,
    widths: &Widths,
    grid: [usize; 2],
) -> Result<()> {
    without_convolutions(examination, widths, grid)?;
    let [height, width] = grid.map(|side| 2 * side);
    let [deepest, middle, last] = widths.channels;
    for (scale, inputs, outputs, kind) in [
        (1, LATENT, deepest, Kind::Plain),
        (1, deepest, deepest, Kind::Onto),
        (1, deepest, deepest, Kind::Upsampled),
        (2, deepest, deepest, Kind::Plain),
        (4, deepest, middle, Kind::Plain),
        (4, middle, middle, Kind::Upsampled),
        (8, middle, last, Kind::Plain),
        (8, last, last, Kind::Onto),
        (8, last, 3, Kind::Plain),
    ] {
        let size = [scale * height, scale * width];
        convolution(examination, widths.dtype, Convolution { size, inputs, outputs, kind })?;
    }
    Ok(())
}

/// The same but for its convolutions, for which GPUs have no kernel in f32.
pub(super) fn without_convolutions(
    examination: &mut Examination,
    widths: &Widths,
    [rows, columns]: [usize; 2],
) -> Result<()> {
    let &Widths { dtype, channels: [deepest, middle, last], groups, .. } = widths;
    let (height, width) = (2 * rows, 2 * columns);
    // A CPU's latents and pictures are plain copies, which have no kernel.
    if !examination.device.is_cpu() {
        unpacked(examination, Grid { rows, columns, channels: LATENT }, dtype)?;
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
    examination: &mut Examination,
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
    let scores = Scores::scaled(channels);
    let split = |x: &[Tensor]| -> candle_core::Result<Heads> {
        let part = |i| x[0].narrow(1, i * channels, channels)?.unsqueeze(1);
        Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)?, pictures: 1 })
    };
    examination.compare(
        case,
        |x| one(fused::attention(&split(x)?, &scores)?),
        |x| Ok(vec![reference::attention(&split(x)?, &scores)?]),
    );
    Ok(())
}

fn group_norm(
    examination: &mut Examination,
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
    examination.compare(
        case("group norm + silu"),
        |x| one(fused::group_norm_silu(&x[0], &norm(x))?),
        |x| Ok(vec![reference::group_norm_silu(&x[0], &norm(x))?]),
    );
    examination.compare(
        case("group norm"),
        |x| one(fused::group_norm(&x[0], &norm(x))?),
        |x| Ok(vec![reference::group_norm(&x[0], &norm(x))?]),
    );
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
    Onto,
    Upsampled,
}

fn convolution(examination: &mut Examination, dtype: DType, how: Convolution) -> Result<()> {
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
    let conv = |x: &[Tensor]| Conv3x3 { weight: x[1].clone(), bias: x[2].clone() };
    examination.compare(
        case,
        |x| {
            one(match kind {
                Kind::Plain => fused::conv3x3(&x[0], &conv(x)),
                Kind::Onto => fused::conv3x3_onto(&x[0], &conv(x), &x[3]),
                Kind::Upsampled => fused::upsample_conv3x3(&x[0], &conv(x)),
            }?)
        },
        |x| {
            Ok(vec![match kind {
                Kind::Plain => reference::conv3x3(&x[0], &conv(x)),
                Kind::Onto => reference::conv3x3_onto(&x[0], &conv(x), &x[3]),
                Kind::Upsampled => reference::upsample_conv3x3(&x[0], &conv(x)),
            }?])
        },
    );
    Ok(())
}

fn unpacked(examination: &mut Examination, grid: Grid, dtype: DType) -> Result<()> {
    const SCALING: f64 = 0.3611;
    const SHIFT: f64 = 0.1159;
    let shape = [grid.tokens(), 4 * grid.channels];
    let inputs = [examination.random(DType::F32, &shape)?];
    let case = Case {
        kernel: "unpacking of latents",
        name: format!("{dtype:?} {} × {}", grid.rows, grid.columns),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    let how = Unpacking { grid, scaling: SCALING, shift: SHIFT, dtype };
    let wide = Unpacking { dtype: DType::F32, ..how };
    examination.compare(
        case,
        |x| one(fused::unpack(&x[0], &how)?),
        |x| Ok(vec![reference::unpack(&x[0], &wide)?]),
    );
    Ok(())
}

fn bytes(examination: &mut Examination, dtype: DType, shape: [usize; 3]) -> Result<()> {
    let inputs = [examination.random(dtype, &shape)?];
    let case = Case {
        kernel: "conversion to bytes",
        name: format!("{dtype:?} {shape:?}"),
        // A value between two bytes may be rounded either way.
        tolerance: 100.0 * F32,
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(fused::to_bytes(&x[0])?),
        |x| Ok(vec![(((&x[0] * 0.5)? + 0.5)?.clamp(0f32, 1f32)? * 255.0)?.round()?]),
    );
    Ok(())
}
