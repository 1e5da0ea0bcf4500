//! The transformer's kernels, on text and image together.

use candle_core::{DType, Result, Tensor};

use super::{Widths, layer, one, tolerance};
use crate::{
    Activation, Affine, Epilogue, GatedResidual, Heads, Modulation, RmsNorm, Rotations, Scores,
    Stream,
    doctor::{Case, Examination},
    ops::backend_of,
};

/// Everything that depends on the number of an image's tokens.
pub(super) fn tokens(
    examination: &mut Examination<'_>,
    widths: &Widths,
    image: usize,
) -> Result<()> {
    let &Widths { dtype, text_tokens, heads: [count, head], .. } = widths;
    let (width, hidden) = (count * head, 4 * count * head);
    let joint = text_tokens + image;
    norm(examination, dtype, [1, joint, width])?;
    residual_norm(examination, widths, 1, joint)?;
    heads(examination, widths, 1, &[text_tokens, image])?;
    heads(examination, widths, 1, &[joint])?;
    attention(examination, widths, 1, joint)?;
    for (inputs, outputs, then) in [
        (64, width, After::Nothing),
        (width, 3 * width, After::Nothing),
        (width, hidden, After::Gelu),
        (hidden, width, After::Gate { images: 1 }),
        (width + hidden, width, After::Gate { images: 1 }),
        (width, 64, After::Nothing),
    ] {
        linear(examination, dtype, Product { rows: joint, inputs, outputs, then })?;
    }
    beside(examination, widths, 1, joint)
}

/// What keeps images apart that are drawn together.
pub(super) fn together(
    examination: &mut Examination<'_>,
    widths: &Widths,
    image: usize,
) -> Result<()> {
    let &Widths { dtype, text_tokens, heads: [count, head], .. } = widths;
    let (width, joint) = (count * head, text_tokens + image);
    for images in 2..=4 {
        norm(examination, dtype, [images, joint, width])?;
        residual_norm(examination, widths, images, joint)?;
        heads(examination, widths, images, &[text_tokens, image])?;
        heads(examination, widths, images, &[joint])?;
        attention(examination, widths, images, joint)?;
        beside(examination, widths, images, joint)?;
        let gated = After::Gate { images };
        let product = Product { rows: images * joint, inputs: width, outputs: width, then: gated };
        linear(examination, dtype, product)?;
    }
    Ok(())
}

/// The modulation of one to four steps.
pub(super) fn modulation(examination: &mut Examination<'_>, widths: &Widths) -> Result<()> {
    let width = widths.heads[0] * widths.heads[1];
    for rows in 1..=4 {
        let then = After::Nothing;
        let product = Product { rows, inputs: width, outputs: 6 * width, then };
        linear(examination, widths.dtype, product)?;
    }
    Ok(())
}

fn norm(
    examination: &mut Examination<'_>,
    dtype: DType,
    [images, length, width]: [usize; 3],
) -> Result<()> {
    // Off centre and large, as the residual stream is.
    let x = (examination.spread(dtype, &[images * length, width], 4.0)? + 3.0)?;
    let by = examination.spread(dtype, &[2 * images, width], 0.5)?;
    let case = Case {
        kernel: "layer norm + modulation",
        name: format!("{dtype:?} ({images}·{length}, {width})"),
        tolerance: tolerance(dtype),
        inputs: &[x, by],
    };
    examination.compare(case, |on, x| {
        let half = |first| x[1].narrow(0, first, images);
        let (shift, scale) = (half(0)?, half(images)?);
        let by = Modulation { shift: &shift, scale: &scale };
        one(on.layer_norm(&x[0], Affine::Modulation(by), 1e-6))
    });
    Ok(())
}

/// Of streams of so many tokens of each image.
fn heads(
    examination: &mut Examination<'_>,
    widths: &Widths,
    images: usize,
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
        inputs.push(examination.random(dtype, &[images * length, 3 * count * head])?);
    }
    let case = Case {
        kernel: "query and key norm + rotation",
        name: format!("{dtype:?} {images} × {lengths:?} × {count} × {head}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    // Angles, both norms' weights, and the streams' queries, keys and values.
    examination.compare(case, |on, x| {
        let rotations = Rotations { cos: x[0].cos()?, sin: x[0].sin()? };
        let norm = |weight: &Tensor| RmsNorm { weight: weight.clone(), eps: 1e-6 };
        let (norm_q, norm_k) = (norm(&x[1]), norm(&x[2]));
        let stream = |qkv| Stream { qkv, norm_q: &norm_q, norm_k: &norm_k };
        let streams: Vec<Stream<'_>> = x[3..].iter().map(stream).collect();
        let joined = on.qk_norm_rope(&streams, &rotations)?;
        Ok(joined.map(|heads| vec![heads.q, heads.k, heads.v]))
    });
    Ok(())
}

/// As the model has it: queries and keys on their own, values where the projection left them.
fn attention(
    examination: &mut Examination<'_>,
    widths: &Widths,
    images: usize,
    length: usize,
) -> Result<()> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    let inputs = joined(examination, widths, images * length)?;
    let case = Case {
        kernel: "attention",
        name: format!("{dtype:?} {images} × {length} × {count} × {head}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(case, |on, x| one(on.attention(&views(x, images)?, Scores::scaled(head))));
    Ok(())
}

/// Attention and feed-forward side by side.
fn beside(
    examination: &mut Examination<'_>,
    widths: &Widths,
    images: usize,
    length: usize,
) -> Result<()> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    let (width, hidden) = (count * head, 4 * count * head);
    let mut inputs = joined(examination, widths, images * length)?;
    inputs.extend([
        examination.random(dtype, &[images * length, width])?,
        examination.weight(dtype, &[hidden, width])?,
        examination.random(dtype, &[hidden])?,
    ]);
    let case = Case {
        kernel: "attention beside mlp",
        name: format!("{dtype:?} {images}·{length} × ({width} + {hidden})"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(case, |on, x| {
        one(on.attention_beside_mlp(&views(x, images)?, (&x[3]).into(), &layer(&x[4..])))
    });
    Ok(())
}

/// The end of a branch and the normalisation behind it.
fn residual_norm(
    examination: &mut Examination<'_>,
    widths: &Widths,
    images: usize,
    length: usize,
) -> Result<()> {
    let (dtype, width) = (widths.dtype, widths.heads[0] * widths.heads[1]);
    let (rows, of_images) = ([images * length, width], [images, width]);
    let mut inputs = Vec::new();
    for shape in [rows, rows, of_images, of_images, of_images] {
        inputs.push(examination.random(dtype, &shape)?);
    }
    // Elsewhere the sum ends the product.
    if !backend_of(&inputs[0]).has_residual_norm()? {
        return Ok(());
    }
    let case = Case {
        kernel: "residual + layer norm",
        name: format!("{dtype:?} {images} × {length} × {width}"),
        tolerance: tolerance(dtype),
        inputs: &inputs,
    };
    examination.compare(case, |on, x| {
        let onto = GatedResidual { gate: &x[2], residual: &x[1] };
        let affine = Affine::Modulation(Modulation { shift: &x[3], scale: &x[4] });
        let made = on.residual_norm(&x[0], onto, affine, 1e-6)?;
        Ok(made.map(|(x, normal)| vec![x, normal]))
    });
    Ok(())
}

/// Queries and keys (l, h, d), and what the projection made: (l, 3·h·d).
fn joined(examination: &Examination<'_>, widths: &Widths, length: usize) -> Result<Vec<Tensor>> {
    let &Widths { dtype, heads: [count, head], .. } = widths;
    Ok(vec![
        examination.random(dtype, &[length, count, head])?,
        examination.random(dtype, &[length, count, head])?,
        examination.random(dtype, &[length, 3 * count * head])?,
    ])
}

fn views(x: &[Tensor], images: usize) -> Result<Heads> {
    let (rows, count, head) = x[0].dims3()?;
    let v = x[2].reshape((rows, 3, count, head))?.narrow(1, 2, 1)?.squeeze(1)?;
    Ok(Heads { q: x[0].clone(), k: x[1].clone(), v, images })
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
    Gate { images: usize },
}

pub(super) fn linear(
    examination: &mut Examination<'_>,
    dtype: DType,
    product: Product,
) -> Result<()> {
    let Product { rows, inputs, outputs, then } = product;
    let images = if let After::Gate { images } = then { images } else { 1 };
    let tensors = [
        examination.random(dtype, &[rows, inputs])?,
        examination.weight(dtype, &[outputs, inputs])?,
        examination.random(dtype, &[outputs])?,
        examination.random(dtype, &[images, outputs])?,
        examination.random(dtype, &[rows, outputs])?,
    ];
    let case = Case {
        kernel: "linear",
        name: format!("{dtype:?} ({rows}, {inputs}) → {outputs}, then {then:?}"),
        tolerance: tolerance(dtype),
        inputs: &tensors,
    };
    examination.compare(case, |on, x| {
        let then = match then {
            After::Nothing => Epilogue::None,
            After::Gelu => Epilogue::Activate(Activation::GeluTanh),
            After::QuickGelu => Epilogue::Activate(Activation::QuickGelu),
            After::Add => Epilogue::Add(&x[4]),
            After::Gate { .. } => {
                Epilogue::GatedResidual(GatedResidual { gate: &x[3], residual: &x[4] })
            }
        };
        one(on.linear((&x[0]).into(), &layer(&x[1..3]), then))
    });
    Ok(())
}
