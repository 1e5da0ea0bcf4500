//! bf16 → e4m3 with a scale for each row, and back.

use candle_core::{DType, Tensor};

use crate::cuda::{
    Result,
    context::{self, PushKernelArg, THREADS, grid},
    tensor::{Operand, Output, VECTOR, device},
};

/// Values of the longest row: eight vectors for each of a block's threads.
const LONGEST: usize = 8 * THREADS * VECTOR;

/// x (l, d), bf16, rows apart or not → values (l, d), e4m3, and scales (l,), f32, with x ≈ value · scale:
/// each row's largest value becomes 448, the largest of e4m3.
///
/// # Errors
/// `Unsupported` for other dtypes, and where d is no multiple of 8 or above 16384.
pub(super) fn quantise_rows(x: &Tensor) -> Result<(Tensor, Tensor)> {
    const NAME: &str = "quantise";
    let (operand, rows) = Operand::rows(NAME, x)?;
    operand.require(operand.dtype == DType::BF16, "this dtype")?;
    operand.require(rows.columns <= LONGEST, "rows this long")?;
    let context = context::of(device(NAME, x)?)?;
    // SAFETY: the kernel below writes every row of both.
    let (values, scales) = unsafe {
        (
            Output::new(&context.device, (rows.rows, rows.columns), DType::F8E4M3)?,
            Output::new(&context.device, rows.rows, DType::F32)?,
        )
    };
    let (stride, d) = (rows.stride as i64, rows.columns as i32);
    let vectors = rows.columns / VECTOR;
    let (each, name) =
        if vectors <= 2 * THREADS { (2, "quantise_rows_2") } else { (8, "quantise_rows_8") };
    let threads = vectors.div_ceil(each).next_multiple_of(32);
    let mut call = context.call_named(NAME, name)?;
    call.arg(&operand.address).arg(&stride).arg(&values.address).arg(&scales.address).arg(&d);
    // SAFETY: the kernel's arguments in its order; a block for each row, `each` vectors for each of its
    // threads, of which there are no more than it takes, which is enough for d values.
    unsafe { call.launch(grid(rows.rows as u32, threads)) }?;
    Ok((values.into_tensor(), scales.into_tensor()))
}

/// values (l, d), e4m3, and scales (l,), f32 → value · scale: (l, d), f32. candle 0.11 has no conversion
/// from e4m3 on a GPU: it asks for a kernel by another name than the one there is.
///
/// # Errors
/// `Unsupported` for other dtypes.
pub(super) fn dequantise_rows(values: &Tensor, scales: &Tensor) -> Result<Tensor> {
    const NAME: &str = "dequantise";
    let (rows, columns) = values.dims2()?;
    let operand = Operand::contiguous(NAME, values)?;
    operand.require(operand.dtype == DType::F8E4M3, "this dtype")?;
    let scales = Operand::companion((NAME, "scales"), scales, DType::F32, &[rows])?;
    let context = context::of(device(NAME, values)?)?;
    // SAFETY: the kernel below writes every value.
    let y = unsafe { Output::new(&context.device, (rows, columns), DType::F32) }?;
    let d = columns as i32;
    let mut call = context.call_named(NAME, "dequantise_rows")?;
    call.arg(&operand.address).arg(&scales.address).arg(&y.address).arg(&d);
    // SAFETY: the kernel's arguments in its order; a block for each row of d values, read and written
    // one by one.
    unsafe { call.launch(grid(rows as u32, THREADS)) }?;
    Ok(y.into_tensor())
}
