//! What operations are given: layers' weights, heads, masks, modulation.
//!
//! Images of one size may be computed together: the tokens of n images are (n·l, d), one image after the
//! other. Layers see rows, and do not care whose they are; what differs from image to image has n rows of
//! its own; only attention keeps images apart. Heads are (n·l, h, d), pixels (h, w, c).

use candle_core::{DType, Device, Result, Tensor};

use crate::{
    backend,
    cpu::{Panels, WinogradKernel},
    reference,
};

/// y = x Wᵀ + b
pub struct Linear {
    /// (out, in)
    pub weight: Weight,
    /// (out,)
    pub bias: Option<Tensor>,
}

/// A linear layer's weight (out, in), as one backend or all of them read it.
pub enum Weight {
    /// Row by row, on any device, in any floating dtype.
    Plain(Tensor),
    /// In 8 bits with a scale for each row, on a GPU.
    E4m3 {
        /// (out, in), e4m3
        values: Tensor,
        /// What each row is multiplied by: (out,), f32.
        row_scales: Tensor,
    },
    /// f32 on the CPU, in the order in which its kernel reads it.
    Panels(Panels),
}

impl Linear {
    /// A layer of a weight (out, in) and perhaps a bias (out,).
    #[must_use]
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Plain(weight), bias }
    }

    /// Several layers of the same input as one: their outputs side by side.
    ///
    /// # Errors
    /// Where the layers do not belong together, or are packed.
    pub fn stack(layers: &[Self]) -> Result<Self> {
        let cat = |parts: Vec<&Tensor>| Tensor::cat(&parts, 0);
        let plain: Option<Vec<&Tensor>> =
            layers.iter().map(|layer| layer.weight.tensor()).collect();
        let biases: Option<Vec<&Tensor>> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        let e4m3 = layers.iter().map(|layer| match &layer.weight {
            Weight::E4m3 { values, row_scales } => Some((values, row_scales)),
            _ => None,
        });
        let weight = match (plain, e4m3.collect::<Option<(Vec<_>, Vec<_>)>>()) {
            (Some(weights), _) => Weight::Plain(cat(weights)?),
            (None, Some((values, scales))) => {
                Weight::E4m3 { values: cat(values)?, row_scales: cat(scales)? }
            }
            (None, None) => candle_core::bail!("layers that are stored differently are not one"),
        };
        Ok(Self { weight, bias: biases.map(cat).transpose()? })
    }

    /// The same layer as the device that it computes on reads it fastest: on a CPU, in f32, packed. No copy
    /// is left of the weight as it was, unless somebody else holds it.
    ///
    /// # Errors
    /// Where the weight is not contiguous.
    pub fn packed(self) -> Result<Self> {
        let weight = match self.weight {
            Weight::Plain(weight) if backend::is_fast_on_cpu(&weight) => {
                Weight::Panels(Panels::of(&weight)?)
            }
            other => other,
        };
        Ok(Self { weight, ..self })
    }

    /// The same layer with its weight in e4m3 and a scale for each row, about half as large. It computes as
    /// before, in 8 bits.
    ///
    /// # Errors
    /// Where the layer is not on a GPU.
    pub fn quantised(self) -> Result<Self> {
        let weight = match self.weight {
            Weight::Plain(weight) => {
                let (values, row_scales) = crate::quantise_rows(&weight)?;
                Weight::E4m3 { values, row_scales }
            }
            other => other,
        };
        Ok(Self { weight, ..self })
    }

    /// The same layer on a device; no copy where it is there.
    ///
    /// # Errors
    /// Where the device has no room, or the layer is packed for another.
    pub fn on(&self, device: &Device) -> Result<Self> {
        let weight = match &self.weight {
            Weight::Plain(weight) => Weight::Plain(weight.to_device(device)?),
            Weight::E4m3 { values, row_scales } => Weight::E4m3 {
                values: values.to_device(device)?,
                row_scales: row_scales.to_device(device)?,
            },
            Weight::Panels(panels) if device.is_cpu() => Weight::Panels(panels.clone()),
            Weight::Panels(panels) => Weight::Plain(panels.to_tensor()?.to_device(device)?),
        };
        Ok(Self { weight, bias: on(&self.bias, device)? })
    }

    /// Length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Weight::Plain(weight) | Weight::E4m3 { values: weight, .. } => weight.dims()[0],
            Weight::Panels(panels) => panels.outputs(),
        }
    }

    /// Whether its input may be e4m3 as well.
    #[must_use]
    pub fn is_e4m3(&self) -> bool {
        matches!(self.weight, Weight::E4m3 { .. })
    }
}

impl Weight {
    /// The weight itself, where it is stored plainly.
    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        if let Self::Plain(weight) = self { Some(weight) } else { None }
    }

    /// The weight (out, in) as it was before it was packed or quantised, as far as that is known.
    pub(crate) fn to_plain(&self, dtype: DType) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => Ok(weight.clone()),
            Self::E4m3 { values, row_scales } => {
                reference::dequantised(values, row_scales)?.to_dtype(dtype)
            }
            Self::Panels(panels) => panels.to_tensor(),
        }
    }
}

fn on(tensor: &Option<Tensor>, device: &Device) -> Result<Option<Tensor>> {
    tensor.as_ref().map(|tensor| tensor.to_device(device)).transpose()
}

/// y = (x − mean) / √(var + ε) · w + b over the last dimension.
pub struct LayerNorm {
    /// (d,)
    pub weight: Tensor,
    /// (d,)
    pub bias: Tensor,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// The same on a device; no copy where it is there.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn on(&self, device: &Device) -> Result<Self> {
        let (weight, bias) = (self.weight.to_device(device)?, self.bias.to_device(device)?);
        Ok(Self { weight, bias, eps: self.eps })
    }
}

/// y = x / √(mean(x²) + ε) · w over the last dimension.
pub struct RmsNorm {
    /// (d,)
    pub weight: Tensor,
    /// Added to the mean of squares.
    pub eps: f64,
}

impl RmsNorm {
    /// The same on a device; no copy where it is there.
    ///
    /// # Errors
    /// Where the device has no room.
    pub fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { weight: self.weight.to_device(device)?, eps: self.eps })
    }
}

/// Normalises each group of channels over the whole image, then scales and shifts each channel.
pub struct GroupNorm {
    /// (c,)
    pub weight: Tensor,
    /// (c,)
    pub bias: Tensor,
    /// Neighbouring channels form them.
    pub groups: usize,
}

impl GroupNorm {
    /// What diffusers gives every group normalisation of the autoencoder.
    pub const EPS: f64 = 1e-6;
}

/// A 3×3 convolution of stride 1 that keeps the size (one pixel of zeros around).
pub struct Conv3x3 {
    pub(crate) kernel: Kernel3x3,
    /// (out,)
    pub(crate) bias: Tensor,
    /// Of the weight and of what is computed.
    pub(crate) dtype: DType,
}

/// A convolution's weight, as one backend or all of them read it.
pub(crate) enum Kernel3x3 {
    /// (out, 3, 3, in): channels last, as the activations are.
    Plain(Tensor),
    /// f32 on the CPU, transformed.
    Winograd(WinogradKernel),
}

impl Conv3x3 {
    /// Of a weight (out, 3, 3, in) and a bias (out,).
    #[must_use]
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        let dtype = weight.dtype();
        Self { kernel: Kernel3x3::Plain(weight), bias, dtype }
    }

    /// The same as the device that it computes on reads it fastest; see [`Linear::packed`].
    ///
    /// # Errors
    /// Where the weight is not contiguous.
    pub fn packed(self) -> Result<Self> {
        let kernel = match self.kernel {
            Kernel3x3::Plain(weight) if backend::is_fast_on_cpu(&weight) => {
                Kernel3x3::Winograd(WinogradKernel::of(&weight)?)
            }
            other => other,
        };
        Ok(Self { kernel, ..self })
    }

    /// Of the weight and of what is computed.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The weight (out, 3, 3, in); to f32's last bits where it was transformed.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        match &self.kernel {
            Kernel3x3::Plain(weight) => Ok(weight.clone()),
            Kernel3x3::Winograd(kernel) => kernel.to_tensor(),
        }
    }
}

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

/// What a modulated normalisation makes for the layers behind it: (n·l, d).
pub struct Normalised {
    /// As x was; or e4m3, where those layers are.
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

impl<'a> From<&'a Normalised> for Input<'a> {
    fn from(normal: &'a Normalised) -> Self {
        Self { values: &normal.values, row_scales: normal.row_scales.as_ref() }
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
    GatedResidual {
        /// (n, out)
        gate: &'a Tensor,
        /// (n·l, out)
        residual: &'a Tensor,
    },
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
}

impl Precision {
    /// Of the weights that it does not have in 8 bits, and of everything between the layers.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 | Self::Fp8 => DType::BF16,
        }
    }
}
