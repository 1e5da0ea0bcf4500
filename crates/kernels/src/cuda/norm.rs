//! Layer and root-mean-square normalisation of rows.

use std::sync::Arc;

use candle_core::{
    DType, Tensor,
    cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig},
};

use crate::{
    cuda::{
        Result,
        context::{self, Context, PushKernelArg, grid},
        tensor::{Operand, Output, VECTOR, device},
    },
    operand::{Affine, GatedResidual, LayerInput, Modulation, RmsNorm},
};

/// Values of the longest row: one vector for each of a block's threads.
const LONGEST: usize = 1024 * VECTOR;

/// x (n·l, d), rows apart or not → (x − mean) / √(var + ε), scaled and moved: (n·l, d). bf16 or f32.
///
/// # Errors
/// `Unsupported` where d is no multiple of 8 or above 8192, or x has no multiple of n rows.
pub(super) fn layer_norm(x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<Tensor> {
    let (x, rows) = Operand::rows(NAME, x)?;
    let by = AffineOperands::new(&x, (rows.rows, rows.columns), affine, eps)?;
    let y = by.output(x.dtype)?;
    let (stride, parameters) = (rows.stride as i64, by.parameters());
    let mut call = by.context.call("layer_norm", x.suffix()?)?;
    call.arg(&x.address).arg(&stride).arg(&parameters).arg(&y.address);
    // SAFETY: the kernel's arguments in its order. x has `rows` rows `stride` apart, y as many of d values;
    // what else holds is said at `AffineOperands`.
    unsafe { call.launch(by.grid()) }?;
    Ok(y.into_tensor())
}

/// The same as e4m3 with a scale for each row, of bf16: values (n·l, d) and scales (n·l,), f32; see
/// [`crate::quantise_rows`].
///
/// # Errors
/// As [`layer_norm`].
pub(super) fn layer_norm_e4m3(x: &Tensor, affine: Affine<'_>, eps: f64) -> Result<LayerInput> {
    let (x, rows) = Operand::rows(NAME, x)?;
    x.require(x.dtype == DType::BF16, "this dtype")?;
    let by = AffineOperands::new(&x, (rows.rows, rows.columns), affine, eps)?;
    let (y, row_scales) = (by.output(DType::F8E4M3)?, by.row_scales()?);
    let (stride, parameters) = (rows.stride as i64, by.parameters());
    let mut call = by.context.call("layer_norm", "e4m3")?;
    call.arg(&x.address).arg(&stride).arg(&parameters).arg(&y.address).arg(&row_scales.address);
    // SAFETY: as for `layer_norm`; y has a byte for each value, the scales a number for each row.
    unsafe { call.launch(by.grid()) }?;
    Ok(LayerInput { values: y.into_tensor(), row_scales: Some(row_scales.into_tensor()) })
}

/// branch (n·l, d) → x = residual + gate ∘ branch, and [`layer_norm`] of x: (n·l, d) each. Contiguous.
///
/// # Errors
/// As [`layer_norm`].
pub(super) fn residual_norm(
    branch: &Tensor,
    onto: GatedResidual<'_>,
    affine: Affine<'_>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let sum = ResidualOperands::new(branch, onto, affine, eps)?;
    let (x, y) = (sum.by.output(sum.branch.dtype)?, sum.by.output(sum.branch.dtype)?);
    let (residual, parameters) = (sum.parameters(x.address), sum.by.parameters());
    let mut call = sum.by.context.call("residual_norm", sum.branch.suffix()?)?;
    call.arg(&residual).arg(&parameters).arg(&y.address);
    // SAFETY: the kernel's arguments in its order. Branch, residual, x and y have rows of d values, gate one
    // for each image; what else holds is said at `AffineOperands`.
    unsafe { call.launch(sum.by.grid()) }?;
    Ok((x.into_tensor(), y.into_tensor()))
}

/// The same with the normalised rows as e4m3 with a scale for each, of bf16.
///
/// # Errors
/// As [`layer_norm`].
pub(super) fn residual_norm_e4m3(
    branch: &Tensor,
    onto: GatedResidual<'_>,
    affine: Affine<'_>,
    eps: f64,
) -> Result<(Tensor, LayerInput)> {
    let sum = ResidualOperands::new(branch, onto, affine, eps)?;
    sum.branch.require(sum.branch.dtype == DType::BF16, "this dtype")?;
    let (x, y) = (sum.by.output(DType::BF16)?, sum.by.output(DType::F8E4M3)?);
    let row_scales = sum.by.row_scales()?;
    let (residual, parameters) = (sum.parameters(x.address), sum.by.parameters());
    let mut call = sum.by.context.call("residual_norm", "e4m3")?;
    call.arg(&residual).arg(&parameters).arg(&y.address).arg(&row_scales.address);
    // SAFETY: as for `residual_norm`; y has a byte for each value, the scales a number for each row.
    unsafe { call.launch(sum.by.grid()) }?;
    let normal = LayerInput { values: y.into_tensor(), row_scales: Some(row_scales.into_tensor()) };
    Ok((x.into_tensor(), normal))
}

const NAME: &str = "layer norm";

/// What rows are scaled and moved by. Its kernels have a block for each row, which touches that row alone,
/// no more than d values of it; every access is aligned, as the operands' constructors checked; scale and
/// shift have d values for every `each` rows.
struct AffineOperands<'a> {
    context: Arc<Context>,
    /// Rows, and values of each.
    shape: (usize, usize),
    scale: Operand<'a>,
    shift: Operand<'a>,
    /// Rows that share a scale and a shift.
    each: usize,
    /// 1 for a modulation, 0 for weight and bias.
    unit: f32,
    eps: f32,
}

/// As `cuda/norm.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct AffineParameters {
    scale: u64,
    shift: u64,
    each: i32,
    d: i32,
    unit: f32,
    eps: f32,
}

// SAFETY: plain numbers in C's layout, which is what a kernel's parameters are copied from.
unsafe impl DeviceRepr for AffineParameters {}

impl<'a> AffineOperands<'a> {
    fn new(x: &Operand<'_>, shape: (usize, usize), affine: Affine<'a>, eps: f64) -> Result<Self> {
        let (rows, columns) = shape;
        let (scale, shift, unit) = match affine {
            Affine::Modulation(Modulation { scale, shift }) => (scale, shift, 1.0),
            Affine::Weights { weight, bias } => (weight, bias, 0.0),
        };
        x.require(columns <= LONGEST, "rows this long")?;
        x.require(columns.is_multiple_of(VECTOR), "this width")?;
        let (images, of_affine) = match affine {
            Affine::Modulation(_) => (scale.dim(0)?, vec![scale.dim(0)?, columns]),
            Affine::Weights { .. } => (1, vec![columns]),
        };
        let images = images.max(1);
        x.require(rows.is_multiple_of(images), "rows of a part of an image")?;
        let companion =
            |name, tensor| Operand::companion((NAME, name), tensor, x.dtype, &of_affine);
        Ok(Self {
            context: context::of(device(NAME, scale)?)?,
            shape,
            scale: companion("scale", scale)?,
            shift: companion("shift", shift)?,
            each: rows / images,
            unit,
            eps: eps as f32,
        })
    }

    fn parameters(&self) -> AffineParameters {
        AffineParameters {
            scale: self.scale.address,
            shift: self.shift.address,
            each: self.each as i32,
            d: self.shape.1 as i32,
            unit: self.unit,
            eps: self.eps,
        }
    }

    fn output(&self, dtype: DType) -> Result<Output> {
        // SAFETY: every kernel above writes all of its rows.
        unsafe { Output::new(&self.context.device, self.shape, dtype) }
    }

    fn row_scales(&self) -> Result<Output> {
        // SAFETY: the kernels that this is made for write one for each row.
        unsafe { Output::new(&self.context.device, self.shape.0, DType::F32) }
    }

    fn grid(&self) -> LaunchConfig {
        grid(self.shape.0 as u32, threads(self.shape.1))
    }
}

/// A branch, what it is added to, and the normalisation behind that.
struct ResidualOperands<'a> {
    branch: Operand<'a>,
    gate: Operand<'a>,
    residual: Operand<'a>,
    by: AffineOperands<'a>,
}

/// As `cuda/norm.cu` declares it.
#[repr(C)]
#[derive(Clone, Copy)]
struct ResidualParameters {
    branch: u64,
    gate: u64,
    residual: u64,
    x: u64,
}

// SAFETY: plain numbers in C's layout, which is what a kernel's parameters are copied from.
unsafe impl DeviceRepr for ResidualParameters {}

impl<'a> ResidualOperands<'a> {
    fn new(
        branch: &'a Tensor,
        onto: GatedResidual<'a>,
        affine: Affine<'a>,
        eps: f64,
    ) -> Result<Self> {
        let (rows, columns) = branch.dims2()?;
        let branch = Operand::contiguous(NAME, branch)?;
        let by = AffineOperands::new(&branch, (rows, columns), affine, eps)?;
        let of_image = [rows / by.each.max(1), columns];
        let dtype = branch.dtype;
        let gate = Operand::companion((NAME, "gate"), onto.gate, dtype, &of_image)?;
        let residual =
            Operand::companion((NAME, "residual"), onto.residual, dtype, &[rows, columns])?;
        Ok(Self { gate, residual, by, branch })
    }

    fn parameters(&self, x: u64) -> ResidualParameters {
        ResidualParameters {
            branch: self.branch.address,
            gate: self.gate.address,
            residual: self.residual.address,
            x,
        }
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
    unsafe { call.launch(grid(rows.rows as u32, threads(rows.columns))) }?;
    Ok(y.into_tensor())
}

/// One for each vector of a row of so many values, in whole warps.
fn threads(columns: usize) -> usize {
    (columns / VECTOR).next_multiple_of(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_laid_out_as_in_c() {
        assert_eq!(size_of::<AffineParameters>(), 2 * 8 + 4 * 4);
        assert_eq!(std::mem::offset_of!(AffineParameters, each), 16);
        assert_eq!(size_of::<ResidualParameters>(), 4 * 8);
    }
}
