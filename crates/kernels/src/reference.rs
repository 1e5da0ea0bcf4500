//! Every operation composed of plain candle operations: any device, any floating dtype.
//!
//! Slow and plain on purpose: this is what kernels are compared with. Statistics and softmax
//! are computed in f32 whatever the dtype, as diffusers' kernels do.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::{
    backend::Backend,
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GatedResidual, GroupNorm, Heads, Input,
        Linear, Mask, RmsNorm, Rotations, Scores, Stream, Unpacking, Weight, images_of, rows_each,
    },
};

/// It has every operation but those that only kernels need.
pub(crate) struct Reference {
    /// The kernels of the same device. What they store in 8 bits they alone can read: candle 0.11 converts
    /// no e4m3 on a GPU.
    kernels: &'static dyn Backend,
}

impl Backend for Reference {
    fn linear(&self, x: Input<'_>, layer: &Linear, then: Epilogue<'_>) -> Result<Option<Tensor>> {
        let y = self.multiply(x, layer)?;
        Ok(Some(match then {
            Epilogue::None => y,
            Epilogue::Activate(activation) => activate(&y, activation)?,
            Epilogue::Add(residual) => (residual + y)?,
            Epilogue::GatedResidual(onto) => gated_residual(&y, onto)?,
        }))
    }

    fn linear_gated(
        &self,
        x: Input<'_>,
        layer: &Linear,
        gate: Activation,
    ) -> Result<Option<Tensor>> {
        gated(&self.multiply(x, layer)?, gate).map(Some)
    }

    fn layer_norm(&self, x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Option<Tensor>> {
        let normal = standardise(&x.to_dtype(DType::F32)?, eps)?.to_dtype(x.dtype())?;
        Ok(Some(match affine {
            Affine::Modulation(by) => by_image(&normal, by.scale)?
                .broadcast_mul(&(by.scale + 1.0)?.unsqueeze(1)?)?
                .broadcast_add(&by.shift.unsqueeze(1)?)?
                .reshape(x.shape())?,
            Affine::Weights { weight, bias } => {
                normal.broadcast_mul(weight)?.broadcast_add(bias)?
            }
        }))
    }

    fn residual_norm(
        &self,
        branch: &Tensor,
        onto: GatedResidual<'_>,
        affine: Affine<'_>,
        eps: f64,
    ) -> Result<Option<(Tensor, Tensor)>> {
        let x = gated_residual(branch, onto)?;
        let normal = self.layer_norm(&x, affine, eps)?;
        Ok(normal.map(|normal| (x, normal)))
    }

    fn rms_norm(&self, x: &Tensor, norm: &RmsNorm) -> Result<Option<Tensor>> {
        rms_norm(x, norm).map(Some)
    }

    fn qk_norm_rope(&self, streams: &[Stream<'_>], angles: &Rotations) -> Result<Option<Heads>> {
        let images = images_of(streams, angles)?;
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for stream in streams {
            let width = stream.norm_q.weight.elem_count();
            let (rows, joined) = stream.qkv.dims2()?;
            // (n·l, 3·h·d) → (n, l, 3, h, d)
            let shape = [images, rows_each(rows, images)?, 3, joined / (3 * width), width];
            let qkv = stream.qkv.reshape(&shape[..])?;
            q.push(rms_norm(&qkv.narrow(2, 0, 1)?.squeeze(2)?, stream.norm_q)?);
            k.push(rms_norm(&qkv.narrow(2, 1, 1)?.squeeze(2)?, stream.norm_k)?);
            v.push(qkv.narrow(2, 2, 1)?.squeeze(2)?);
        }
        // (n, l₁ + l₂ + …, h, d) → (n·(l₁ + l₂ + …), h, d)
        let joined = |parts: &[Tensor]| Tensor::cat(parts, 1);
        Ok(Some(Heads {
            q: rotate(&joined(&q)?, angles)?.flatten(0, 1)?,
            k: rotate(&joined(&k)?, angles)?.flatten(0, 1)?,
            v: joined(&v)?.flatten(0, 1)?,
            images,
        }))
    }

    fn attention(&self, heads: &Heads, scores: Scores<'_>) -> Result<Option<Tensor>> {
        attention(heads, scores).map(Some)
    }

    fn attention_beside_mlp(
        &self,
        heads: &Heads,
        x: Input<'_>,
        mlp: &Linear,
    ) -> Result<Option<Tensor>> {
        let attended = attention(heads, Scores::scaled(heads.q.dim(2)?))?;
        let hidden = activate(&self.multiply(x, mlp)?, Activation::GeluTanh)?;
        Tensor::cat(&[attended, hidden], 1).map(Some)
    }

    fn group_norm(
        &self,
        x: &Tensor,
        norm: &GroupNorm,
        then: Option<Activation>,
    ) -> Result<Option<Tensor>> {
        let (height, width, channels) = x.dims3()?;
        // (h, w, c) → (g, c/g · h · w)
        let grouped = x
            .to_dtype(DType::F32)?
            .permute((2, 0, 1))?
            .reshape((norm.groups, channels / norm.groups * height * width))?;
        let y = standardise(&grouped, GroupNorm::EPS)?
            .reshape((channels, height, width))?
            .permute((1, 2, 0))?
            .contiguous()?
            .to_dtype(x.dtype())?
            .broadcast_mul(&norm.weight)?
            .broadcast_add(&norm.bias)?;
        then.map_or(Ok(y.clone()), |activation| activate(&y, activation)).map(Some)
    }

    fn conv3x3(&self, x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Option<Tensor>> {
        Ok(Some(match form {
            ConvForm::Plain => conv3x3(x, conv)?,
            ConvForm::Add(residual) => (residual + conv3x3(x, conv)?)?,
            ConvForm::Upsampled => {
                let (height, width, channels) = x.dims3()?;
                // (h, w, c) → (h, 2, w, 2, c) → (2h, 2w, c)
                let upsampled = x
                    .reshape((height, 1, width, 1, channels))?
                    .broadcast_as((height, 2, width, 2, channels))?
                    .reshape((2 * height, 2 * width, channels))?;
                conv3x3(&upsampled, conv)?
            }
        }))
    }

    fn unpack(&self, tokens: &Tensor, how: Unpacking) -> Result<Option<Tensor>> {
        let ([rows, columns], channels) = (how.grid, how.channels);
        // (rows·columns, 4c) → (rows, columns, c, 2, 2) → (rows, 2, columns, 2, c) → (h, w, c)
        let pixels = tokens
            .reshape(&[rows, columns, channels, 2, 2][..])?
            .permute([0, 3, 1, 4, 2])?
            .reshape((2 * rows, 2 * columns, channels))?;
        ((pixels / how.scaling)? + how.shift)?.to_dtype(how.dtype).map(Some)
    }

    fn to_bytes(&self, image: &Tensor) -> Result<Option<Tensor>> {
        let values = (((image * 0.5)? + 0.5)?.clamp(0f32, 1f32)? * 255.0)?;
        values.round()?.to_dtype(DType::U8).map(Some)
    }
}

impl Reference {
    /// The reference for the device of these kernels.
    pub(crate) const fn beside(kernels: &'static dyn Backend) -> Self {
        Self { kernels }
    }

    /// x Wᵀ + b
    fn multiply(&self, x: Input<'_>, layer: &Linear) -> Result<Tensor> {
        let x = self.plain(x)?;
        let y = matmul(&x, &self.weight(layer, x.dtype())?.t()?)?;
        layer.bias.as_ref().map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
    }

    /// Rows as they were before they were stored in e4m3, as far as that is known: (l, in).
    pub(crate) fn plain(&self, x: Input<'_>) -> Result<Tensor> {
        match x.row_scales {
            None => Ok(x.values.clone()),
            Some(scales) => self.dequantised(x.values, scales)?.to_dtype(DType::BF16),
        }
    }

    /// A weight (out, in) as it was before it was packed or quantised, as far as that is known.
    pub(crate) fn weight(&self, layer: &Linear, dtype: DType) -> Result<Tensor> {
        match &layer.weight {
            Weight::Plain(weight) => Ok(weight.clone()),
            Weight::E4m3 { values, row_scales } => {
                self.dequantised(values, row_scales)?.to_dtype(dtype)
            }
            Weight::Int8(weight) => crate::cpu::int8::dequantise(weight)?.to_dtype(dtype),
            Weight::Packed(packed) => packed.to_tensor(),
        }
    }

    /// e4m3 (l, d) and a scale for each row → f32
    pub(crate) fn dequantised(&self, values: &Tensor, scales: &Tensor) -> Result<Tensor> {
        match self.kernels.dequantise_rows(values, scales)? {
            Some(plain) => Ok(plain),
            None => values.to_dtype(DType::F32)?.broadcast_mul(&scales.unsqueeze(1)?),
        }
    }
}

/// a · b
fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    multiplied(a)?.matmul(&multiplied(b)?)?.to_dtype(a.dtype())
}

/// As it is multiplied: candle 0.11 has no products in bf16 on a CPU.
fn multiplied(x: &Tensor) -> Result<Tensor> {
    let is_bf16_on_cpu = x.device().is_cpu() && x.dtype() == DType::BF16;
    if is_bf16_on_cpu { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}

/// (l, 2m) → activation(first half) · second half: (l, m)
pub(crate) fn gated(both: &Tensor, gate: Activation) -> Result<Tensor> {
    let halves = both.chunk(2, 1)?;
    activate(&halves[0], gate)? * &halves[1]
}

fn gated_residual(branch: &Tensor, onto: GatedResidual<'_>) -> Result<Tensor> {
    let GatedResidual { gate, residual } = onto;
    let gated = by_image(branch, gate)?.broadcast_mul(&gate.unsqueeze(1)?)?;
    residual + gated.reshape(residual.shape())?
}

fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean_square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    wide.broadcast_div(&(mean_square + norm.eps)?.sqrt()?)?
        .to_dtype(x.dtype())?
        .broadcast_mul(&norm.weight)
}

fn attention(heads: &Heads, scores: Scores<'_>) -> Result<Tensor> {
    let [length, count, width] = heads.shape()?;
    // (n·l, h, d) → (n, h, l, d)
    let apart = (heads.images, length, count, width);
    let [q, k, v] =
        [&heads.q, &heads.k, &heads.v].map(|x| x.reshape(apart)?.transpose(1, 2)?.contiguous());
    let products = matmul(&q?, &k?.t()?)?.to_dtype(DType::F32)?;
    let products = (products * f64::from(scores.scale))?;
    let products = match scores.mask {
        Mask::None => products,
        Mask::Causal => products.broadcast_add(&causal(length, heads.q.device())?)?,
        Mask::Bias(bias) => products.broadcast_add(&bias.to_dtype(DType::F32)?)?,
    };
    let weights = softmax(&products)?.to_dtype(heads.q.dtype())?;
    // (n, h, l, d) → (n·l, h·d)
    matmul(&weights, &v?)?.transpose(1, 2)?.reshape((heads.images * length, count * width))
}

fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    // (h, w, c) → (1, c, h, w), and the weight (o, 3, 3, c) → (o, c, 3, 3)
    let planes = x.permute((2, 0, 1))?.contiguous()?.unsqueeze(0)?;
    let weight = conv.weight()?.permute((0, 3, 1, 2))?.contiguous()?;
    // (1, o, h, w) → (h, w, o)
    let (planes, weight) = (multiplied(&planes)?, multiplied(&weight)?);
    let y = planes.conv2d(&weight, 1, 1, 1, 1)?.to_dtype(x.dtype())?;
    let y = y.squeeze(0)?.permute((1, 2, 0))?.contiguous()?;
    y.broadcast_add(&conv.bias)
}

/// x (n·l, d) → (n, l, d), as many images as `of` has rows.
fn by_image(x: &Tensor, of: &Tensor) -> Result<Tensor> {
    let ((rows, width), images) = (x.dims2()?, of.dim(0)?);
    x.reshape((images, rows_each(rows, images)?, width))
}

/// (x − mean) / √(var + ε) over the last dimension, f32.
fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

fn activate(x: &Tensor, act: Activation) -> Result<Tensor> {
    match act {
        Activation::GeluTanh => x.gelu(),
        Activation::GeluErf => x.gelu_erf(),
        Activation::Relu => x.relu(),
        Activation::QuickGelu => x / ((x * -1.702)?.exp()? + 1.0)?,
        Activation::Silu => x.silu(),
    }
}

/// Rotates each pair of neighbours (x₂ᵢ, x₂ᵢ₊₁) of a head by its angle, in f32. x (n, l, h, d).
fn rotate(x: &Tensor, rotations: &Rotations) -> Result<Tensor> {
    let (images, length, count, width) = x.dims4()?;
    // (n, l, h, d) → (n, l, h, d/2, 2)
    let shape = [images, length, count, width / 2, 2];
    let pairs = x.to_dtype(DType::F32)?.reshape(&shape[..])?;
    let (even, odd) = (pairs.narrow(4, 0, 1)?.squeeze(4)?, pairs.narrow(4, 1, 1)?.squeeze(4)?);
    let (cos, sin) = (rotations.cos.unsqueeze(1)?, rotations.sin.unsqueeze(1)?);
    let real = (even.broadcast_mul(&cos)? - odd.broadcast_mul(&sin)?)?;
    let imaginary = (odd.broadcast_mul(&cos)? + even.broadcast_mul(&sin)?)?;
    // 2 × (n, l, h, d/2) → (n, l, h, d/2, 2) → (n, l, h, d)
    Tensor::stack(&[real, imaginary], 4)?.reshape(x.shape())?.to_dtype(x.dtype())
}

/// (l, l): 0 where the key is not behind the query, −∞ elsewhere.
fn causal(length: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..length * length)
        .map(|i| if i % length > i / length { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    Tensor::from_vec(mask, (length, length), device)
}

/// Over the last dimension, f32.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let weights = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}
