//! The text encoders' kernels: T5 over a prompt's tokens, CLIP over 77.

use candle_core::{DType, Tensor};

use super::{
    Widths, layer, one, tolerance,
    transformer::{After, Product, linear},
};
use crate::{
    Result,
    doctor::{Case, Examination},
    layers::{LayerNorm, RmsNorm},
    ops::{Heads, Mask, Scores, fused, reference},
};

const CLIP_TOKENS: usize = 77;

pub(super) fn all(examination: &mut Examination, widths: &Widths) -> Result<()> {
    let &Widths { dtype, text_tokens, t5, clip, .. } = widths;
    root_mean_square(examination, dtype, [text_tokens, t5[0]])?;
    layer_norm(examination, dtype, [CLIP_TOKENS, clip[0]])?;
    gated_gelu(examination, dtype, [text_tokens, t5[0], t5[1]])?;
    for (rows, inputs, outputs, then) in [
        (text_tokens, t5[0], 3 * t5[0], After::Nothing),
        (text_tokens, t5[1], t5[0], After::Add),
        (CLIP_TOKENS, clip[0], clip[1], After::QuickGelu),
        (CLIP_TOKENS, clip[1], clip[0], After::Add),
    ] {
        linear(examination, dtype, Product { rows, inputs, outputs, then })?;
    }
    let bias = examination.random(DType::F32, &[t5[2], text_tokens, text_tokens])?;
    for masked in [
        Masked { length: text_tokens, heads: [t5[2], t5[0] / t5[2]], bias: Some(bias) },
        Masked { length: CLIP_TOKENS, heads: [clip[2], clip[0] / clip[2]], bias: None },
    ] {
        attention(examination, dtype, masked)?;
    }
    Ok(())
}

fn root_mean_square(
    examination: &mut Examination,
    dtype: DType,
    [rows, width]: [usize; 2],
) -> Result<()> {
    // Large, as T5's residual stream is.
    let inputs =
        [examination.spread(dtype, &[rows, width], 30.0)?, examination.random(dtype, &[width])?];
    let case = Case {
        kernel: "rms norm",
        name: format!("{dtype:?} ({rows}, {width})"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    let norm = |x: &[Tensor]| RmsNorm { weight: x[1].clone(), eps: 1e-6 };
    examination.compare(
        case,
        |x| one(fused::rms_norm(&x[0], &norm(x))?),
        |x| Ok(vec![reference::rms_norm(&x[0], &norm(x))?]),
    );
    Ok(())
}

fn layer_norm(
    examination: &mut Examination,
    dtype: DType,
    [rows, width]: [usize; 2],
) -> Result<()> {
    let inputs = [
        examination.random(dtype, &[rows, width])?,
        examination.random(dtype, &[width])?,
        examination.random(dtype, &[width])?,
    ];
    let case = Case {
        kernel: "layer norm",
        name: format!("{dtype:?} ({rows}, {width})"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    let norm = |x: &[Tensor]| LayerNorm { weight: x[1].clone(), bias: x[2].clone(), eps: 1e-5 };
    examination.compare(
        case,
        |x| one(fused::layer_norm(&x[0], &norm(x))?),
        |x| Ok(vec![reference::layer_norm(&x[0], &norm(x))?]),
    );
    Ok(())
}

fn gated_gelu(
    examination: &mut Examination,
    dtype: DType,
    [rows, width, hidden]: [usize; 3],
) -> Result<()> {
    let inputs = [
        examination.random(dtype, &[rows, width])?,
        examination.weight(dtype, &[2 * hidden, width])?,
    ];
    let case = Case {
        kernel: "linear + gated gelu",
        name: format!("{dtype:?} ({rows}, {width}) → {hidden}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(fused::linear_gated_gelu(&x[0], &layer(&x[1..]))?),
        |x| Ok(vec![reference::linear_gated_gelu(&x[0], &layer(&x[1..]))?]),
    );
    Ok(())
}

struct Masked {
    length: usize,
    /// How many, and values of each.
    heads: [usize; 2],
    /// Causal where there is none.
    bias: Option<Tensor>,
}

/// With a bias or a causal mask.
fn attention(examination: &mut Examination, dtype: DType, masked: Masked) -> Result<()> {
    let Masked { length, heads: [count, head], bias } = masked;
    let inputs = [examination.random(dtype, &[length, 3, count, head])?];
    let kind = if bias.is_some() { "bias" } else { "causal" };
    let case = Case {
        kernel: "masked attention",
        name: format!("{dtype:?} {length} × {count} × {head}, {kind}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    let mask = bias.as_ref().map_or(Mask::Causal, Mask::Bias);
    let scores = Scores { mask, ..Scores::scaled(head) };
    let split = |x: &[Tensor]| -> candle_core::Result<Heads> {
        let part = |i| x[0].narrow(1, i, 1)?.squeeze(1);
        Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)?, pictures: 1 })
    };
    examination.compare(
        case,
        |x| one(fused::attention(&split(x)?, &scores)?),
        |x| Ok(vec![reference::attention(&split(x)?, &scores)?]),
    );
    Ok(())
}
