//! Linear layers through cublasLt, with what follows them fused in or run in place behind.

mod matmul;
mod plan;

use candle_core::{DType, Tensor};

use crate::{
    cuda::{
        Error, Result,
        context::{self, Context, lock},
        pointwise::Filled,
        quantise,
        tensor::{Operand, Output, check_shape, device},
    },
    groups::{self, Group},
    operand::{Activation, Epilogue, GatedResidual, Input, Linear, Weight},
};

use matmul::Matmul;
use plan::{Fused, Matrices, Problem};

const NAME: &str = "linear";

/// What the product is, and so what its input stands for.
fn dtype_of(x: Input<'_>) -> DType {
    if x.row_scales.is_some() { DType::BF16 } else { x.values.dtype() }
}

/// A layer's weight, and its rows' scales where it is e4m3.
fn weight_of(layer: &Linear) -> Result<(&Tensor, Option<&Tensor>)> {
    match &layer.weight {
        Weight::Plain(weight) => Ok((weight, None)),
        Weight::E4m3 { values, row_scales } => Ok((values, Some(row_scales))),
        Weight::Int8(_) | Weight::Packed(_) => Err(Error::NotOnDevice { kernel: NAME }),
    }
}

/// x (l, in) → (l, out).
///
/// Bias, GELU in its tanh form and addition are cublasLt's epilogue. A weight in e4m3 has x quantised
/// row by row where it is not, and the product accumulated in Hopper's fast mode.
///
/// # Errors
/// `Unsupported` where in or out are no multiples of 8 (16 for e4m3), for other dtypes, and for rows in
/// e4m3 of a layer that is not.
pub(super) fn linear(x: Input<'_>, layer: &Linear, then: Epilogue<'_>) -> Result<Tensor> {
    let context = context::of(device(NAME, x.values)?)?;
    let (shape, dtype) = ([x.values.dims2()?.0, layer.outputs()], dtype_of(x));
    // SAFETY: the product below writes every value.
    let y = unsafe { Output::new(&context.device, (shape[0], shape[1]), dtype) }?;
    let place = OutputRows { address: y.address, stride: shape[1] };
    product(&context, x, layer, then, place)?;
    let address = y.address;
    let filled = Filled { address, shape, stride: shape[1], dtype, context: &context };
    match then {
        // `product` saw to GELU in its tanh form.
        Epilogue::Activate(activation) if activation != Activation::GeluTanh => {
            filled.activate(None, Some(activation))?;
        }
        Epilogue::GatedResidual(GatedResidual { gate, residual }) => {
            filled.gate_onto(gate, residual)?;
        }
        Epilogue::None | Epilogue::Activate(_) | Epilogue::Add(_) => {}
    }
    Ok(y.into_tensor())
}

/// Where the rows of a product go.
#[derive(Clone, Copy)]
pub(crate) struct OutputRows {
    pub(crate) address: u64,
    /// From row to row, in values; at least the product's columns.
    pub(crate) stride: usize,
}

/// Puts x Wᵀ + b into place, with as much of what follows as cublasLt can do: GELU in its tanh form,
/// and addition.
pub(crate) fn product(
    context: &Context,
    x: Input<'_>,
    layer: &Linear,
    then: Epilogue<'_>,
    place: OutputRows,
) -> Result<()> {
    let (weight, weight_scales) = weight_of(layer)?;
    let (outputs, inputs) = weight.dims2()?;
    let dtype = dtype_of(x);
    let (length, width) = x.values.dims2()?;
    check_shape((NAME, "x"), &[width], &[inputs])?;
    let weight = Operand::contiguous(NAME, weight)?;
    let weight_scales = weight_scales
        .map(|scales| Operand::companion((NAME, "scales"), scales, DType::F32, &[outputs]))
        .transpose()?;
    let expected = if weight_scales.is_some() { DType::F8E4M3 } else { dtype };
    weight.require(weight.dtype == expected, "x and weight of different dtypes")?;
    // Where only the layer is in e4m3, its input follows.
    let made = match (&weight_scales, x.row_scales) {
        (Some(_), None) => Some(quantise::quantise_rows(x.values)?),
        _ => None,
    };
    let (values, row_scales) = match &made {
        Some((values, scales)) => (values, Some(scales)),
        None => (x.values, x.row_scales),
    };
    let row_scales = row_scales
        .map(|scales| Operand::companion((NAME, "row scales"), scales, DType::F32, &[length]))
        .transpose()?;
    let bias = layer
        .bias
        .as_ref()
        .map(|bias| Operand::companion((NAME, "bias"), bias, dtype, &[outputs]))
        .transpose()?;
    let onto = match then {
        Epilogue::Add(onto) => {
            Some(Operand::companion((NAME, "onto"), onto, dtype, &[length, outputs])?)
        }
        _ => None,
    };
    let (input, rows) = Operand::rows(NAME, values)?;
    let scales = match (&weight_scales, &row_scales) {
        (Some(of_weight), Some(of_rows)) => Some([of_weight.address, of_rows.address]),
        (None, None) => None,
        _ => return Err(Error::Unsupported { kernel: NAME, what: "e4m3 on one side" }),
    };
    let matrices = Matrices {
        weight: weight.address,
        x: input.address,
        onto: onto.as_ref().map(|onto| onto.address),
        y: place.address,
        bias: bias.as_ref().map(|bias| bias.address),
        scales,
    };
    let gelu = matches!(then, Epilogue::Activate(Activation::GeluTanh));
    let problem = Problem {
        rows: rows.rows,
        inputs,
        outputs,
        input_stride: rows.stride,
        output_stride: place.stride,
        element: weight.dtype.try_into()?,
        // cublasLt's GELU is as exact as bf16 needs it, which may be less than f32 does.
        epilogue: if gelu && dtype == DType::BF16 { Fused::Gelu } else { Fused::Plain },
        biased: matrices.bias.is_some(),
        accumulates: matrices.onto.is_some(),
        alignments: matrices.alignments(),
    };
    problem.check()?;
    let matmul = Matmul::of(&context.device)?;
    // Whether cublasLt has an algorithm for it; then the product is in the stream.
    let multiply = |problem: &Problem| {
        let matrices = Matrices { bias: matrices.bias.filter(|_| problem.biased), ..matrices };
        // SAFETY: the operands' shapes and dtypes were checked above to be the problem's; their
        // storages are locked until the product is in the stream. `place` has room for the rows, as
        // its maker says.
        match unsafe { lock(&matmul).multiply(problem, &matrices) } {
            Err(error) if error.is_unsupported() => {
                groups::refuse(Group::Linear, &error.to_string());
                Ok(false)
            }
            done => done.map(|()| true),
        }
    };
    // Not every kind of product has every epilogue: what one leaves out is done behind it.
    let plain = Problem { epilogue: Fused::Plain, ..problem };
    let bare = Problem { biased: false, ..plain };
    let ran = if multiply(&problem)? {
        problem
    } else if multiply(&plain)? {
        plain
    } else if multiply(&bare)? {
        bare
    } else {
        return Err(Error::Unsupported { kernel: NAME, what: "this product" });
    };
    let bias = bias.as_ref().filter(|_| !ran.biased);
    let activation = (gelu && ran.epilogue == Fused::Plain).then_some(Activation::GeluTanh);
    if bias.is_none() && activation.is_none() {
        return Ok(());
    }
    let (address, stride) = (place.address, place.stride);
    Filled { address, shape: [problem.rows, outputs], stride, dtype, context }
        .activate(bias, activation)
}

impl TryFrom<DType> for plan::Element {
    type Error = Error;

    fn try_from(dtype: DType) -> Result<Self> {
        match dtype {
            DType::F32 => Ok(Self::F32),
            DType::BF16 => Ok(Self::Bf16),
            DType::F8E4M3 => Ok(Self::E4m3),
            _ => Err(Error::Unsupported { kernel: NAME, what: "this dtype" }),
        }
    }
}
