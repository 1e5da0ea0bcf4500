//! Softmax of attention scores that lie in memory: short sequences with a bias or a causal mask.

use candle_core::{DType, Tensor};

use crate::{
    Result,
    context::{self, PushKernelArg, THREADS, grid},
    operand::{Operand, Output, device},
};

/// Keys of the longest row: 32 for each lane of a warp.
const MOST_KEYS: usize = 1024;

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

/// scores (h, l, l) → softmax(scores · scale + bias) over the last dimension, in f32, stored as the
/// scores are: bf16 or f32.
///
/// # Errors
/// `Unsupported` where l is above 1024.
pub fn softmax(scores: &Tensor, scale: f32, bias: Bias<'_>) -> Result<Tensor> {
    const NAME: &str = "softmax";
    let (heads, queries, keys) = scores.dims3()?;
    let x = Operand::contiguous(NAME, scores)?;
    x.require(keys <= MOST_KEYS, "this many keys")?;
    let bias_tensor = match bias {
        Bias::Tensor(tensor) => {
            Some(Operand::companion((NAME, "bias"), tensor, DType::F32, scores.dims())?)
        }
        Bias::None | Bias::Causal => None,
    };
    let context = context::of(device(NAME, scores)?)?;
    // SAFETY: the kernel below writes every row.
    let y = unsafe { Output::new(&context.device, (heads, queries, keys), x.dtype) }?;
    let address = bias_tensor.as_ref().map_or(0u64, |bias| bias.address);
    let (rows, causal) = (heads * queries, i32::from(matches!(bias, Bias::Causal)));
    let (row_count, query_count, key_count) = (rows as i64, queries as i32, keys as i32);
    let mut call = context.call("softmax", x.suffix()?)?;
    call.arg(&x.address).arg(&address).arg(&y.address).arg(&row_count);
    call.arg(&query_count).arg(&key_count).arg(&scale).arg(&causal);
    let blocks = (rows * 32).div_ceil(THREADS);
    // SAFETY: the kernel's arguments in its order; a warp for each row, and warps beyond the last row
    // touch nothing. The bias is null or has x's shape.
    unsafe { call.launch(grid(blocks as u32, THREADS)) }?;
    Ok(y.into_tensor())
}
