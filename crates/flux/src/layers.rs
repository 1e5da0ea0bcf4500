//! Weights of the layers that every part of the model is made of. What they compute is in
//! [`crate::ops`].

use candle_core::{Device, Tensor};

use crate::{Result, checkpoint::Scope};

/// y = x Wᵀ + b
pub(crate) struct Linear {
    /// (out, in)
    pub(crate) weight: Tensor,
    /// (out,)
    pub(crate) bias: Option<Tensor>,
    /// Of a weight that is stored in e4m3: what each of its rows is multiplied by. (out,), f32.
    pub(crate) row_scales: Option<Tensor>,
}

impl Linear {
    /// `weight` (out, in) and `bias` (out,) of a scope.
    pub(crate) fn load(scope: &Scope<'_>, [outputs, inputs]: [usize; 2]) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs])?;
        Ok(Self { weight, bias: Some(scope.tensor("bias", &[outputs])?), row_scales: None })
    }

    /// `weight` (out, in) alone.
    pub(crate) fn load_unbiased(scope: &Scope<'_>, [outputs, inputs]: [usize; 2]) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs])?;
        Ok(Self { weight, bias: None, row_scales: None })
    }

    /// A 1×1 convolution, which is a linear layer on channels-last pixels:
    /// `weight` (out, in, 1, 1) and `bias` (out,).
    pub(crate) fn load_pointwise(scope: &Scope<'_>, [outputs, inputs]: [usize; 2]) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs, 1, 1])?;
        // (out, in, 1, 1) → (out, in)
        let weight = weight.reshape((outputs, inputs))?;
        Ok(Self { weight, bias: Some(scope.tensor("bias", &[outputs])?), row_scales: None })
    }

    /// Several layers of the same input as one: their outputs side by side.
    pub(crate) fn stack(layers: &[Self]) -> Result<Self> {
        let weights: Vec<&Tensor> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Option<Vec<&Tensor>> = layers.iter().map(|layer| layer.bias.as_ref()).collect();
        Ok(Self {
            weight: Tensor::cat(&weights, 0)?,
            bias: biases.map(|biases| Tensor::cat(&biases, 0)).transpose()?,
            row_scales: None,
        })
    }

    /// The same layer on a device; no copy where it is there.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        let moved = |tensor: &Option<Tensor>| {
            tensor.as_ref().map(|tensor| tensor.to_device(device)).transpose()
        };
        Ok(Self {
            weight: self.weight.to_device(device)?,
            bias: moved(&self.bias)?,
            row_scales: moved(&self.row_scales)?,
        })
    }

    /// Length of an output row.
    pub(crate) fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }
}

/// y = (x − mean) / √(var + ε) · w + b over the last dimension.
pub(crate) struct LayerNorm {
    /// (d,)
    pub(crate) weight: Tensor,
    /// (d,)
    pub(crate) bias: Tensor,
    pub(crate) eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(scope: &Scope<'_>, width: usize, eps: f64) -> Result<Self> {
        let weight = scope.tensor("weight", &[width])?;
        Ok(Self { weight, bias: scope.tensor("bias", &[width])?, eps })
    }

    /// The same on a device; no copy where it is there.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        let (weight, bias) = (self.weight.to_device(device)?, self.bias.to_device(device)?);
        Ok(Self { weight, bias, eps: self.eps })
    }
}

/// y = x / √(mean(x²) + ε) · w over the last dimension.
pub(crate) struct RmsNorm {
    /// (d,)
    pub(crate) weight: Tensor,
    pub(crate) eps: f64,
}

impl RmsNorm {
    pub(crate) fn load(scope: &Scope<'_>, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[width])?, eps })
    }

    /// The same on a device; no copy where it is there.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { weight: self.weight.to_device(device)?, eps: self.eps })
    }
}

/// Normalises each group of channels over the whole picture, then scales and shifts each channel.
pub(crate) struct GroupNorm {
    /// (c,)
    pub(crate) weight: Tensor,
    /// (c,)
    pub(crate) bias: Tensor,
    pub(crate) groups: usize,
}

impl GroupNorm {
    /// What diffusers gives every group normalisation of the autoencoder.
    pub(crate) const EPS: f64 = 1e-6;

    pub(crate) fn load(scope: &Scope<'_>, channels: usize, groups: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[channels])?;
        Ok(Self { weight, bias: scope.tensor("bias", &[channels])?, groups })
    }
}

/// A 3×3 convolution of stride 1 that keeps the size (one pixel of zeros around).
pub(crate) struct Conv3x3 {
    /// (out, 3, 3, in): channels last, as the activations are.
    pub(crate) weight: Tensor,
    /// (out,)
    pub(crate) bias: Tensor,
}

impl Conv3x3 {
    /// `weight` (out, in, 3, 3) and `bias` (out,) of a scope.
    pub(crate) fn load(scope: &Scope<'_>, [outputs, inputs]: [usize; 2]) -> Result<Self> {
        let weight = scope.tensor("weight", &[outputs, inputs, 3, 3])?;
        // (out, in, 3, 3) → (out, 3, 3, in)
        let weight = weight.permute((0, 2, 3, 1))?.contiguous()?;
        Ok(Self { weight, bias: scope.tensor("bias", &[outputs])? })
    }
}
