//! Layers' weights, and how backends keep them.

use candle_core::{DType, Device, Result, Tensor};

use crate::{
    backend,
    cpu::{Panels, VnniPanels, WinogradKernel},
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
    /// bf16 on the CPU, likewise.
    Vnni(VnniPanels),
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

    /// The same layer as the device that it computes on reads it fastest: on a CPU, packed. No copy is left of the weight as it was, unless somebody else holds it.
    ///
    /// # Errors
    /// Where the weight is not contiguous.
    pub fn packed(self) -> Result<Self> {
        let weight = match self.weight {
            Weight::Plain(weight) if backend::is_f32_on_cpu(&weight) => {
                Weight::Panels(Panels::of(&weight)?)
            }
            Weight::Plain(weight) if backend::is_bf16_on_cpu(&weight) => {
                Weight::Vnni(VnniPanels::of_linear(&weight)?)
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
            Weight::Vnni(panels) if device.is_cpu() => Weight::Vnni(panels.clone()),
            Weight::Vnni(panels) => Weight::Plain(panels.to_tensor()?.to_device(device)?),
        };
        Ok(Self { weight, bias: on(&self.bias, device)? })
    }

    /// Length of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.weight {
            Weight::Plain(weight) | Weight::E4m3 { values: weight, .. } => weight.dims()[0],
            Weight::Panels(panels) => panels.outputs(),
            Weight::Vnni(panels) => panels.outputs(),
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
            Self::Vnni(panels) => panels.to_tensor(),
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
    /// bf16 on the CPU, in the order in which its kernel reads it.
    Vnni(VnniPanels),
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
            Kernel3x3::Plain(weight) if backend::is_f32_on_cpu(&weight) => {
                Kernel3x3::Winograd(WinogradKernel::of(&weight)?)
            }
            Kernel3x3::Plain(weight) if backend::is_bf16_on_cpu(&weight) => {
                Kernel3x3::Vnni(VnniPanels::of_kernel(&weight)?)
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
            Kernel3x3::Vnni(kernel) => kernel.to_tensor(),
        }
    }
}
