//! Layer and root-mean-square normalisation of rows.

use candle_core::Tensor;

use crate::cuda::{
    Result,
    context::{self, PushKernelArg, grid},
    operand::{Operand, Output, Rows, VECTOR, device},
};

/// What a normalised row is scaled and moved by.
#[derive(Clone, Copy)]
pub enum Affine<'a> {
    /// n ∘ (1 + scale) + shift; (n, d) each, a row for as many rows of x as for the next.
    Modulation {
        /// Around 0.
        scale: &'a Tensor,
        /// Added.
        shift: &'a Tensor,
    },
    /// n ∘ weight + bias; (d,) each.
    Weights {
        /// Around 1.
        weight: &'a Tensor,
        /// Added.
        bias: &'a Tensor,
    },
}

/// Values of the longest row: one vector for each of a block's threads.
const LONGEST: usize = 1024 * VECTOR;

/// x (n·l, d), rows apart or not → (x − mean) / √(var + ε), scaled and moved: (n·l, d). bf16 or f32.
///
/// # Errors
/// `Unsupported` where d is no multiple of 8 or above 8192, or x has no multiple of n rows.
pub fn layer_norm(x: &Tensor, affine: &Affine<'_>, eps: f64) -> Result<Tensor> {
    const NAME: &str = "layer norm";
    let (operand, rows) = Operand::rows(NAME, x)?;
    operand.require(rows.columns <= LONGEST, "rows this long")?;
    let (scale, shift, unit, pictures) = match affine {
        Affine::Modulation { scale, shift } => (scale, shift, 1f32, Some(scale.dim(0)?)),
        Affine::Weights { weight, bias } => (weight, bias, 0f32, None),
    };
    let shape: Vec<usize> = pictures.into_iter().chain([rows.columns]).collect();
    let pictures = pictures.unwrap_or(1).max(1);
    operand.require(rows.rows.is_multiple_of(pictures), "rows of a part of a picture")?;
    let each = (rows.rows / pictures) as i32;
    let dtype = operand.dtype;
    let scale = Operand::companion((NAME, "scale"), scale, dtype, &shape)?;
    let shift = Operand::companion((NAME, "shift"), shift, dtype, &shape)?;
    let context = context::of(device(NAME, x)?)?;
    // SAFETY: the kernel below writes every row.
    let y = unsafe { Output::new(&context.device, (rows.rows, rows.columns), dtype) }?;
    let (stride, d, eps) = (rows.stride as i64, rows.columns as i32, eps as f32);
    let mut call = context.call("layer_norm", operand.suffix()?)?;
    call.arg(&operand.address).arg(&stride).arg(&scale.address).arg(&shift.address);
    call.arg(&y.address).arg(&each).arg(&d).arg(&unit).arg(&eps);
    // SAFETY: the arguments are those of the kernel, in its order. x has `rows` rows `stride` apart,
    // scale and shift have d values for every `each` of them, y has rows · d; a block touches its row alone, no more than d
    // values of it, and every access is aligned, as the operands' constructors checked.
    unsafe { call.launch(grid(rows.rows as u32, threads(&rows))) }?;
    Ok(y.into_tensor())
}

/// x (l, d), rows apart or not → x / √(mean(x²) + ε) ∘ weight: (l, d). bf16 or f32.
///
/// # Errors
/// `Unsupported` where d is no multiple of 8 or above 8192.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    const NAME: &str = "rms norm";
    let (operand, rows) = Operand::rows(NAME, x)?;
    operand.require(rows.columns <= LONGEST, "rows this long")?;
    let weight = Operand::companion((NAME, "weight"), weight, operand.dtype, &[rows.columns])?;
    let context = context::of(device(NAME, x)?)?;
    // SAFETY: the kernel below writes every row.
    let y = unsafe { Output::new(&context.device, (rows.rows, rows.columns), operand.dtype) }?;
    let (stride, d, eps) = (rows.stride as i64, rows.columns as i32, eps as f32);
    let mut call = context.call("rms_norm", operand.suffix()?)?;
    call.arg(&operand.address).arg(&stride).arg(&weight.address).arg(&y.address);
    call.arg(&d).arg(&eps);
    // SAFETY: as for `layer_norm`: the kernel's own arguments in its order, a block for each row.
    unsafe { call.launch(grid(rows.rows as u32, threads(&rows))) }?;
    Ok(y.into_tensor())
}

/// One for each vector of a row, in whole warps.
fn threads(rows: &Rows) -> usize {
    (rows.columns / VECTOR).next_multiple_of(32)
}
