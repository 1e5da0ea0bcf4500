//! The transformer's kernels: width 3072, 24 heads of 128, 256 text tokens.

use candle_core::{DType, Result as CandleResult, Tensor};

use super::{BF16, E4M3, F32, layer, one, tolerance};
use crate::{
    Result,
    gpu::doctor::{Case, Examination},
    layers::RmsNorm,
    ops::{Activation, Gated, Heads, Rotations, Scores, Shift, Stream, cuda, reference},
};

const TEXT: usize = 256;
const HEADS: usize = 24;
const HEAD: usize = 128;
const WIDTH: usize = HEADS * HEAD;
const HIDDEN: usize = 4 * WIDTH;

/// Everything that depends on the number of a picture's tokens, bf16.
pub(super) fn tokens(examination: &mut Examination, picture: usize) -> Result<()> {
    let joint = TEXT + picture;
    let dtype = DType::BF16;
    norm(examination, dtype, [joint, WIDTH])?;
    heads(examination, dtype, &[TEXT, picture])?;
    heads(examination, dtype, &[joint])?;
    attention(examination, joint)?;
    for (inputs, outputs, then) in [
        (64, WIDTH, After::Nothing),
        (WIDTH, 3 * WIDTH, After::Nothing),
        (WIDTH, HIDDEN, After::Gelu),
        (HIDDEN, WIDTH, After::Gate),
        (WIDTH + HIDDEN, WIDTH, After::Gate),
        (WIDTH, 64, After::Nothing),
    ] {
        linear(examination, dtype, Product { rows: joint, inputs, outputs, then })?;
    }
    beside(examination, joint)?;
    for (inputs, outputs) in [(WIDTH, 3 * WIDTH), (WIDTH + HIDDEN, WIDTH)] {
        quantised(examination, [joint, inputs, outputs])?;
    }
    Ok(())
}

/// The demo model computes in f32.
pub(super) fn in_f32(examination: &mut Examination) -> Result<()> {
    let dtype = DType::F32;
    norm(examination, dtype, [411, 256])?;
    heads(examination, dtype, &[256, 155])?;
    for then in [After::Nothing, After::Gelu, After::Gate] {
        linear(examination, dtype, Product { rows: 411, inputs: 256, outputs: 1024, then })?;
    }
    Ok(())
}

/// The modulation of one to four steps.
pub(super) fn modulation(examination: &mut Examination) -> Result<()> {
    for rows in 1..=4 {
        let then = After::Nothing;
        let product = Product { rows, inputs: WIDTH, outputs: 6 * WIDTH, then };
        linear(examination, DType::BF16, product)?;
    }
    Ok(())
}

fn norm(examination: &mut Examination, dtype: DType, [rows, width]: [usize; 2]) -> Result<()> {
    // Off centre and large, as the residual stream is.
    let x = (examination.spread(dtype, &[rows, width], 4.0)? + 3.0)?;
    // Parts of one tensor, as modulations are.
    let by = examination.spread(dtype, &[2 * width], 0.5)?;
    let case = Case {
        kernel: "layer norm + modulation",
        name: format!("{dtype:?} ({rows}, {width})"),
        tolerance: tolerance(dtype),
        inputs: &[x, by],
    };
    let halves = move |by: &Tensor| -> CandleResult<[Tensor; 2]> {
        Ok([by.narrow(0, 0, width)?, by.narrow(0, width, width)?])
    };
    examination.compare(
        case,
        |x| {
            let [shift, scale] = halves(&x[1])?;
            one(cuda::layer_norm_shift(&x[0], &Shift { shift: &shift, scale: &scale })?)
        },
        |x| {
            let [shift, scale] = halves(&x[1])?;
            Ok(vec![reference::layer_norm_shift(&x[0], &Shift { shift: &shift, scale: &scale })?])
        },
    );
    Ok(())
}

/// Of streams of so many tokens.
fn heads(examination: &mut Examination, dtype: DType, lengths: &[usize]) -> Result<()> {
    let (count, head) = if dtype == DType::F32 { (4, 64) } else { (HEADS, HEAD) };
    let joint: usize = lengths.iter().sum();
    let mut inputs = vec![
        examination.random(DType::F32, &[joint, head / 2])?,
        examination.random(dtype, &[head])?,
        examination.random(dtype, &[head])?,
    ];
    for &length in lengths {
        inputs.push(examination.random(dtype, &[length, 3 * count * head])?);
    }
    let case = Case {
        kernel: "query and key norm + rotation",
        name: format!("{dtype:?} {lengths:?} × {count} × {head}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| {
            let joined = with_streams(x, cuda::join_heads)?;
            Ok(joined.map(|heads| vec![heads.q, heads.k, heads.v]))
        },
        |x| {
            let heads = with_streams(x, reference::join_heads)?;
            Ok(vec![heads.q, heads.k, heads.v])
        },
    );
    Ok(())
}

/// Angles, both norms' weights, and the streams' queries, keys and values.
fn with_streams<T>(
    x: &[Tensor],
    join: impl Fn(&[Stream<'_>], &Rotations) -> CandleResult<T>,
) -> CandleResult<T> {
    let rotations = Rotations { cos: x[0].cos()?, sin: x[0].sin()? };
    let norm = |weight: &Tensor| RmsNorm { weight: weight.clone(), eps: 1e-6 };
    let (norm_q, norm_k) = (norm(&x[1]), norm(&x[2]));
    let streams: Vec<Stream<'_>> =
        x[3..].iter().map(|qkv| Stream { qkv, norm_q: &norm_q, norm_k: &norm_k }).collect();
    join(&streams, &rotations)
}

/// As the model has it: queries and keys on their own, values where the projection left them.
fn attention(examination: &mut Examination, length: usize) -> Result<()> {
    let dtype = DType::BF16;
    let inputs = [
        examination.random(dtype, &[length, HEADS, HEAD])?,
        examination.random(dtype, &[length, HEADS, HEAD])?,
        examination.random(dtype, &[length, 3 * WIDTH])?,
    ];
    let case = Case {
        kernel: "attention",
        name: format!("{length} × {HEADS} × {HEAD}"),
        tolerance: BF16,
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(cuda::attention(&views(x)?, &Scores::scaled(HEAD))?),
        |x| Ok(vec![reference::attention(&views(x)?, &Scores::scaled(HEAD))?]),
    );
    Ok(())
}

fn views(x: &[Tensor]) -> CandleResult<Heads> {
    let length = x[2].dim(0)?;
    let v = x[2].reshape((length, 3, HEADS, HEAD))?.narrow(1, 2, 1)?.squeeze(1)?;
    Ok(Heads { q: x[0].clone(), k: x[1].clone(), v })
}

/// Attention and feed-forward side by side.
#[cfg(feature = "cudnn")]
fn beside(examination: &mut Examination, length: usize) -> Result<()> {
    let dtype = DType::BF16;
    let inputs = [
        examination.random(dtype, &[length, HEADS, HEAD])?,
        examination.random(dtype, &[length, HEADS, HEAD])?,
        examination.random(dtype, &[length, 3 * WIDTH])?,
        examination.random(dtype, &[length, WIDTH])?,
        examination.weight(dtype, &[HIDDEN, WIDTH])?,
        examination.random(dtype, &[HIDDEN])?,
    ];
    let case = Case {
        kernel: "attention beside mlp",
        name: format!("{length} × ({WIDTH} + {HIDDEN})"),
        tolerance: BF16,
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(cuda::attention_beside_mlp(&views(x)?, &x[3], &layer(&x[4..]))?),
        |x| Ok(vec![reference::attention_beside_mlp(&views(x)?, &x[3], &layer(&x[4..]))?]),
    );
    Ok(())
}

#[cfg(not(feature = "cudnn"))]
fn beside(_: &mut Examination, _: usize) -> Result<()> {
    Ok(())
}

/// A linear layer and what follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) then: After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Gelu,
    QuickGelu,
    Add,
    Gate,
}

pub(super) fn linear(examination: &mut Examination, dtype: DType, product: Product) -> Result<()> {
    let Product { rows, inputs, outputs, then } = product;
    let tensors = [
        examination.random(dtype, &[rows, inputs])?,
        examination.weight(dtype, &[outputs, inputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[rows, outputs])?,
    ];
    let case = Case {
        kernel: "linear",
        name: format!("{dtype:?} ({rows}, {inputs}) → {outputs}, then {then:?}"),
        tolerance: tolerance(dtype),
        inputs: &tensors,
    };
    examination.compare(
        case,
        |x| {
            let layer = layer(&x[1..3]);
            one(match then {
                After::Nothing => cuda::linear(&x[0], &layer),
                After::Gelu => cuda::linear_activated(&x[0], &layer, Activation::GeluTanh),
                After::QuickGelu => cuda::linear_activated(&x[0], &layer, Activation::QuickGelu),
                After::Add => cuda::linear_onto(&x[0], &layer, &x[4]),
                After::Gate => {
                    cuda::linear_gated(&x[0], &layer, &Gated { gate: &x[3], onto: &x[4] })
                }
            }?)
        },
        |x| {
            let layer = layer(&x[1..3]);
            Ok(vec![match then {
                After::Nothing => reference::linear(&x[0], &layer),
                After::Gelu => reference::linear_activated(&x[0], &layer, Activation::GeluTanh),
                After::QuickGelu => {
                    reference::linear_activated(&x[0], &layer, Activation::QuickGelu)
                }
                After::Add => reference::linear_onto(&x[0], &layer, &x[4]),
                After::Gate => {
                    reference::linear_gated(&x[0], &layer, &Gated { gate: &x[3], onto: &x[4] })
                }
            }?])
        },
    );
    Ok(())
}

/// A layer in e4m3: against the layer as it was, and against the product of what was stored.
fn quantised(examination: &mut Examination, [rows, inputs, outputs]: [usize; 3]) -> Result<()> {
    let dtype = DType::BF16;
    let tensors = [
        examination.random(dtype, &[rows, inputs])?,
        examination.weight(dtype, &[outputs, inputs])?,
        examination.random(dtype, &[outputs])?,
    ];
    let kernel = |x: &[Tensor]| {
        let mut layer = layer(&x[1..]);
        cuda::quantise(&mut layer)?;
        one(cuda::linear(&x[0], &layer)?)
    };
    let name = format!("({rows}, {inputs}) → {outputs}");
    let case = |kernel, tolerance| Case { kernel, name: name.clone(), tolerance, inputs: &tensors };
    examination.compare(case("linear e4m3", E4M3), kernel, |x| {
        Ok(vec![reference::linear(&x[0], &layer(&x[1..]))?])
    });
    examination.compare(case("linear e4m3, product", BF16), kernel, |x| {
        let mut layer = layer(&x[1..]);
        layer.weight = stored(&layer.weight)?;
        Ok(vec![reference::linear(&stored(&x[0])?, &layer)?])
    });
    examination.compare(
        Case {
            kernel: "quantisation",
            name: format!("({rows}, {inputs})"),
            // A value between two of e4m3's may be rounded either way.
            tolerance: 100.0 * F32,
            inputs: &tensors[..1],
        },
        |x| one(Some(stored(&x[0])?)),
        |x| Ok(vec![quantised_by_hand(&x[0])?]),
    );
    Ok(())
}

/// What is left of rows that were stored in e4m3 and read again, f32.
fn stored(x: &Tensor) -> CandleResult<Tensor> {
    let (values, scales) = kernels::quantise_rows(&x.to_dtype(DType::BF16)?)?;
    values.to_dtype(DType::F32)?.broadcast_mul(&scales.unsqueeze(1)?)
}

/// The same through candle's own conversion.
fn quantised_by_hand(x: &Tensor) -> CandleResult<Tensor> {
    let scales = (x.abs()?.max_keepdim(1)? / 448.0)?;
    let values = x.broadcast_div(&scales)?.to_dtype(DType::F8E4M3)?.to_dtype(DType::F32)?;
    values.broadcast_mul(&scales)
}
