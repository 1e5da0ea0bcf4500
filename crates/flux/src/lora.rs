//! LoRAs: low-rank updates of the transformer's layers, merged into its weights as those are read.
//!
//! ```text
//! W' = W + weight · alpha / rank · B·A        W (out, in), B (out, rank), A (rank, in)
//! ```
//! in f32, before a weight is rounded to the type that it is kept in, packed or quantised (Hu et al., «LoRA», 2021,
//! section 4.1). Names are diffusers', those of Black Forest Labs' single file, or Kohya's, which has underscores for
//! the dots; `names.rs` reads them. What a model was merged with is part of its manifest.

mod file;
mod merge;
mod metadata;
mod names;

pub(crate) use file::read_bytes;
pub(crate) use merge::Adapters;

use candle_core::Tensor;

use crate::{Result, lora_choice::Lora, lora_error::LoraError};

/// Whether all values of a tensor in f32 are numbers: whatever is none times zero is none, and so is the sum.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    let sum = tensor.affine(0.0, 0.0)?.flatten_all()?.sum_all()?.to_scalar::<f32>()?;
    Ok(sum == 0.0)
}
