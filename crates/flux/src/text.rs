//! What a prompt becomes: CLIP's pooled vector and T5's states.

mod charsmap;
mod clip;
mod t5;
mod tokenizer_file;
mod tokens;

pub(crate) use clip::Clip;
pub(crate) use t5::T5;
pub(crate) use tokens::{ClipTokenizer, T5Tokenizer};

use candle_core::{Device, Result, Tensor};
use kernels::Heads;

/// Rows of a table (vocabulary, d), where that is → (l, d). What says which is wiped on the host.
fn embeddings(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let on_host = Tensor::new(ids, &Device::Cpu)?;
    let rows = table.index_select(&on_host.to_device(table.device())?, 0)?;
    kernels::wipe(&on_host)?;
    Ok(rows)
}

/// (l, 3·h·d) → three views (l, h, d).
fn split_heads(qkv: &Tensor, count: usize) -> Result<Heads> {
    let (length, joined) = qkv.dims2()?;
    let qkv = qkv.reshape((length, 3, count, joined / (3 * count)))?;
    let part = |i| qkv.narrow(1, i, 1)?.squeeze(1);
    Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 })
}
