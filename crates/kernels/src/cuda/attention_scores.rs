//! Softmax of attention scores that lie in memory.

use candle_core::{DType, Tensor};

use crate::cuda::{
    Result,
    context::{self, PushKernelArg, THREADS, grid},
    operand::{Operand, Output, device},
};

const NAME: &str = "softmax";

/// Keys of the longest row that one warp takes: 32 for each of its lanes.
const MOST_KEYS: usize = 1024;

const THREADS_OF_LONG_ROW: usize = 512;

/// What is added to scores before the softmax.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// −∞ where the key is behind the query.
    Causal,
    /// (h, l, l), f32.
    Tensor(&'a Tensor),
}

/// scores (h, l, m) → softmax(scores · scale + bias) over the last dimension, in f32, stored as the
/// scores are: bf16 or f32.
///
/// # Errors
/// `Unsupported` where a biased or causal row has more than 1024 scores.
pub fn softmax(scores: &Tensor, scale: f32, bias: Bias<'_>) -> Result<Tensor> {
    let (heads, queries, keys) = scores.dims3()?;
    let x = Operand::contiguous(NAME, scores)?;
    let rows = heads * queries;
    x.require(rows.max(keys) <= i32::MAX as usize / 32, "this many scores")?;
    let context = context::of(device(NAME, scores)?)?;
    // SAFETY: either kernel below writes every row.
    let y = unsafe { Output::new(&context.device, (heads, queries, keys), x.dtype) }?;
    let key_count = keys as i32;
    if keys > MOST_KEYS {
        x.require(matches!(bias, Bias::None), "this many keys behind a mask")?;
        let mut call = context.call("softmax_long", x.suffix()?)?;
        call.arg(&x.address).arg(&y.address).arg(&key_count).arg(&scale);
        // SAFETY: the kernel's arguments in its order; x and y have a row of keys for each block.
        unsafe { call.launch(grid(rows as u32, THREADS_OF_LONG_ROW)) }?;
        return Ok(y.into_tensor());
    }
    let bias_tensor = match bias {
        Bias::Tensor(tensor) => {
            Some(Operand::companion((NAME, "bias"), tensor, DType::F32, scores.dims())?)
        }
        Bias::None | Bias::Causal => None,
    };
    let address = bias_tensor.as_ref().map_or(0u64, |bias| bias.address);
    let causal = i32::from(matches!(bias, Bias::Causal));
    let (row_count, query_count) = (rows as i64, queries as i32);
    let mut call = context.call("softmax", x.suffix()?)?;
    call.arg(&x.address).arg(&address).arg(&y.address).arg(&row_count);
    call.arg(&query_count).arg(&key_count).arg(&scale).arg(&causal);
    let blocks = (rows * 32).div_ceil(THREADS);
    // SAFETY: the kernel's arguments in its order; a warp for each row, and warps beyond the last row
    // touch nothing. The bias is null or has x's shape.
    unsafe { call.launch(grid(blocks as u32, THREADS)) }?;
    Ok(y.into_tensor())
}
