//! From a model's tensors to its layers, each stored as it computes from the moment it is built.

use candle_core::Tensor;
use kernels::{Conv3x3, GroupNorm, Int8Weight, LayerNorm, Linear, RmsNorm, Weight};

use crate::{
    Result,
    checkpoint::{NamedTensors, VarBuilder, renaming::FusedQkv},
    storage::In8Bits,
};

/// The scales of a weight that was quantised as soon as it was read: `scales` beside `weight`.
const SCALES: &str = "scales";

/// Whether a model's layers have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Biases {
    With,
    Without,
}

/// `weight` (out, in), and `bias` (out,) where there is one.
pub(crate) fn linear_with(
    vb: &VarBuilder<'_>,
    shape: [usize; 2],
    biases: Biases,
) -> Result<Linear> {
    match biases {
        Biases::With => linear(vb, shape),
        Biases::Without => linear_unbiased(vb, shape),
    }
}

/// `weight` (out, in) and `bias` (out,).
pub(crate) fn linear(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    packed(vb, part(vb, shape, Biases::With)?)
}

/// `weight` (out, in) alone.
pub(crate) fn linear_unbiased(vb: &VarBuilder<'_>, shape: [usize; 2]) -> Result<Linear> {
    packed(vb, part(vb, shape, Biases::Without)?)
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
    stack(vb, names, |vb| part(vb, shape, Biases::With))
}

/// The same without biases.
pub(crate) fn stacked_unbiased(
    vb: &VarBuilder<'_>,
    names: &[&str],
    shape: [usize; 2],
) -> Result<Linear> {
    stack(vb, names, |vb| part(vb, shape, Biases::Without))
}

/// `q_proj`, `k_proj` and `v_proj` as one layer, of heads of queries and of keys and values, (d, in) each. The
/// rotation pairs an element with the one half a head further on; kernels rotate neighbours, and so the rows of
/// queries and keys are put beside their partners.
pub(crate) fn interleaved_qkv(
    vb: &VarBuilder<'_>,
    [queries, groups]: [usize; 2],
    [head, inputs]: [usize; 2],
) -> Result<Linear> {
    let rows = |name, heads| part(&vb.pp(name), [heads * head, inputs], Biases::Without);
    let interleaved = |name, heads| -> Result<Linear> {
        // (h, 2, d/2, in) → (h, d/2, 2, in)
        let each = |weight: &Tensor| {
            let apart = weight.reshape((heads, 2, head / 2, weight.dim(1)?))?;
            apart.transpose(1, 2)?.reshape(weight.shape())
        };
        Ok(rows(name, heads)?.with_rows(each)?)
    };
    let parts =
        [interleaved("q_proj", queries)?, interleaved("k_proj", groups)?, rows("v_proj", groups)?];
    packed(vb, Linear::stack(&parts)?)
}

/// `weight` (d,) of a normalisation over such heads.
pub(crate) fn interleaved_rms_norm(vb: &VarBuilder<'_>, head: usize, eps: f64) -> Result<RmsNorm> {
    // (2, d/2) → (d/2, 2)
    let weight = vb.get("weight", &[head])?.reshape((2, head / 2))?.t()?.reshape(head)?;
    Ok(RmsNorm { weight, eps })
}

fn stack(
    vb: &VarBuilder<'_>,
    names: &[&str],
    part: impl Fn(&VarBuilder<'_>) -> Result<Linear>,
) -> Result<Linear> {
    let parts = names.iter().map(|name| part(&vb.pp(name))).collect::<Result<Vec<_>>>()?;
    packed(vb, Linear::stack(&parts)?)
}

/// A layer of a transformer's block: as [`linear`], or in e4m3 where that is asked for.
pub(crate) fn block_linear(
    vb: &VarBuilder<'_>,
    shape: [usize; 2],
    biases: Biases,
) -> Result<Linear> {
    of_block(vb, part(vb, shape, biases)?)
}

/// Two such layers whose weights are one tensor, the first one's rows before the second one's.
pub(crate) fn block_linears(
    vb: &VarBuilder<'_>,
    [first, second]: [usize; 2],
    inputs: usize,
) -> Result<[Linear; 2]> {
    let both = part(vb, [first + second, inputs], Biases::Without)?;
    let cut = |from, rows| of_block(vb, both.rows(from, rows)?);
    Ok([cut(0, first)?, cut(first, second)?])
}

/// Queries, keys and values (out, in) each as one such layer: as it is there whole, or joined from three.
pub(crate) fn block_qkv(
    vb: &VarBuilder<'_>,
    names: &FusedQkv,
    [outputs, inputs]: [usize; 2],
    biases: Biases,
) -> Result<Linear> {
    let one = vb.pp(names.whole);
    if one.has("weight") {
        return of_block(vb, part(&one, [3 * outputs, inputs], biases)?);
    }
    let third = |name| part(&vb.pp(name), [outputs, inputs], biases);
    of_block(vb, Linear::stack(&names.parts.map(third).into_iter().collect::<Result<Vec<_>>>()?)?)
}

/// A layer, or a part of one, as it was read: with its scales, where it was quantised then.
fn part(vb: &VarBuilder<'_>, shape: [usize; 2], biases: Biases) -> Result<Linear> {
    let values = vb.get("weight", &shape)?;
    let weight = match vb.storage.in_8_bits {
        In8Bits::Blocks if vb.has(SCALES) => {
            Weight::E4m3 { values, row_scales: vb.get(SCALES, &shape[..1])? }
        }
        In8Bits::All if vb.has(SCALES) => {
            let scales = vb.get(SCALES, &Int8Weight::scales_shape(shape))?;
            Weight::Int8(Int8Weight { values, scales })
        }
        _ => Weight::Plain(values),
    };
    let bias = match biases {
        Biases::With => Some(vb.get("bias", &shape[..1])?),
        Biases::Without => None,
    };
    Ok(Linear { weight, bias })
}

fn of_block(vb: &VarBuilder<'_>, layer: Linear) -> Result<Linear> {
    match vb.storage.in_8_bits {
        In8Bits::Blocks => Ok(kernels::quantise_linear(layer)?),
        In8Bits::None | In8Bits::All => packed(vb, layer),
    }
}

fn packed(vb: &VarBuilder<'_>, layer: Linear) -> Result<Linear> {
    let layer = match (vb.storage.in_8_bits, layer.weight) {
        (In8Bits::All, Weight::Plain(weight)) => {
            Linear { weight: Weight::Int8(kernels::quantise_int8(&weight)?), ..layer }
        }
        (_, weight) => Linear { weight, ..layer },
    };
    if vb.storage.packed { Ok(kernels::pack_linear(layer)?) } else { Ok(layer) }
}

/// A weight that was just read, as it is kept: in e4m3 with its scales beside it. So the device never holds
/// more than one layer that is not.
pub(crate) fn e4m3_as_read(name: String, weight: &Tensor) -> Result<NamedTensors> {
    let (values, row_scales) = kernels::quantise_rows(weight)?;
    Ok(with_scales(name, values, row_scales))
}

/// The same in integers.
pub(crate) fn int8_as_read(name: String, weight: &Tensor) -> Result<NamedTensors> {
    let Int8Weight { values, scales } = kernels::quantise_int8(weight)?;
    Ok(with_scales(name, values, scales))
}

fn with_scales(name: String, values: Tensor, scales: Tensor) -> NamedTensors {
    let scales_name = format!("{}{SCALES}", name.strip_suffix("weight").unwrap_or(&name));
    vec![(name, values), (scales_name, scales)]
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

/// A 3×3 convolution's `weight` (out, in, 3, 3) and `bias` (out,) as a layer of the nine pixels side by side:
/// (out, 3·3·in).
pub(crate) fn conv3x3_as_product(
    vb: &VarBuilder<'_>,
    [outputs, inputs]: [usize; 2],
) -> Result<Linear> {
    let weight = vb.get("weight", &[outputs, inputs, 3, 3])?;
    // (out, in, 3, 3) → (out, 3, 3, in) → (out, 9·in)
    let weight = weight.permute((0, 2, 3, 1))?.reshape((outputs, 9 * inputs))?;
    packed(vb, Linear::new(weight, Some(vb.get("bias", &[outputs])?)))
}

/// `weight` (out, in, 3, 3) and `bias` (out,).
pub(crate) fn conv3x3(vb: &VarBuilder<'_>, [outputs, inputs]: [usize; 2]) -> Result<Conv3x3> {
    let weight = vb.get("weight", &[outputs, inputs, 3, 3])?;
    // (out, in, 3, 3) → (out, 3, 3, in)
    let weight = weight.permute((0, 2, 3, 1))?.contiguous()?;
    let conv = Conv3x3::new(weight, vb.get("bias", &[outputs])?);
    if vb.storage.packed { Ok(kernels::pack_conv3x3(conv)?) } else { Ok(conv) }
}
