//! From a model's tensors to its layers, each stored as it computes from the moment it is built.

use candle_core::Tensor;
use kernels::{Conv3x3, GroupNorm, LayerNorm, Linear, RmsNorm, Weight};

use crate::{
    Result,
    checkpoint::{NamedTensors, VarBuilder},
};

/// The scales of a weight that was quantised as soon as it was read: `row_scales` beside `weight`.
const ROW_SCALES: &str = "row_scales";

/// `weight` (out, in) and `bias` (out,).
pub(crate) fn linear(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    packed(vb, Linear::new(vb.get("weight", &shape)?, Some(vb.get("bias", &shape[..1])?)))
}

/// `weight` (out, in) alone.
pub(crate) fn linear_unbiased(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    packed(vb, Linear::new(vb.get("weight", &shape)?, None))
}

/// A 1×1 convolution, which is a linear layer on channels-last pixels:
/// `weight` (out, in, 1, 1) and `bias` (out,).
pub(crate) fn pointwise(vb: &VarBuilder<'_>, [outputs, inputs]: [usize; 2]) -> Result<Linear> {
    let weight = vb.get("weight", &[outputs, inputs, 1, 1])?;
    // (out, in, 1, 1) → (out, in)
    let weight = weight.reshape((outputs, inputs))?;
    packed(vb, Linear::new(weight, Some(vb.get("bias", &[outputs])?)))
}

/// Several layers of the same input as one, their outputs side by side.
pub(crate) fn stacked(vb: &VarBuilder<'_>, names: &[&str], shape: [usize; 2]) -> Result<Linear> {
    let bias = |vb: &VarBuilder<'_>| vb.get("bias", &shape[..1]).map(Some);
    stack(vb, names, |vb| Ok(Linear::new(vb.get("weight", &shape)?, bias(vb)?)))
}

/// The same without biases.
pub(crate) fn stacked_unbiased(
    vb: &VarBuilder<'_>,
    names: &[&str],
    shape: [usize; 2],
) -> Result<Linear> {
    stack(vb, names, |vb| Ok(Linear::new(vb.get("weight", &shape)?, None)))
}

fn stack(
    vb: &VarBuilder<'_>,
    names: &[&str],
    part: impl Fn(&VarBuilder<'_>) -> Result<Linear>,
) -> Result<Linear> {
    let parts = names.iter().map(|name| part(&vb.pp(name))).collect::<Result<Vec<_>>>()?;
    packed(vb, Linear::stack(&parts)?)
}

/// A layer of a transformer's block: as [`linear`], or in 8 bits where those are asked for.
pub(crate) fn block_linear(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    quantised(vb, block_part(vb, shape)?)
}

/// Queries, keys and values (out, in) each as one such layer: under `fused`, or joined from three.
pub(crate) fn block_qkv(
    vb: &VarBuilder<'_>,
    fused: &str,
    parts: [&str; 3],
    [outputs, inputs]: [usize; 2],
) -> Result<Linear> {
    let one = vb.pp(fused);
    if one.has("weight") {
        return quantised(vb, block_part(&one, [3 * outputs, inputs])?);
    }
    let part = |name| block_part(&vb.pp(name), [outputs, inputs]);
    quantised(vb, Linear::stack(&parts.map(part).into_iter().collect::<Result<Vec<_>>>()?)?)
}

/// With its scales, where it was quantised when it was read.
fn block_part(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    let weight = vb.get("weight", &shape)?;
    let weight = if vb.storage.e4m3 && vb.has(ROW_SCALES) {
        Weight::E4m3 { values: weight, row_scales: vb.get(ROW_SCALES, &shape[..1])? }
    } else {
        Weight::Plain(weight)
    };
    Ok(Linear { weight, bias: Some(vb.get("bias", &shape[..1])?) })
}

fn quantised(vb: &VarBuilder<'_>, layer: Linear) -> Result<Linear> {
    if vb.storage.e4m3 { Ok(kernels::quantise_linear(layer)?) } else { packed(vb, layer) }
}

fn packed(vb: &VarBuilder<'_>, layer: Linear) -> Result<Linear> {
    if vb.storage.packed { Ok(kernels::pack_linear(layer)?) } else { Ok(layer) }
}

/// A weight that was just read, as it is kept: in e4m3 with its scales beside it. So the device never holds
/// more than one layer that is not.
pub(crate) fn quantise_as_read(name: String, weight: Tensor) -> Result<NamedTensors> {
    let (values, row_scales) = kernels::quantise_rows(&weight)?;
    let scales_name = format!("{}{ROW_SCALES}", name.strip_suffix("weight").unwrap_or(&name));
    Ok(vec![(name, values), (scales_name, row_scales)])
}

/// `weight` (d,) and `bias` (d,).
pub(crate) fn layer_norm(vb: &VarBuilder<'_>, width: usize, eps: f64) -> Result<LayerNorm> {
    Ok(LayerNorm { weight: vb.get("weight", &[width])?, bias: vb.get("bias", &[width])?, eps })
}

/// `weight` (d,)
pub(crate) fn rms_norm(vb: &VarBuilder<'_>, width: usize, eps: f64) -> Result<RmsNorm> {
    Ok(RmsNorm { weight: vb.get("weight", &[width])?, eps })
}

/// `weight` (c,) and `bias` (c,).
pub(crate) fn group_norm(vb: &VarBuilder<'_>, channels: usize, groups: usize) -> Result<GroupNorm> {
    let weight = vb.get("weight", &[channels])?;
    Ok(GroupNorm { weight, bias: vb.get("bias", &[channels])?, groups })
}

/// `weight` (out, in, 3, 3) and `bias` (out,).
pub(crate) fn conv3x3(vb: &VarBuilder<'_>, [outputs, inputs]: [usize; 2]) -> Result<Conv3x3> {
    let weight = vb.get("weight", &[outputs, inputs, 3, 3])?;
    // (out, in, 3, 3) → (out, 3, 3, in)
    let weight = weight.permute((0, 2, 3, 1))?.contiguous()?;
    let conv = Conv3x3::new(weight, vb.get("bias", &[outputs])?);
    if vb.storage.packed { Ok(kernels::pack_conv3x3(conv)?) } else { Ok(conv) }
}
