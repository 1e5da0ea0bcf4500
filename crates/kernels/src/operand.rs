//! The operands of operations: layers' weights, heads, masks, modulation.
//!
//! Images of one size may be computed together: the tokens of n images are (n·l, d), one image after the
//! other. Layers see rows, and do not care whose they are; what differs from image to image has n rows of
//! its own; only attention keeps images apart. Heads are (n·l, h, d), pixels (h, w, c).

mod weights;

use candle_core::{DType, Result, Tensor};

pub use weights::{
    Conv3x3, GroupNorm, Int8Weight, LayerNorm, Linear, PackedWeight, RmsNorm, Weight,
};
pub(crate) use weights::{Kernel3x3, packed_as};

/// Queries, keys and values of n attentions: (n·l, h, d) each, elements of a head adjacent.
pub struct Heads {
    /// Queries.
    pub q: Tensor,
    /// Keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
    /// n: images whose tokens follow each other. Each attends to its own alone.
    pub images: usize,
}

impl Heads {
    /// l, h, d
    pub(crate) fn shape(&self) -> Result<[usize; 3]> {
        let (rows, count, width) = self.q.dims3()?;
        Ok([rows_each(rows, self.images)?, count, width])
    }
}

/// Of so many rows, those of each image.
pub(crate) fn rows_each(rows: usize, images: usize) -> Result<usize> {
    if images == 0 || !rows.is_multiple_of(images) {
        candle_core::bail!("{rows} rows of {images} images")
    }
    Ok(rows / images)
}

/// What is done to q·kᵀ before the softmax: · `scale` + `mask`.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    /// What each product is multiplied by.
    pub scale: f32,
    /// What is then added.
    pub mask: Mask<'a>,
}

impl Scores<'_> {
    /// 1/√d and no mask.
    #[must_use]
    pub fn scaled(head_width: usize) -> Self {
        Self { scale: (head_width as f32).sqrt().recip(), mask: Mask::None }
    }
}

/// Which keys a query sees, and how well.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// All of them alike.
    None,
    /// Those not behind it.
    Causal,
    /// All of them, with this added to the scores: (h, l, l), f32; the same for each of the n.
    Bias(&'a Tensor),
}

/// Rotation angles of an image's tokens: cosines and sines, (l, d/2) each, f32.
pub struct Rotations {
    /// Of the angles.
    pub cos: Tensor,
    /// Of the angles.
    pub sin: Tensor,
}

/// One stream's share of a joint attention.
#[derive(Clone, Copy)]
pub struct Stream<'a> {
    /// Queries, keys and values side by side: (n·l, 3·h·d).
    pub qkv: &'a Tensor,
    /// Over a head's width, on queries.
    pub norm_q: &'a RmsNorm,
    /// Over a head's width, on keys.
    pub norm_k: &'a RmsNorm,
}

/// How many images share streams of so many tokens in all, each as many as there are angles.
pub(crate) fn images_of(streams: &[Stream<'_>], rotations: &Rotations) -> Result<usize> {
    let rows: usize = streams.iter().map(|stream| stream.qkv.dims()[0]).sum();
    let each = rotations.cos.dim(0)?;
    if each == 0 || !rows.is_multiple_of(each) {
        candle_core::bail!("{rows} tokens and the angles of {each}")
    }
    Ok(rows / each)
}

/// Rows made for the layers behind them, as those read them: (n·l, d).
pub struct LayerInput {
    /// In the dtype of what they were made from; or e4m3, where those layers are.
    pub values: Tensor,
    /// What each row of e4m3 values is multiplied by: (n·l,), f32.
    pub row_scales: Option<Tensor>,
}

/// Rows that a layer is given, as they are or in e4m3: (l, in), apart or not.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// In any floating dtype; or e4m3.
    pub values: &'a Tensor,
    /// What each row of e4m3 values is multiplied by: (l,), f32. They then stand for bf16.
    pub row_scales: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(values: &'a Tensor) -> Self {
        Self { values, row_scales: None }
    }
}

impl From<Tensor> for LayerInput {
    fn from(values: Tensor) -> Self {
        Self { values, row_scales: None }
    }
}

impl<'a> From<&'a LayerInput> for Input<'a> {
    fn from(rows: &'a LayerInput) -> Self {
        Self { values: &rows.values, row_scales: rows.row_scales.as_ref() }
    }
}

/// What follows a linear layer; y is its result, (n·l, out).
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// y
    None,
    /// activation(y)
    Activate(Activation),
    /// residual + y; (n·l, out)
    Add(&'a Tensor),
    /// residual + gate ∘ y: where a branch of a modulated block ends.
    GatedResidual(GatedResidual<'a>),
}

/// What a branch of a modulated block is added to: residual + gate ∘ branch.
#[derive(Clone, Copy)]
pub struct GatedResidual<'a> {
    /// (n, d)
    pub gate: &'a Tensor,
    /// (n·l, d)
    pub residual: &'a Tensor,
}

/// Activations behind a linear layer, as the CUDA kernels number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Activation {
    /// GELU in its tanh form: x · σ(2√(2/π)(x + 0.044715 x³)).
    GeluTanh = 0,
    /// GELU itself: x · Φ(x).
    GeluErf = 1,
    /// CLIP's x · σ(1.702 x).
    QuickGelu = 2,
    /// max(x, 0)
    Relu = 3,
    /// x · σ(x)
    Silu = 4,
}

/// What an adaptive layer normalisation (AdaLN) is modulated by; (n, d) each.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    /// Added.
    pub shift: &'a Tensor,
    /// Around 0: rows are multiplied by 1 + this.
    pub scale: &'a Tensor,
}

/// What a layer normalisation does behind the division by the deviation.
#[derive(Clone, Copy)]
pub enum Affine<'a> {
    /// n ∘ (1 + scale) + shift, a row of both for each image.
    Modulation(Modulation<'a>),
    /// n ∘ weight + bias; (d,) each.
    Weights {
        /// Around 1.
        weight: &'a Tensor,
        /// Added.
        bias: &'a Tensor,
    },
}

/// What a convolution does besides.
#[derive(Clone, Copy)]
pub enum ConvForm<'a> {
    /// conv(x): (h, w, out)
    Plain,
    /// residual + conv(x): (h, w, out)
    Add(&'a Tensor),
    /// conv(x with each pixel twice both ways): (2h, 2w, out)
    Upsampled,
}

/// Tokens of latents on their way to the autoencoder.
#[derive(Debug, Clone, Copy)]
pub struct Unpacking {
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// Channels of a latent pixel.
    pub channels: usize,
    /// Latents are divided by this …
    pub scaling: f64,
    /// … and then moved by this.
    pub shift: f64,
    /// Of the result.
    pub dtype: DType,
}

/// What a model computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// bf16 throughout.
    Bf16,
    /// The transformer's blocks' linear layers in e4m3, the rest in bf16. On GPUs alone.
    Fp8,
    /// The linear layers of the transformer's blocks and of the text encoders with weights in 8-bit integers,
    /// everything else in f32. On CPUs alone.
    Int8,
}

impl Precision {
    /// Of the weights that it does not have in 8 bits, and of everything between the layers.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Int8 => DType::F32,
            Self::Bf16 | Self::Fp8 => DType::BF16,
        }
    }
}
