//! Layers' weights, and how backends keep them.

use std::{any::Any, sync::Arc};

use candle_core::{DType, Device, Result, Tensor};

/// A weight on the CPU in the order in which a kernel there reads it.
pub trait PackedWeight: Any + Send + Sync {
    /// Length of an output row, or channels of an output pixel.
    fn outputs(&self) -> usize;

    /// The weight as it was, (out, in) or (out, 3, 3, in); to f32's last bits where it was transformed.
    ///
    /// # Errors
    /// Where there is no memory for it.
    fn to_tensor(&self) -> Result<Tensor>;
}

/// What one kind of kernel packed; `None` where another did.
pub(crate) fn packed_as<T: PackedWeight>(packed: &dyn PackedWeight) -> Option<&T> {
    (packed as &dyn Any).downcast_ref()
}

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
    /// In 8 bits with a scale for each 256 inputs of a row, for a CPU.
    Int8(Int8Weight),
    /// As a kernel of the CPU reads it.
    Packed(Arc<dyn PackedWeight>),
}

/// A weight (out, in) in 8 bits: value · scale, of integers from −127 to 127.
#[derive(Clone)]
pub struct Int8Weight {
    /// The integers, in two's complement: (out, in), u8.
    pub values: Tensor,
    /// (out, in / 256, rounded up), f32
    pub scales: Tensor,
}

impl Int8Weight {
    /// Inputs of an output that share a scale.
    pub(crate) const GROUP: usize = 256;

    /// Of the scales of a weight (out, in).
    #[must_use]
    pub fn scales_shape([outputs, inputs]: [usize; 2]) -> [usize; 2] {
        [outputs, inputs.div_ceil(Self::GROUP)]
    }

    /// The same with something done to values and scales alike.
    fn each(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { values: f(&self.values)?, scales: f(&self.scales)? })
    }
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
        let biases: Option<Vec<&Tensor>> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        // The tensors of each, where all are stored in one way.
        let all = |tensors: fn(&Weight) -> Option<[&Tensor; 2]>| -> Option<[Vec<&Tensor>; 2]> {
            let all: Option<Vec<_>> = layers.iter().map(|layer| tensors(&layer.weight)).collect();
            all.map(|all| [0, 1].map(|i| all.iter().map(|each| each[i]).collect()))
        };
        let weight = if let Some([weights, _]) = all(|w| w.tensor().map(|weight| [weight; 2])) {
            Weight::Plain(cat(weights)?)
        } else if let Some([values, row_scales]) = all(Weight::e4m3) {
            Weight::E4m3 { values: cat(values)?, row_scales: cat(row_scales)? }
        } else if let Some([values, scales]) = all(Weight::int8) {
            Weight::Int8(Int8Weight { values: cat(values)?, scales: cat(scales)? })
        } else {
            candle_core::bail!("layers that are stored differently are not one")
        };
        Ok(Self { weight, bias: biases.map(cat).transpose()? })
    }

    /// The layer of some of its outputs, which shares its memory.
    ///
    /// # Errors
    /// Where there are not as many, or the layer is packed.
    pub fn rows(&self, first: usize, count: usize) -> Result<Self> {
        let cut = |tensor: &Tensor| tensor.narrow(0, first, count);
        let weight = match &self.weight {
            Weight::Plain(weight) => Weight::Plain(cut(weight)?),
            Weight::E4m3 { values, row_scales } => {
                Weight::E4m3 { values: cut(values)?, row_scales: cut(row_scales)? }
            }
            Weight::Int8(weight) => Weight::Int8(weight.each(cut)?),
            Weight::Packed(_) => candle_core::bail!("a layer that is packed is not cut"),
        };
        Ok(Self { weight, bias: self.bias.as_ref().map(cut).transpose()? })
    }

    /// The layer with its outputs in another order, which `f` gives to (out, …), whatever a row has.
    ///
    /// # Errors
    /// As `f`; where the layer has a bias, is in e4m3, or is packed.
    pub fn with_rows(self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let weight = match (&self.weight, &self.bias) {
            (Weight::Plain(weight), None) => Weight::Plain(f(weight)?),
            (Weight::Int8(weight), None) => Weight::Int8(weight.each(f)?),
            _ => candle_core::bail!("the rows of such a layer are not moved"),
        };
        Ok(Self { weight, bias: None })
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
            Weight::Int8(weight) => Weight::Int8(weight.each(|tensor| tensor.to_device(device))?),
            Weight::Packed(packed) if device.is_cpu() => Weight::Packed(packed.clone()),
            Weight::Packed(packed) => Weight::Plain(packed.to_tensor()?.to_device(device)?),
        };
        Ok(Self { weight, bias: on(&self.bias, device)? })
    }

    /// Length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Weight::Plain(values)
            | Weight::E4m3 { values, .. }
            | Weight::Int8(Int8Weight { values, .. }) => values.dims()[0],
            Weight::Packed(packed) => packed.outputs(),
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

    fn e4m3(&self) -> Option<[&Tensor; 2]> {
        if let Self::E4m3 { values, row_scales } = self { Some([values, row_scales]) } else { None }
    }

    fn int8(&self) -> Option<[&Tensor; 2]> {
        if let Self::Int8(Int8Weight { values, scales }) = self {
            Some([values, scales])
        } else {
            None
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
    /// As a kernel of the CPU reads it.
    Packed(Arc<dyn PackedWeight>),
}

impl Conv3x3 {
    /// Of a weight (out, 3, 3, in) and a bias (out,).
    #[must_use]
    pub fn new(weight: Tensor, bias: Tensor) -> Self {
        let dtype = weight.dtype();
        Self { kernel: Kernel3x3::Plain(weight), bias, dtype }
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
            Kernel3x3::Packed(packed) => packed.to_tensor(),
        }
    }
}
