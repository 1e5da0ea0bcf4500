//! Layer and root-mean-square normalisation of rows.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::{
    cuda::{
        Result,
        context::{self, Context, PushKernelArg, grid},
        tensor::{Operand, Output, Rows, VECTOR, device},
    },
    operand::{Affine, LayerInput, Modulation, RmsNorm},
};

/// Values of the longest row: one vector for each of a block's threads.
const LONGEST: usize = 1024 * VECTOR;

/// x (n·l, d), rows apart or not → (x − mean) / √(var + ε), scaled and moved: (n·l, d). bf16 or f32.
///
/// # Errors
/// `Unsupported` where d is no multiple of 8 or above 8192, or x has no multiple of n rows.
pub(super) fn layer_norm(x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Tensor> {
    let arguments = Arguments::new(x, affine, eps)?;
    let suffix = arguments.x.suffix()?;
    // SAFETY: the kernel writes every row.
    let y = unsafe { Output::new(&arguments.context.device, arguments.shape(), x.dtype()) }?;
    // SAFETY: behind the arguments that both kernels begin with, this one takes rows · d values of x's
    // dtype, which y has.
    unsafe { arguments.launch(suffix, &[y.address]) }?;
    Ok(y.into_tensor())
}

/// The same as e4m3 with a scale for each row, of bf16: values (n·l, d) and scales (n·l,), f32; see
/// [`crate::quantise_rows`].
///
/// # Errors
/// As [`layer_norm`].
pub(super) fn layer_norm_e4m3(x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<LayerInput> {
    let arguments = Arguments::new(x, affine, eps)?;
    arguments.x.require(arguments.x.dtype == DType::BF16, "this dtype")?;
    let device = &arguments.context.device;
    // SAFETY: the kernel writes every row of both.
    let (y, row_scales) = unsafe {
        (
            Output::new(device, arguments.shape(), DType::F8E4M3)?,
            Output::new(device, arguments.rows.rows, DType::F32)?,
        )
    };
    // SAFETY: behind the arguments that both kernels begin with, this one takes rows · d bytes and rows
    // numbers, which these have; x, scale and shift are bf16.
    unsafe { arguments.launch("e4m3", &[y.address, row_scales.address]) }?;
    Ok(LayerInput { values: y.into_tensor(), row_scales: Some(row_scales.into_tensor()) })
}

/// What every kernel of a layer normalisation begins with.
struct Arguments<'a> {
    context: Arc<Context>,
    x: Operand<'a>,
    rows: Rows,
    scale: Operand<'a>,
    shift: Operand<'a>,
    /// Rows that share a scale and a shift.
    each: i32,
    /// 1 for a modulation, 0 for weight and bias.
    unit: f32,
    eps: f32,
}

impl<'a> Arguments<'a> {
    const NAME: &'static str = "layer norm";

    fn new(x: &'a Tensor, affine: Affine<'a>, eps: f64) -> Result<Self> {
        let (operand, rows) = Operand::rows(Self::NAME, x)?;
        operand.require(rows.columns <= LONGEST, "rows this long")?;
        let (scale, shift, unit, images) = match affine {
            Affine::Modulation(Modulation { scale, shift }) => {
                (scale, shift, 1.0, Some(scale.dim(0)?))
            }
            Affine::Weights { weight, bias } => (weight, bias, 0.0, None),
        };
        let shape: Vec<usize> = images.into_iter().chain([rows.columns]).collect();
        let images = images.unwrap_or(1).max(1);
        operand.require(rows.rows.is_multiple_of(images), "rows of a part of an image")?;
        let companion =
            |name, tensor| Operand::companion((Self::NAME, name), tensor, operand.dtype, &shape);
        Ok(Self {
            context: context::of(device(Self::NAME, x)?)?,
            scale: companion("scale", scale)?,
            shift: companion("shift", shift)?,
            each: (rows.rows / images) as i32,
            unit,
            eps: eps as f32,
            x: operand,
            rows,
        })
    }

    fn shape(&self) -> (usize, usize) {
        (self.rows.rows, self.rows.columns)
    }

    /// A block a row.
    ///
    /// # Safety
    /// `outputs` are the addresses that the kernel takes behind these arguments, and what it writes to.
    unsafe fn launch(&self, suffix: &str, outputs: &[u64]) -> Result<()> {
        let (stride, d) = (self.rows.stride as i64, self.rows.columns as i32);
        let mut call = self.context.call("layer_norm", suffix)?;
        call.arg(&self.x.address).arg(&stride).arg(&self.scale.address).arg(&self.shift.address);
        call.arg(&self.each).arg(&d).arg(&self.unit).arg(&self.eps);
        for address in outputs {
            call.arg(address);
        }
        // SAFETY: the arguments are those of the kernel, in its order; the caller sees to the outputs. x
        // has `rows` rows `stride` apart, scale and shift have d values for every `each` of them; a block
        // touches its row alone, no more than d values of it, and every access is aligned, as the
        // operands' constructors checked.
        unsafe { call.launch(grid(self.rows.rows as u32, threads(&self.rows))) }?;
        Ok(())
    }
}

/// x (l, d), rows apart or not → x / √(mean(x²) + ε) ∘ weight: (l, d). bf16 or f32.
///
/// # Errors
/// `Unsupported` where d is no multiple of 8 or above 8192.
pub(super) fn rms_norm(x: &Tensor, norm: &RmsNorm) -> Result<Tensor> {
    const NAME: &str = "rms norm";
    let (operand, rows) = Operand::rows(NAME, x)?;
    operand.require(rows.columns <= LONGEST, "rows this long")?;
    let weight =
        Operand::companion((NAME, "weight"), &norm.weight, operand.dtype, &[rows.columns])?;
    let context = context::of(device(NAME, x)?)?;
    // SAFETY: the kernel below writes every row.
    let y = unsafe { Output::new(&context.device, (rows.rows, rows.columns), operand.dtype) }?;
    let (stride, d, eps) = (rows.stride as i64, rows.columns as i32, norm.eps as f32);
    let mut call = context.call("rms_norm", operand.suffix()?)?;
    call.arg(&operand.address).arg(&stride).arg(&weight.address).arg(&y.address);
    call.arg(&d).arg(&eps);
    // SAFETY: as for `layer_norm`: the kernel's own arguments in its order, a block for each row.
    unsafe { call.launch(grid(rows.rows as u32, threads(&rows))) }?;
    Ok(y.into_tensor())
}

/// One for each vector of a row, in whole warps.
fn threads(rows: &Rows) -> usize {
    (rows.columns / VECTOR).next_multiple_of(32)
}
