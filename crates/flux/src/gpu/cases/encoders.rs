//! The text encoders' kernels: T5-XXL over 256 tokens, CLIP-L over 77.

use candle_core::{DType, Tensor};

use super::{
    BF16, layer, one,
    transformer::{After, Product, linear},
};
use crate::{
    Result,
    gpu::doctor::{Case, Examination},
    layers::{LayerNorm, RmsNorm},
    ops::{Heads, Mask, Scores, cuda, reference},
};

const T5_TOKENS: usize = 256;
const T5_WIDTH: usize = 4096;
const T5_HIDDEN: usize = 10240;
const CLIP_TOKENS: usize = 77;
const CLIP_WIDTH: usize = 768;

pub(super) fn all(examination: &mut Examination) -> Result<()> {
    root_mean_square(examination)?;
    layer_norm(examination)?;
    gated_gelu(examination)?;
    for product in [
        Product { rows: T5_TOKENS, inputs: T5_WIDTH, outputs: 3 * T5_WIDTH, then: After::Nothing },
        Product { rows: T5_TOKENS, inputs: T5_HIDDEN, outputs: T5_WIDTH, then: After::Add },
        Product { rows: CLIP_TOKENS, inputs: CLIP_WIDTH, outputs: 3072, then: After::QuickGelu },
        Product { rows: CLIP_TOKENS, inputs: 3072, outputs: CLIP_WIDTH, then: After::Add },
    ] {
        linear(examination, DType::BF16, product)?;
    }
    let scores = examination.random(DType::F32, &[64, T5_TOKENS, T5_TOKENS])?;
    masked(examination, Masked { length: T5_TOKENS, heads: 64, bias: Some(scores) })?;
    masked(examination, Masked { length: CLIP_TOKENS, heads: 12, bias: None })
}

fn root_mean_square(examination: &mut Examination) -> Result<()> {
    let inputs = [
        examination.spread(DType::BF16, &[T5_TOKENS, T5_WIDTH], 30.0)?,
        examination.random(DType::BF16, &[T5_WIDTH])?,
    ];
    let case = Case {
        kernel: "rms norm",
        name: format!("({T5_TOKENS}, {T5_WIDTH})"),
        tolerance: BF16,
        inputs: &inputs,
    };
    let norm = |x: &[Tensor]| RmsNorm { weight: x[1].clone(), eps: 1e-6 };
    examination.compare(
        case,
        |x| one(cuda::rms_norm(&x[0], &norm(x))?),
        |x| Ok(vec![reference::rms_norm(&x[0], &norm(x))?]),
    );
    Ok(())
}

fn layer_norm(examination: &mut Examination) -> Result<()> {
    let inputs = [
        examination.random(DType::BF16, &[CLIP_TOKENS, CLIP_WIDTH])?,
        examination.random(DType::BF16, &[CLIP_WIDTH])?,
        examination.random(DType::BF16, &[CLIP_WIDTH])?,
    ];
    let case = Case {
        kernel: "layer norm",
        name: format!("({CLIP_TOKENS}, {CLIP_WIDTH})"),
        tolerance: BF16,
        inputs: &inputs,
    };
    let norm = |x: &[Tensor]| LayerNorm { weight: x[1].clone(), bias: x[2].clone(), eps: 1e-5 };
    examination.compare(
        case,
        |x| one(cuda::layer_norm(&x[0], &norm(x))?),
        |x| Ok(vec![reference::layer_norm(&x[0], &norm(x))?]),
    );
    Ok(())
}

fn gated_gelu(examination: &mut Examination) -> Result<()> {
    let inputs = [
        examination.random(DType::BF16, &[T5_TOKENS, T5_WIDTH])?,
        examination.weight(DType::BF16, &[2 * T5_HIDDEN, T5_WIDTH])?,
    ];
    let case = Case {
        kernel: "linear + gated gelu",
        name: format!("({T5_TOKENS}, {T5_WIDTH}) → {T5_HIDDEN}"),
        tolerance: BF16,
        inputs: &inputs,
    };
    examination.compare(
        case,
        |x| one(cuda::linear_gated_gelu(&x[0], &layer(&x[1..]))?),
        |x| Ok(vec![reference::linear_gated_gelu(&x[0], &layer(&x[1..]))?]),
    );
    Ok(())
}

struct Masked {
    length: usize,
    heads: usize,
    /// Causal where there is none.
    bias: Option<Tensor>,
}

/// Attention over heads of 64 with a bias or a causal mask.
fn masked(examination: &mut Examination, masked: Masked) -> Result<()> {
    const HEAD: usize = 64;
    let Masked { length, heads, bias } = masked;
    let inputs = [examination.random(DType::BF16, &[length, 3, heads, HEAD])?];
    let kind = if bias.is_some() { "bias" } else { "causal" };
    let case = Case {
        kernel: "attention with its scores in memory",
        name: format!("{length} × {heads} × {HEAD}, {kind}"),
        tolerance: BF16,
        inputs: &inputs,
    };
    let mask = bias.as_ref().map_or(Mask::Causal, Mask::Bias);
    let scores = Scores { mask, ..Scores::scaled(HEAD) };
    let split = |x: &[Tensor]| -> candle_core::Result<Heads> {
        let part = |i| x[0].narrow(1, i, 1)?.squeeze(1);
        Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)? })
    };
    examination.compare(
        case,
        |x| one(cuda::attention(&split(x)?, &scores)?),
        |x| Ok(vec![reference::attention(&split(x)?, &scores)?]),
    );
    Ok(())
}
