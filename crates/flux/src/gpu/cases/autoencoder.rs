//! The decoder's kernels: 128 to 512 channels, 32 groups.

use candle_core::{DType, Tensor};

use super::{BF16, F32, one, tolerance};
use crate::{
    Result,
    gpu::doctor::{Case, Examination},
    latents::Grid,
    layers::GroupNorm,
    ops::{Heads, Scores, cuda, reference},
};

/// Channels of a latent pixel.
const LATENT: usize = 16;
const GROUPS: usize = 32;

/// Everything that depends on the size of a picture, given by its rows and columns of tokens; bf16.
pub(super) fn decoder(examination: &mut Examination, [rows, columns]: [usize; 2]) -> Result<()> {
    let dtype = DType::BF16;
    unpacked(examination, Grid { rows, columns, channels: LATENT }, dtype)?;
    let (height, width) = (2 * rows, 2 * columns);
    one_head(examination, [height * width, 512])?;
    for (scale, channels) in [(1, 512), (4, 256), (8, 128)] {
        let shape = [scale * height, scale * width, channels];
        group_norm(examination, dtype, shape, GROUPS)?;
    }
    for (scale, inputs, outputs, kind) in [
        (1, LATENT, 512, Kind::Plain),
        (1, 512, 512, Kind::Onto),
        (1, 512, 512, Kind::Upsampled),
        (2, 512, 512, Kind::Plain),
        (4, 512, 256, Kind::Plain),
        (4, 256, 256, Kind::Upsampled),
        (8, 256, 128, Kind::Plain),
        (8, 128, 128, Kind::Onto),
        (8, 128, 3, Kind::Plain),
    ] {
        let size = [scale * height, scale * width];
        convolution(examination, Convolution { size, inputs, outputs, kind })?;
    }
    bytes(examination, [8 * height, 8 * width, 3])
}

/// The demo model computes in f32.
pub(super) fn in_f32(examination: &mut Examination) -> Result<()> {
    let dtype = DType::F32;
    unpacked(examination, Grid { rows: 5, columns: 7, channels: LATENT }, dtype)?;
    for channels in [16, 32, 64] {
        group_norm(examination, dtype, [40, 56, channels], 8)?;
    }
    Ok(())
}

/// One head over all latent pixels, as the decoder's middle has it.
fn one_head(examination: &mut Examination, [pixels, channels]: [usize; 2]) -> Result<()> {
    let inputs = [examination.random(DType::BF16, &[pixels, 3 * channels])?];
    let case = Case {
        kernel: "attention",
        name: format!("{pixels} × 1 × {channels}"),
        tolerance: BF16,
        inputs: &inputs,
    };
    let scores = Scores::scaled(channels);
    let split = |x: &[Tensor]| -> candle_core::Result<Heads> {
        let part = |i| x[0].narrow(1, i * channels, channels)?.unsqueeze(1);
        Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)? })
    };
    examination.compare(
        case,
        |x| one(cuda::attention(&split(x)?, &scores)?),
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
        |x| one(cuda::group_norm_silu(&x[0], &norm(x))?),
        |x| Ok(vec![reference::group_norm_silu(&x[0], &norm(x))?]),
    );
    examination.compare(
        case("group norm"),
        |x| one(cuda::group_norm(&x[0], &norm(x))?),
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

#[cfg(feature = "cudnn")]
fn convolution(examination: &mut Examination, how: Convolution) -> Result<()> {
    use crate::layers::Conv3x3;

    let Convolution { size: [height, width], inputs, outputs, kind } = how;
    let dtype = DType::BF16;
    let tensors = [
        examination.random(dtype, &[height, width, inputs])?,
        examination.weight(dtype, &[outputs, 3, 3, inputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[height, width, outputs])?,
    ];
    let case = Case {
        kernel: "convolution",
        name: format!("{kind:?} {height}×{width}, {inputs} → {outputs}"),
        tolerance: BF16,
        inputs: &tensors,
    };
    let conv = |x: &[Tensor]| Conv3x3 { weight: x[1].clone(), bias: x[2].clone() };
    examination.compare(
        case,
        |x| {
            one(match kind {
                Kind::Plain => cuda::conv3x3(&x[0], &conv(x)),
                Kind::Onto => cuda::conv3x3_onto(&x[0], &conv(x), &x[3]),
                Kind::Upsampled => cuda::upsample_conv3x3(&x[0], &conv(x)),
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

#[cfg(not(feature = "cudnn"))]
fn convolution(_: &mut Examination, how: Convolution) -> Result<()> {
    let Convolution { size: _, inputs: _, outputs: _, kind: _ } = how;
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
    let how = kernels::Unpacking {
        grid: [grid.rows, grid.columns],
        channels: grid.channels,
        scaling: SCALING,
        shift: SHIFT,
        dtype,
    };
    examination.compare(
        case,
        |x| one(Some(kernels::unpack(&x[0], &how)?)),
        |x| {
            let pixels = grid.unpack(&x[0]).map_err(candle_core::Error::wrap)?;
            Ok(vec![((pixels / SCALING)? + SHIFT)?])
        },
    );
    Ok(())
}

fn bytes(examination: &mut Examination, shape: [usize; 3]) -> Result<()> {
    let inputs = [examination.random(DType::BF16, &shape)?];
    let case = Case {
        kernel: "conversion to bytes",
        name: format!("{shape:?}"),
        // A value between two bytes may be rounded either way.
        tolerance: 100.0 * F32,
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(cuda::to_bytes(&x[0])?),
        |x| Ok(vec![(((&x[0] * 0.5)? + 0.5)?.clamp(0f32, 1f32)? * 255.0)?.round()?]),
    );
    Ok(())
}
