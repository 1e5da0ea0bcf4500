//! Text encoders: from a prompt to its states and, for some models, a pooled vector.

mod charsmap;
mod chat;
mod clip;
mod qwen3;
mod t5;
mod tokenizer_file;
mod tokens;

pub(crate) use chat::ChatTokenizer;
pub(crate) use clip::Clip;
pub(crate) use qwen3::Qwen3;
pub(crate) use t5::T5;
pub(crate) use tokens::{ClipTokenizer, T5Tokenizer, Tokens};

use std::rc::Rc;

use candle_core::{Device, Tensor};
use kernels::Heads;

use crate::{PromptTokens, Result, wiped::Wiped};

/// Whether a tensor of a text encoder is the weight of a linear layer: not an embedding of tokens, nor T5's of
/// distances.
pub(crate) fn is_layer_weight(name: &str, tensor: &Tensor) -> bool {
    let is_in_a_layer = name.split('.').any(|part| part == "layers" || part == "block");
    tensor.rank() == 2
        && is_in_a_layer
        && name.ends_with(".weight")
        && !name.contains("relative_attention_bias")
}

/// A model's tokenizers and text encoders.
pub(crate) trait TextEncoder: Send {
    /// What the transformer is told of a text.
    fn encode(&self, text: &str) -> Result<PromptEmbeds>;

    /// How long a text is.
    fn prompt_tokens(&self, text: &str) -> Result<PromptTokens>;

    /// A text's ids, of each tokenizer, padded.
    fn ids(&self, text: &str) -> Result<Vec<Tokens>>;

    /// From now on, weights rest on `device`, and travel from there.
    fn rest_on(&mut self, device: &Device) -> Result<()>;
}

/// A prompt as the transformer sees it.
pub(crate) struct PromptEmbeds {
    /// (l, d)
    pub(crate) states: Rc<Wiped>,
    /// CLIP's (1, d), where the model reads it.
    pub(crate) pooled: Option<Rc<Wiped>>,
    pub(crate) tokens: PromptTokens,
}

/// Rows of a table (vocabulary, d), where that is → (l, d). What says which is wiped on the host.
fn embeddings(table: &Tensor, ids: &[u32]) -> candle_core::Result<Tensor> {
    let on_host = Tensor::new(ids, &Device::Cpu)?;
    let rows = table.index_select(&on_host.to_device(table.device())?, 0)?;
    kernels::wipe(&on_host)?;
    Ok(rows)
}

/// (l, 3·h·d) → three views (l, h, d).
fn split_heads(qkv: &Tensor, count: usize) -> candle_core::Result<Heads> {
    let (length, joined) = qkv.dims2()?;
    let qkv = qkv.reshape((length, 3, count, joined / (3 * count)))?;
    let part = |i| qkv.narrow(1, i, 1)?.squeeze(1);
    Ok(Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 })
}
