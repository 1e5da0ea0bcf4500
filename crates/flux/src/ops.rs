//! Every operation that costs time, in one place.
//!
//! Each has a composed reference of plain candle operations ([`reference`]), and a fused kernel
//! ([`fused`]) for f32 on the CPU ([`cpu`]) and, in builds with the feature `cuda`, for GPUs (`cuda`).
//! The model calls this file alone for its heavy work.
//!
//! Pictures of one size may be drawn together: the tokens of n pictures are (n·l, d), one picture after
//! the other. Layers see rows, and do not care whose they are; what differs from picture to picture has
//! n rows of its own; only attention keeps pictures apart. Heads are (n·l, h, d), pixels (h, w, c).

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod fused;
pub(crate) mod reference;
#[cfg(feature = "cuda")]
mod switches;

use candle_core::{DType, Result, Tensor};

use crate::{
    latents::Grid,
    layers::{Conv3x3, GroupNorm, LayerNorm, Linear, RmsNorm},
};

/// Queries, keys and values of n attentions: (n·l, h, d) each, elements of a head adjacent.
pub(crate) struct Heads {
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    /// n: pictures whose tokens follow each other. Each attends to its own alone.
    pub(crate) pictures: usize,
}

impl Heads {
    /// l, h, d
    fn shape(&self) -> Result<[usize; 3]> {
        let (rows, count, width) = self.q.dims3()?;
        Ok([rows_each(rows, self.pictures)?, count, width])
    }
}

/// Of so many rows, those of each picture.
fn rows_each(rows: usize, pictures: usize) -> Result<usize> {
    if pictures == 0 || !rows.is_multiple_of(pictures) {
        candle_core::bail!("{rows} rows of {pictures} pictures")
    }
    Ok(rows / pictures)
}

/// How many pictures share streams of so many tokens in all, each as many as there are angles.
fn pictures_of(streams: &[Stream<'_>], rotations: &Rotations) -> Result<usize> {
    let rows: usize = streams.iter().map(|stream| stream.qkv.dims()[0]).sum();
    let each = rotations.cos.dim(0)?;
    if each == 0 || !rows.is_multiple_of(each) {
        candle_core::bail!("{rows} tokens and the angles of {each}")
    }
    Ok(rows / each)
}

/// What is done to q·kᵀ before the softmax: · `scale` + `mask`.
#[derive(Clone, Copy)]
pub(crate) struct Scores<'a> {
    pub(crate) scale: f32,
    pub(crate) mask: Mask<'a>,
}

impl Scores<'_> {
    /// 1/√d and no mask.
    pub(crate) fn scaled(head_width: usize) -> Self {
        Self { scale: (head_width as f32).sqrt().recip(), mask: Mask::None }
    }
}

/// Which keys a query sees, and how well.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// All of them alike.
    None,
    /// Those not behind it.
    Causal,
    /// All of them, with this added to the scores: (h, l, l).
    Bias(&'a Tensor),
}

/// Rotation angles of a picture's tokens: cosines and sines, (l, d/2) each, f32.
pub(crate) struct Rotations {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

/// One stream's share of a joint attention.
pub(crate) struct Stream<'a> {
    /// Queries, keys and values side by side: (n·l, 3·h·d).
    pub(crate) qkv: &'a Tensor,
    /// Over a head's width, on queries.
    pub(crate) norm_q: &'a RmsNorm,
    /// Over a head's width, on keys.
    pub(crate) norm_k: &'a RmsNorm,
}

/// What a modulated normalisation makes for the layers behind it: (n·l, d).
pub(crate) struct Normalised {
    /// As x was; or e4m3, where those layers are.
    pub(crate) values: Tensor,
    /// What each row of e4m3 values is multiplied by: (n·l,), f32.
    pub(crate) row_scales: Option<Tensor>,
}

/// Rows that a layer is given, as they are or in e4m3: (l, in).
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) values: &'a Tensor,
    pub(crate) row_scales: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(values: &'a Tensor) -> Self {
        Self { values, row_scales: None }
    }
}

impl<'a> From<&'a Normalised> for Input<'a> {
    fn from(normal: &'a Normalised) -> Self {
        Self { values: &normal.values, row_scales: normal.row_scales.as_ref() }
    }
}

/// Where a branch of a residual block ends: onto + gate ∘ branch.
pub(crate) struct Gated<'a> {
    /// (n·l, d)
    pub(crate) onto: &'a Tensor,
    /// (n, d)
    pub(crate) gate: &'a Tensor,
}

/// What an adaptive layer normalisation is modulated by; (n, d) each.
pub(crate) struct Shift<'a> {
    pub(crate) shift: &'a Tensor,
    pub(crate) scale: &'a Tensor,
}

/// Activations behind a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// GELU in its tanh form: x · σ(2√(2/π)(x + 0.044715 x³)).
    GeluTanh,
    /// GELU itself: x · Φ(x).
    GeluErf,
    /// CLIP's x · σ(1.702 x).
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// x · σ(x)
    Silu,
}

/// Tokens of latents on their way to the autoencoder.
pub(crate) struct Unpacking {
    pub(crate) grid: Grid,
    /// Latents are divided by this …
    pub(crate) scaling: f64,
    /// … and then moved by this.
    pub(crate) shift: f64,
    /// Of the result.
    pub(crate) dtype: DType,
}

/// The fused kernel's result, or the reference's where there is none.
macro_rules! pick {
    ($op:ident($($argument:expr),*)) => {
        match fused::$op($($argument),*)? {
            Some(result) => Ok(result),
            None => reference::$op($($argument),*),
        }
    };
}

/// x (l, in) → (l, out)
pub(crate) fn linear<'a>(x: impl Into<Input<'a>>, layer: &Linear) -> Result<Tensor> {
    let x = x.into();
    pick!(linear(x, layer))
}

/// x (l, in) → activation(linear(x)) (l, out)
pub(crate) fn linear_activated<'a>(
    x: impl Into<Input<'a>>,
    layer: &Linear,
    act: Activation,
) -> Result<Tensor> {
    let x = x.into();
    pick!(linear_activated(x, layer, act))
}

/// x (l, in) → gelu(first half) · second half of linear(x): (l, out/2); T5's feed-forward.
pub(crate) fn linear_gated_gelu(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    pick!(linear_gated_gelu(x, layer))
}

/// x (l, in) → onto + linear(x): (l, out)
pub(crate) fn linear_onto(x: &Tensor, layer: &Linear, onto: &Tensor) -> Result<Tensor> {
    pick!(linear_onto(x, layer, onto))
}

/// x (n·l, in) → onto + gate ∘ linear(x): (n·l, out)
pub(crate) fn linear_gated(x: &Tensor, layer: &Linear, gated: &Gated<'_>) -> Result<Tensor> {
    pick!(linear_gated(x, layer, gated))
}

/// x (n·l, d) → layer norm (no weights, ε = 1e-6) ∘ (1 + scale) + shift
pub(crate) fn layer_norm_shift(x: &Tensor, by: &Shift<'_>) -> Result<Tensor> {
    pick!(layer_norm_shift(x, by))
}

/// The same for a layer, and others that are stored as it is: in e4m3 where they are.
pub(crate) fn layer_norm_shift_for(
    layer: &Linear,
    x: &Tensor,
    by: &Shift<'_>,
) -> Result<Normalised> {
    if layer.row_scales.is_some()
        && let Some(normal) = fused::layer_norm_shift_e4m3(x, by)?
    {
        return Ok(normal);
    }
    Ok(Normalised { values: layer_norm_shift(x, by)?, row_scales: None })
}

/// x (l, d) → (l, d)
pub(crate) fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    pick!(layer_norm(x, norm))
}

/// x (l, d) → (l, d)
pub(crate) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    pick!(rms_norm(x, norm))
}

/// Streams of n·l₁, n·l₂, … tokens → heads of n·(l₁ + l₂ + …) tokens, a picture's tokens of all streams
/// together: queries and keys normalised over each head's width, then rotated; values as they are.
pub(crate) fn join_heads(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Heads> {
    pick!(join_heads(streams, rotations))
}

/// softmax(q·kᵀ · scale + mask) · v, heads side by side: (n·l, h·d)
pub(crate) fn attention(heads: &Heads, scores: &Scores<'_>) -> Result<Tensor> {
    pick!(attention(heads, scores))
}

/// The two branches of a single-stream block, side by side: attention (n·l, h·d) without mask, then
/// gelu(mlp(x)) (n·l, m): (n·l, h·d + m)
pub(crate) fn attention_beside_mlp<'a>(
    heads: &Heads,
    x: impl Into<Input<'a>>,
    mlp: &Linear,
) -> Result<Tensor> {
    let x = x.into();
    pick!(attention_beside_mlp(heads, x, mlp))
}

/// x (h, w, c) → silu(group norm(x))
pub(crate) fn group_norm_silu(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    pick!(group_norm_silu(x, norm))
}

/// x (h, w, c) → (h, w, c)
pub(crate) fn group_norm(x: &Tensor, norm: &GroupNorm) -> Result<Tensor> {
    pick!(group_norm(x, norm))
}

/// x (h, w, in) → (h, w, out)
pub(crate) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    pick!(conv3x3(x, conv))
}

/// x (h, w, in) → onto + conv3x3(x): (h, w, out)
pub(crate) fn conv3x3_onto(x: &Tensor, conv: &Conv3x3, onto: &Tensor) -> Result<Tensor> {
    pick!(conv3x3_onto(x, conv, onto))
}

/// x (h, w, in) → each pixel doubled both ways, then conv3x3: (2h, 2w, out)
pub(crate) fn upsample_conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    pick!(upsample_conv3x3(x, conv))
}

/// tokens (rows·columns, 4·c), f32 → latent pixels / scaling + shift: (h, w, c)
pub(crate) fn unpack(tokens: &Tensor, how: &Unpacking) -> Result<Tensor> {
    pick!(unpack(tokens, how))
}

/// picture (h, w, 3) in −1 to 1 → 8 bits on the same device, where it has a kernel for that.
pub(crate) fn to_bytes(picture: &Tensor) -> Result<Option<Tensor>> {
    fused::to_bytes(picture)
}

/// Replaces a layer's weight by e4m3 values with a scale for each row, about half as large. Computes as
/// before, in 8 bits.
///
/// # Errors
/// Where the layer is not on a GPU.
pub(crate) fn quantise(layer: &mut Linear) -> Result<()> {
    #[cfg(feature = "cuda")]
    if layer.weight.device().is_cuda() {
        return cuda::quantise(layer);
    }
    candle_core::bail!("a layer of {} outputs is on no GPU: 8 bits need one", layer.outputs())
}

/// Overwrites a tensor's memory with zeros.
pub(crate) fn wipe(x: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return kernels::cuda::wipe(x);
    }
    if x.device().is_cpu() { cpu::wipe(x) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
