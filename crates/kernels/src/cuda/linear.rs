//! Linear layers through cublasLt, with what follows them fused in or run in place behind.

mod multiplier;
mod plan;

use candle_core::{DType, Tensor};

use crate::cuda::{
    Error, Result,
    context::{self, Context, lock},
    operand::{Operand, Output, check_shape, device},
    pointwise::Filled,
    quantise,
};

pub(crate) use multiplier::Multiplier;
use plan::{Epilogue, Matrices, Problem};

const NAME: &str = "linear";

/// y = x Wᵀ + b
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    /// (out, in): bf16 or f32 as x, or e4m3.
    pub weight: &'a Tensor,
    /// (out,)
    pub bias: Option<&'a Tensor>,
    /// What each row of an e4m3 weight is multiplied by: (out,), f32.
    pub row_scales: Option<&'a Tensor>,
}

/// Rows that a layer is given: (l, in), apart or not.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// bf16 or f32; or e4m3.
    pub values: &'a Tensor,
    /// What each row of e4m3 values is multiplied by: (l,), f32. They then stand for bf16.
    pub row_scales: Option<&'a Tensor>,
}

impl Input<'_> {
    fn dtype(&self) -> DType {
        if self.row_scales.is_some() { DType::BF16 } else { self.values.dtype() }
    }
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(values: &'a Tensor) -> Self {
        Self { values, row_scales: None }
    }
}

/// Activations, as the kernels number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Activation {
    /// GELU in its tanh form.
    GeluTanh = 0,
    /// GELU itself.
    GeluErf = 1,
    /// x · σ(1.702 x)
    QuickGelu = 2,
    /// max(x, 0)
    Relu = 3,
    /// x · σ(x)
    Silu = 4,
}

/// What follows a linear layer.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// y
    Nothing,
    /// activation(y)
    Activate(Activation),
    /// onto + y; (l, out)
    Add(&'a Tensor),
    /// onto + gate ∘ y
    Gate {
        /// (n, out), a row for as many rows of y as for the next.
        gate: &'a Tensor,
        /// (l, out)
        onto: &'a Tensor,
    },
}

/// x (l, in) → (l, out).
///
/// Bias, GELU in its tanh form and addition are cublasLt's epilogue. A weight in e4m3 has x quantised
/// row by row where it is not, and the product accumulated in Hopper's fast mode.
///
/// # Errors
/// `Unsupported` where in or out are no multiples of 8 (16 for e4m3), for other dtypes, and for rows in
/// e4m3 of a layer that is not.
pub fn linear(x: Input<'_>, layer: &Linear<'_>, then: Then<'_>) -> Result<Tensor> {
    let context = context::of(device(NAME, x.values)?)?;
    let (shape, dtype) = ([x.values.dims2()?.0, layer.weight.dims2()?.0], x.dtype());
    // SAFETY: the product below writes every value.
    let y = unsafe { Output::new(&context.device, (shape[0], shape[1]), dtype) }?;
    let place = Place { address: y.address, stride: shape[1] };
    product(&context, x, layer, then, place)?;
    let address = y.address;
    let filled = Filled { address, shape, stride: shape[1], dtype, context: &context };
    match then {
        // `product` saw to GELU in its tanh form.
        Then::Activate(activation) if activation != Activation::GeluTanh => {
            filled.activate(None, Some(activation))?;
        }
        Then::Gate { gate, onto } => filled.gate_onto(gate, onto)?,
        Then::Nothing | Then::Activate(_) | Then::Add(_) => {}
    }
    Ok(y.into_tensor())
}

/// Where the rows of a product go.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) address: u64,
    /// From row to row, in values; at least the product's columns.
    pub(crate) stride: usize,
}

/// Puts x Wᵀ + b into place, with as much of what follows as cublasLt can do: GELU in its tanh form,
/// and addition.
pub(crate) fn product(
    context: &Context,
    x: Input<'_>,
    layer: &Linear<'_>,
    then: Then<'_>,
    place: Place,
) -> Result<()> {
    let (outputs, inputs) = layer.weight.dims2()?;
    let dtype = x.dtype();
    let (length, width) = x.values.dims2()?;
    check_shape((NAME, "x"), &[width], &[inputs])?;
    let weight = Operand::contiguous(NAME, layer.weight)?;
    let weight_scales = layer
        .row_scales
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
        .map(|bias| Operand::companion((NAME, "bias"), bias, dtype, &[outputs]))
        .transpose()?;
    let onto = match then {
        Then::Add(onto) => {
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
    let gelu = matches!(then, Then::Activate(Activation::GeluTanh));
    let problem = Problem {
        rows: rows.rows,
        inputs,
        outputs,
        input_stride: rows.stride,
        output_stride: place.stride,
        element: weight.dtype.try_into()?,
        // cublasLt's GELU is as exact as bf16 needs it, which may be less than f32 does.
        epilogue: if gelu && dtype == DType::BF16 { Epilogue::Gelu } else { Epilogue::Plain },
        biased: matrices.bias.is_some(),
        accumulates: matrices.onto.is_some(),
        alignments: matrices.alignments(),
    };
    problem.check()?;
    // Whether cublasLt has an algorithm for it; then the product is in the stream.
    let multiply = |problem: &Problem| {
        let matrices = Matrices { bias: matrices.bias.filter(|_| problem.biased), ..matrices };
        // SAFETY: the operands' shapes and dtypes were checked above to be the problem's; their
        // storages are locked until the product is in the stream. `place` has room for the rows, as
        // its maker says.
        match unsafe { lock(&context.multiplier).multiply(problem, &matrices) } {
            Err(error) if error.is_unsupported() => Ok(false),
            done => done.map(|()| true),
        }
    };
    // Not every kind of product has every epilogue: what one leaves out is done behind it.
    let plain = Problem { epilogue: Epilogue::Plain, ..problem };
    let bare = Problem { biased: false, ..plain };
    let ran = if multiply(&problem)? {
        problem
    } else if multiply(&plain)? {
        plain
    } else if multiply(&bare)? {
        bare
    } else {
        let what = "this product: cublasLt has no algorithm";
        return Err(Error::Unsupported { kernel: NAME, what });
    };
    let bias = bias.as_ref().filter(|_| !ran.biased);
    let activation = (gelu && ran.epilogue == Epilogue::Plain).then_some(Activation::GeluTanh);
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
