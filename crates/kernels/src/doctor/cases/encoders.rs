//! The text encoders' kernels: T5 over a prompt's tokens, CLIP over 77.

use candle_core::{DType, Result, Tensor};

use super::{
    Widths, layer, one, tolerance,
    transformer::{After, Product, linear},
};
use crate::{
    Activation, Affine, Heads, Mask, RmsNorm, Scores,
    doctor::{Case, Examination},
};

const CLIP_TOKENS: usize = 77;

pub(super) fn all(examination: &mut Examination<'_>, widths: &Widths) -> Result<()> {
    let &Widths { dtype, text_tokens, t5, clip, .. } = widths;
    root_mean_square(examination, dtype, [text_tokens, t5[0]])?;
    layer_norm(examination, dtype, [CLIP_TOKENS, clip[0]])?;
    for (gate, name) in
        [(Activation::GeluTanh, "linear + gated gelu"), (Activation::Silu, "linear + gated silu")]
    {
        gated(examination, dtype, (gate, name), [text_tokens, t5[0], t5[1]])?;
    }
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
    examination: &mut Examination<'_>,
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
    examination.compare(case, |on, x| {
        one(on.rms_norm(&x[0], &RmsNorm { weight: x[1].clone(), eps: 1e-6 }))
    });
    Ok(())
}

fn layer_norm(
    examination: &mut Examination<'_>,
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
    examination.compare(case, |on, x| {
        one(on.layer_norm(&x[0], Affine::Weights { weight: &x[1], bias: &x[2] }, 1e-5))
    });
    Ok(())
}

fn gated(
    examination: &mut Examination<'_>,
    dtype: DType,
    (gate, kernel): (Activation, &'static str),
    [rows, width, hidden]: [usize; 3],
) -> Result<()> {
    let inputs = [
        examination.random(dtype, &[rows, width])?,
        examination.weight(dtype, &[2 * hidden, width])?,
    ];
    let case = Case {
        kernel,
        name: format!("{dtype:?} ({rows}, {width}) → {hidden}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(case, |on, x| one(on.linear_gated((&x[0]).into(), &layer(&x[1..]), gate)));
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
fn attention(examination: &mut Examination<'_>, dtype: DType, masked: Masked) -> Result<()> {
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
    examination.compare(case, |on, x| {
        let part = |i| x[0].narrow(1, i, 1)?.squeeze(1);
        one(on.attention(&Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 }, scores))
    });
    Ok(())
}
