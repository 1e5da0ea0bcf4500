//! The transformer's kernels, on text and picture together.

use candle_core::{DType, Result as CandleResult, Tensor};

use super::{Widths, layer, one, tolerance};
use crate::{
    Result,
    doctor::{Case, Examination},
    layers::RmsNorm,
    ops::{Activation, Gated, Heads, Rotations, Scores, Shift, Stream, fused, reference},
};

/// Everything that depends on the number of a picture's tokens.
pub(super) fn tokens(examination: &mut Examination, widths: &Widths, picture: usize) -> Result<()> {
    let &Widths { dtype, text_tokens, heads: [count, head], .. } = widths;
    let (width, hidden) = (count * head, 4 * count * head);
    let joint = text_tokens + picture;
    norm(examination, dtype, [1, joint, width])?;
    heads(examination, widths, 1, &[text_tokens, picture])?;
    heads(examination, widths, 1, &[joint])?;
    attention(examination, widths, 1, joint)?;
    for (inputs, outputs, then) in [
        (64, width, After::Nothing),
        (width, 3 * width, After::Nothing),
        (width, hidden, After::Gelu),
        (hidden, width, After::Gate { pictures: 1 }),
        (width + hidden, width, After::Gate { pictures: 1 }),
        (width, 64, After::Nothing),
    ] {
        linear(examination, dtype, Product { rows: joint, inputs, outputs, then })?;
    }
    beside(examination, widths, 1, joint)
}

/// What keeps pictures apart that are drawn together.
pub(super) fn together(
    examination: &mut Examination,
    widths: &Widths,
    picture: usize,
) -> Result<()> {
    let &Widths { dtype, text_tokens, heads: [count, head], .. } = widths;
    let (width, joint) = (count * head, text_tokens + picture);
    for pictures in 2..=4 {
        norm(examination, dtype, [pictures, joint, width])?;
        heads(examination, widths, pictures, &[text_tokens, picture])?;
        heads(examination, widths, pictures, &[joint])?;
        attention(examination, widths, pictures, joint)?;
        beside(examination, widths, pictures, joint)?;
        let gated = After::Gate { pictures };
        let product =
            Product { rows: pictures * joint, inputs: width, outputs: width, then: gated };
        linear(examination, dtype, product)?;
    }
    Ok(())
}

/// The modulation of one to four steps.
pub(super) fn modulation(examination: &mut Examination, widths: &Widths) -> Result<()> {
    let width = widths.heads[0] * widths.heads[1];
    for rows in 1..=4 {
        let then = After::Nothing;
        let product = Product { rows, inputs: width, outputs: 6 * width, then };
        linear(examination, widths.dtype, product)?;
    }
    Ok(())
}

fn norm(
    examination: &mut Examination,
    dtype: DType,
    [pictures, length, width]: [usize; 3],
) -> Result<()> {
    // Off centre and large, as the residual stream is.
    let x = (examination.spread(dtype, &[pictures * length, width], 4.0)? + 3.0)?;
    let by = examination.spread(dtype, &[2 * pictures, width], 0.5)?;
    let case = Case {
        kernel: "layer norm + modulation",
        name: format!("{dtype:?} ({pictures}·{length}, {width})"),
        tolerance: tolerance(dtype),
        inputs: &[x, by],
    };
    let halves = move |by: &Tensor| -> CandleResult<[Tensor; 2]> {
        Ok([by.narrow(0, 0, pictures)?, by.narrow(0, pictures, pictures)?])
    };
    examination.compare(
        case,
        |x| {
            let [shift, scale] = halves(&x[1])?;
            one(fused::layer_norm_shift(&x[0], &Shift { shift: &shift, scale: &scale })?)
        },
        |x| {
            let [shift, scale] = halves(&x[1])?;
            Ok(vec![reference::layer_norm_shift(&x[0], &Shift { shift: &shift, scale: &scale })?])
        },
    );
    Ok(())
}

/// Of streams of so many tokens of each picture.
fn heads(
    examination: &mut Examination,
    widths: &Widths,
    pictures: usize,
    lengths: &[usize],
) -> Result<()> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    let joint: usize = lengths.iter().sum();
    let mut inputs = vec![
        examination.random(DType::F32, &[joint, head / 2])?,
        examination.random(dtype, &[head])?,
        examination.random(dtype, &[head])?,
    ];
    for &length in lengths {
        inputs.push(examination.random(dtype, &[pictures * length, 3 * count * head])?);
    }
    let case = Case {
        kernel: "query and key norm + rotation",
        name: format!("{dtype:?} {pictures} × {lengths:?} × {count} × {head}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| {
            let joined = with_streams(x, fused::join_heads)?;
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
fn attention(
    examination: &mut Examination,
    widths: &Widths,
    pictures: usize,
    length: usize,
) -> Result<()> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    let inputs = joined(examination, widths, pictures * length)?;
    let case = Case {
        kernel: "attention",
        name: format!("{dtype:?} {pictures} × {length} × {count} × {head}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(fused::attention(&views(x, pictures)?, &Scores::scaled(head))?),
        |x| Ok(vec![reference::attention(&views(x, pictures)?, &Scores::scaled(head))?]),
    );
    Ok(())
}

/// Attention and feed-forward side by side.
fn beside(
    examination: &mut Examination,
    widths: &Widths,
    pictures: usize,
    length: usize,
) -> Result<()> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    let (width, hidden) = (count * head, 4 * count * head);
    let mut inputs = joined(examination, widths, pictures * length)?;
    inputs.extend([
        examination.random(dtype, &[pictures * length, width])?,
        examination.weight(dtype, &[hidden, width])?,
        examination.random(dtype, &[hidden])?,
    ]);
    let case = Case {
        kernel: "attention beside mlp",
        name: format!("{dtype:?} {pictures}·{length} × ({width} + {hidden})"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| {
            one(fused::attention_beside_mlp(&views(x, pictures)?, (&x[3]).into(), &layer(&x[4..]))?)
        },
        |x| {
            let heads = views(x, pictures)?;
            Ok(vec![reference::attention_beside_mlp(&heads, (&x[3]).into(), &layer(&x[4..]))?])
        },
    );
    Ok(())
}

/// Queries and keys (l, h, d), and what the projection made: (l, 3·h·d).
fn joined(examination: &Examination, widths: &Widths, length: usize) -> Result<Vec<Tensor>> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    Ok(vec![
        examination.random(dtype, &[length, count, head])?,
        examination.random(dtype, &[length, count, head])?,
        examination.random(dtype, &[length, 3 * count * head])?,
    ])
}

fn views(x: &[Tensor], pictures: usize) -> CandleResult<Heads> {
    let (rows, count, head) = x[0].dims3()?;
    let v = x[2].reshape((rows, 3, count, head))?.narrow(1, 2, 1)?.squeeze(1)?;
    Ok(Heads { q: x[0].clone(), k: x[1].clone(), v, pictures })
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
    Gate { pictures: usize },
}

pub(super) fn linear(examination: &mut Examination, dtype: DType, product: Product) -> Result<()> {
    let Product { rows, inputs, outputs, then } = product;
    let pictures = if let After::Gate { pictures } = then { pictures } else { 1 };
    let tensors = [
        examination.random(dtype, &[rows, inputs])?,
        examination.weight(dtype, &[outputs, inputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[pictures, outputs])?,
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
                After::Nothing => fused::linear((&x[0]).into(), &layer),
                After::Gelu => {
                    fused::linear_activated((&x[0]).into(), &layer, Activation::GeluTanh)
                }
                After::QuickGelu => {
                    fused::linear_activated((&x[0]).into(), &layer, Activation::QuickGelu)
                }
                After::Add => fused::linear_onto(&x[0], &layer, &x[4]),
                After::Gate { .. } => {
                    fused::linear_gated(&x[0], &layer, &Gated { gate: &x[3], onto: &x[4] })
                }
            }?)
        },
        |x| {
            let layer = layer(&x[1..3]);
            Ok(vec![match then {
                After::Nothing => reference::linear((&x[0]).into(), &layer),
                After::Gelu => {
                    reference::linear_activated((&x[0]).into(), &layer, Activation::GeluTanh)
                }
                After::QuickGelu => {
                    reference::linear_activated((&x[0]).into(), &layer, Activation::QuickGelu)
                }
                After::Add => reference::linear_onto(&x[0], &layer, &x[4]),
                After::Gate { .. } => {
                    reference::linear_gated(&x[0], &layer, &Gated { gate: &x[3], onto: &x[4] })
                }
            }?])
        },
    );
    Ok(())
}
