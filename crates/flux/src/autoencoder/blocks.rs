//! What encoder and decoder are made of. Activations are channels last, (h, w, c).

use candle_core::Tensor;
use kernels::{Activation, Conv3x3, ConvForm, Epilogue, GroupNorm, Heads, Linear, Scores};

use crate::{Result, checkpoint::VarBuilder, layers};

/// Behind every normalisation but the attention's.
pub(super) const SILU: Option<Activation> = Some(Activation::Silu);

/// The deepest part of encoder and decoder: two residual blocks with attention between them.
pub(super) struct Middle {
    first: Residual,
    attention: Attention,
    second: Residual,
}

impl Middle {
    pub(super) fn load(vb: &VarBuilder<'_>, width: usize, groups: usize) -> Result<Self> {
        let resnets = vb.pp("resnets");
        Ok(Self {
            first: Residual::load(&resnets.pp(0), [width, width], groups)?,
            attention: Attention::load(&vb.pp("attentions.0"), width, groups)?,
            second: Residual::load(&resnets.pp(1), [width, width], groups)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.attention.forward(&self.first.forward(x)?)?)
    }
}

/// x + conv(silu(norm(conv(silu(norm(x))))))
pub(super) struct Residual {
    norm1: GroupNorm,
    conv1: Conv3x3,
    norm2: GroupNorm,
    conv2: Conv3x3,
    /// Where the number of channels changes.
    shortcut: Option<Linear>,
}

impl Residual {
    pub(super) fn load(vb: &VarBuilder<'_>, shape: [usize; 2], groups: usize) -> Result<Self> {
        let [outputs, inputs] = shape;
        Ok(Self {
            norm1: layers::group_norm(&vb.pp("norm1"), inputs, groups)?,
            conv1: layers::conv3x3(&vb.pp("conv1"), [outputs, inputs])?,
            norm2: layers::group_norm(&vb.pp("norm2"), outputs, groups)?,
            conv2: layers::conv3x3(&vb.pp("conv2"), [outputs, outputs])?,
            shortcut: (inputs != outputs)
                .then(|| layers::pointwise(&vb.pp("conv_shortcut"), shape))
                .transpose()?,
        })
    }

    /// (h, w, inputs) → (h, w, outputs)
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // What was read for the last time is freed at once: at full resolution, each takes as much as
        // a limit of memory leaves room for.
        let normal = kernels::group_norm(x, &self.norm1, SILU)?;
        let hidden = kernels::conv3x3(&normal, &self.conv1, ConvForm::Plain)?;
        drop(normal);
        let normal = kernels::group_norm(&hidden, &self.norm2, SILU)?;
        drop(hidden);
        let residual = match &self.shortcut {
            Some(shortcut) => &pointwise(x, shortcut)?,
            None => x,
        };
        Ok(kernels::conv3x3(&normal, &self.conv2, ConvForm::Add(residual))?)
    }
}

/// One head over all pixels.
pub(super) struct Attention {
    norm: GroupNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    out: Linear,
}

impl Attention {
    pub(super) fn load(vb: &VarBuilder<'_>, width: usize, groups: usize) -> Result<Self> {
        Ok(Self {
            norm: layers::group_norm(&vb.pp("group_norm"), width, groups)?,
            qkv: layers::stacked(vb, &["to_q", "to_k", "to_v"], [width, width])?,
            out: layers::linear(&vb.pp("to_out.0"), [width, width])?,
        })
    }

    /// (h, w, c) → (h, w, c)
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width, channels) = x.dims3()?;
        let tokens = height * width;
        // (h, w, c) → (h·w, c)
        let normal = kernels::group_norm(x, &self.norm, None)?.reshape((tokens, channels))?;
        let qkv = kernels::linear(&normal, &self.qkv, Epilogue::None)?;
        // (h·w, 3·c) → 3 × (h·w, 1, c)
        let part = |i| qkv.narrow(1, i * channels, channels)?.unsqueeze(1);
        let heads = Heads { q: part(0)?, k: part(1)?, v: part(2)?, images: 1 };
        let attended = kernels::attention(&heads, Scores::scaled(channels))?;
        let residual = x.reshape((tokens, channels))?;
        let y = kernels::linear(&attended, &self.out, Epilogue::Add(&residual))?;
        Ok(y.reshape((height, width, channels))?)
    }
}

/// A 1×1 convolution: (h, w, in) → (h, w, out)
pub(super) fn pointwise(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let (height, width, channels) = x.dims3()?;
    let flat = x.reshape((height * width, channels))?;
    let y = kernels::linear(&flat, layer, Epilogue::None)?;
    Ok(y.reshape((height, width, layer.outputs()))?)
}
