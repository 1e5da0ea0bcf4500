//! The operations, as models call them, and who computes each.
//!
//! An operation is a method of [`Backend`], a function here, and its composed form in
//! [`reference`](crate::reference).

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::Cuda;
use crate::{
    backend::Backend,
    cpu::{Cpu, CpuBf16, int8},
    operand::{
        Activation, Affine, Conv3x3, ConvForm, Epilogue, GatedResidual, GroupNorm, Heads, Input,
        Int8Weight, Kernel3x3, LayerInput, LayerNorm, Linear, Modulation, RmsNorm, Rotations,
        Scores, Stream, Unpacking, Weight,
    },
    reference::Reference,
};

/// Devices and dtypes that nothing was written for.
struct WithoutKernels;

impl Backend for WithoutKernels {}

/// The kernels for a tensor's device and dtype.
pub(crate) fn backend_of(x: &Tensor) -> &'static dyn Backend {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return &Cuda;
    }
    match (x.device().is_cpu(), x.dtype()) {
        (true, DType::F32) => &Cpu,
        (true, DType::BF16) => &CpuBf16,
        _ => &WithoutKernels,
    }
}

/// The reference for a tensor's device.
pub(crate) fn reference_of(x: &Tensor) -> Reference {
    Reference::beside(backend_of(x))
}

/// The kernel's result, or the reference's where there is none.
fn compute<T>(on: &Tensor, op: impl Fn(&dyn Backend) -> Result<Option<T>>) -> Result<T> {
    if let Some(result) = op(backend_of(on))? {
        return Ok(result);
    }
    match op(&reference_of(on))? {
        Some(result) => Ok(result),
        None => candle_core::bail!("the reference lacks an operation"),
    }
}

/// x (l, in) → what follows x Wᵀ + b: (l, out)
///
/// # Errors
/// As all operations: where shapes or dtypes do not agree, or the device fails.
pub fn linear<'a>(x: impl Into<Input<'a>>, layer: &Linear, then: Epilogue<'_>) -> Result<Tensor> {
    let x = x.into();
    compute(x.values, |on| on.linear(x, layer, then))
}

/// x (l, in) → activation(first half) · second half of linear(x): (l, out/2); T5's feed-forward with GELU,
/// SwiGLU with SiLU.
///
/// # Errors
/// As [`linear`].
pub fn linear_gated<'a>(
    x: impl Into<Input<'a>>,
    layer: &Linear,
    gate: Activation,
) -> Result<Tensor> {
    let x = x.into();
    compute(x.values, |on| on.linear_gated(x, layer, gate))
}

/// ε of every normalisation that is modulated.
const ADA_EPS: f64 = 1e-6;

/// x (n·l, d) → layer norm (no weights, ε = 1e-6) ∘ (1 + scale) + shift
///
/// # Errors
/// As [`linear`].
pub fn ada_layer_norm(x: &Tensor, by: Modulation<'_>) -> Result<Tensor> {
    compute(x, |on| on.layer_norm(x, Affine::Modulation(by), ADA_EPS))
}

/// The same for a layer, and others that are stored as it is: in e4m3 where they are.
///
/// # Errors
/// As [`linear`].
pub fn ada_layer_norm_for(layer: &Linear, x: &Tensor, by: Modulation<'_>) -> Result<LayerInput> {
    if layer.is_e4m3()
        && let Some(normal) = backend_of(x).layer_norm_e4m3(x, Affine::Modulation(by), ADA_EPS)?
    {
        return Ok(normal);
    }
    ada_layer_norm(x, by).map(LayerInput::from)
}

/// Where a branch of a modulated block ends, and another begins: x = residual + gate ∘ layer(hidden), and
/// [`ada_layer_norm_for`] the next layer of x; (n·l, d) each.
///
/// # Errors
/// As [`linear`].
pub fn linear_residual_norm_for<'a>(
    next: &Linear,
    hidden: impl Into<Input<'a>>,
    layer: &Linear,
    onto: GatedResidual<'_>,
    by: Modulation<'_>,
) -> Result<(Tensor, LayerInput)> {
    let (hidden, affine) = (hidden.into(), Affine::Modulation(by));
    let on = backend_of(hidden.values);
    if !on.has_residual_norm()? {
        let x = linear(hidden, layer, Epilogue::GatedResidual(onto))?;
        let normal = ada_layer_norm_for(next, &x, by)?;
        return Ok((x, normal));
    }
    let branch = linear(hidden, layer, Epilogue::None)?;
    if next.is_e4m3()
        && let Some(both) = on.residual_norm_e4m3(&branch, onto, affine, ADA_EPS)?
    {
        return Ok(both);
    }
    let (x, normal) = compute(&branch, |on| on.residual_norm(&branch, onto, affine, ADA_EPS))?;
    Ok((x, normal.into()))
}

/// x (l, d) → (l, d)
///
/// # Errors
/// As [`linear`].
pub fn layer_norm(x: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    let affine = Affine::Weights { weight: &norm.weight, bias: &norm.bias };
    compute(x, |on| on.layer_norm(x, affine, norm.eps))
}

/// x (l, d) → (l, d)
///
/// # Errors
/// As [`linear`].
pub fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    compute(x, |on| on.rms_norm(x, norm))
}

/// Streams of n·l₁, n·l₂, … tokens → heads of n·(l₁ + l₂ + …) tokens, an image's tokens of all streams
/// together: queries and keys normalised over each head's width, then rotated; values as they are.
///
/// # Errors
/// As [`linear`].
pub fn qk_norm_rope(streams: &[Stream<'_>], angles: &Rotations) -> Result<Heads> {
    let Some(first) = streams.first() else { candle_core::bail!("no streams") };
    compute(first.qkv, |on| on.qk_norm_rope(streams, angles))
}

/// softmax(q·kᵀ · scale + mask) · v, heads side by side: (n·l, h·d)
///
/// # Errors
/// As [`linear`].
pub fn attention(heads: &Heads, scores: Scores<'_>) -> Result<Tensor> {
    compute(&heads.q, |on| on.attention(heads, scores))
}

/// The same between layers of which this is one: where those have 8 bits, heads may be rounded to 16 before they are
/// multiplied. So they are, too, in what follows.
///
/// # Errors
/// As [`linear`].
pub fn attention_between(heads: &Heads, scores: Scores<'_>, layer: &Linear) -> Result<Tensor> {
    compute(&heads.q, |on| on.attention_between(heads, scores, layer))
}

/// The two branches of a single-stream block, side by side: attention (n·l, h·d) without mask, then
/// gelu(mlp(x)) (n·l, m): (n·l, h·d + m)
///
/// # Errors
/// As [`linear`].
pub fn attention_beside_mlp<'a>(
    heads: &Heads,
    x: impl Into<Input<'a>>,
    mlp: &Linear,
) -> Result<Tensor> {
    let x = x.into();
    compute(x.values, |on| on.attention_beside_mlp(heads, x, mlp))
}

/// The same with a feed-forward that gates: attention (n·l, h·d), then [`linear_gated`] (n·l, m).
///
/// # Errors
/// As [`linear`].
pub fn attention_beside_gated_mlp<'a>(
    heads: &Heads,
    x: impl Into<Input<'a>>,
    mlp: &Linear,
    gate: Activation,
) -> Result<Tensor> {
    let attended = attention_between(heads, Scores::scaled(heads.q.dim(2)?), mlp)?;
    Tensor::cat(&[attended, linear_gated(x, mlp, gate)?], 1)
}

/// x (h, w, c) → group norm(x), then an activation: (h, w, c)
///
/// # Errors
/// As [`linear`].
pub fn group_norm(x: &Tensor, norm: &GroupNorm, then: Option<Activation>) -> Result<Tensor> {
    compute(x, |on| on.group_norm(x, norm, then))
}

/// x (h, w, in) → (h, w, out), or as the form says.
///
/// # Errors
/// As [`linear`].
pub fn conv3x3(x: &Tensor, conv: &Conv3x3, form: ConvForm<'_>) -> Result<Tensor> {
    compute(x, |on| on.conv3x3(x, conv, form))
}

/// tokens (rows·columns, 4·c), f32 → latent pixels / scaling + shift: (h, w, c)
///
/// # Errors
/// As [`linear`].
pub fn unpack(tokens: &Tensor, how: Unpacking) -> Result<Tensor> {
    compute(tokens, |on| on.unpack(tokens, how))
}

/// image (h, w, 3) in −1 to 1 → 8 bits on the same device, where it has a kernel for that.
///
/// # Errors
/// As [`linear`].
pub fn to_bytes(image: &Tensor) -> Result<Option<Tensor>> {
    backend_of(image).to_bytes(image)
}

/// x (l, d), bf16 → values (l, d), e4m3, and scales (l,), f32, with x ≈ value · scale: each row's largest
/// value becomes 448, the largest of e4m3.
///
/// # Errors
/// Where x is on no GPU.
pub fn quantise_rows(x: &Tensor) -> Result<(Tensor, Tensor)> {
    match backend_of(x).quantise_rows(x)? {
        Some(quantised) => Ok(quantised),
        None => candle_core::bail!("a weight {:?} is on no GPU: 8 bits need one", x.dims()),
    }
}

/// A layer as the device that it computes on reads it fastest: on a CPU, packed. No copy is left of the
/// weight as it was, unless somebody else holds it.
///
/// # Errors
/// Where the weight is not contiguous.
pub fn pack_linear(layer: Linear) -> Result<Linear> {
    let weight = match layer.weight {
        Weight::Plain(weight) => match backend_of(&weight).pack_linear(&weight)? {
            Some(packed) => Weight::Packed(packed),
            None => Weight::Plain(weight),
        },
        Weight::Int8(weight) => Weight::Packed(int8::pack(&weight)?),
        other => other,
    };
    Ok(Linear { weight, ..layer })
}

/// The same of a convolution.
///
/// # Errors
/// As [`pack_linear`].
pub fn pack_conv3x3(conv: Conv3x3) -> Result<Conv3x3> {
    let kernel = match conv.kernel {
        Kernel3x3::Plain(weight) => match backend_of(&weight).pack_conv3x3(&weight)? {
            Some(packed) => Kernel3x3::Packed(packed),
            None => Kernel3x3::Plain(weight),
        },
        other => other,
    };
    Ok(Conv3x3 { kernel, ..conv })
}

/// A weight (out, in) on a CPU, f32 or bf16, in 8-bit integers, with a scale for each 256 inputs of an output, of
/// which the largest becomes 127.
///
/// # Errors
/// Where it is on a GPU, or not contiguous.
pub fn quantise_int8(weight: &Tensor) -> Result<Int8Weight> {
    int8::quantise(weight)
}

/// A layer with its weight in e4m3 and a scale for each row, about half as large. It computes as before, in
/// 8 bits.
///
/// # Errors
/// Where the layer is not on a GPU.
pub fn quantise_linear(layer: Linear) -> Result<Linear> {
    let weight = match layer.weight {
        Weight::Plain(weight) => {
            let (values, row_scales) = quantise_rows(&weight)?;
            Weight::E4m3 { values, row_scales }
        }
        other => other,
    };
    Ok(Linear { weight, ..layer })
}

/// Overwrites a tensor's memory with zeros, all of it, which views share; does nothing on devices that
/// have no kernel for that.
///
/// # Errors
/// Where the device fails.
pub fn wipe(x: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return Cuda.wipe(x).map(|_| ());
    }
    if x.device().is_cpu() { Cpu.wipe(x).map(|_| ()) } else { Ok(()) }
}
