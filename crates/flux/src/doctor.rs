//! Every kernel of a device against its composed reference, on fresh random input.
//!
//! The reference computes in f32 on the same values. A kernel runs twice, so that a race shows; on a
//! GPU its output is filled with NaN first, so that a value that is not written does too.

use std::time::{SystemTime, UNIX_EPOCH};

use candle_core::{D, DType, Device, Tensor};

use crate::{Error, Result, bench::Tier};

mod cases;

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Each kernel once, at an odd size: for the start of a node.
    Short,
    /// On a GPU FLUX.1's shapes from 256×256 to 2048×1024, and odd ones. On a CPU a small model's.
    Full,
}

/// One comparison.
#[derive(Debug)]
pub struct Finding {
    /// Which kernel.
    pub kernel: &'static str,
    /// On what.
    pub case: String,
    /// What came out.
    pub verdict: Verdict,
    /// Why a faster kernel was not used, where one was asked and refused.
    pub refusal: Option<String>,
}

/// What a comparison came to.
#[derive(Debug)]
pub enum Verdict {
    /// Within the tolerance.
    Agrees(Deviation),
    /// Beyond it, or not a number.
    Disagrees(Deviation),
    /// Twice the same input gave different results.
    Unsteady,
    /// There is none for such tensors, or it is turned off: the reference computes.
    NoKernel,
    /// It could not be run, or its reference could not.
    Failed(Error),
}

/// ‖kernel − reference‖ / ‖reference‖, and the most that is let pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// What it is.
    pub error: f64,
    /// What it may be.
    pub tolerance: f64,
}

impl Verdict {
    /// Whether a node may become ready with it: a kernel that is not there is slow, not wrong.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Agrees(_) | Self::NoKernel)
    }
}

/// Compares every kernel that one of the tiers uses with its reference.
///
/// # Errors
/// Where the device itself fails; what fails in a comparison is its verdict.
pub fn examine(device: &Device, depth: Depth, tiers: &[Tier]) -> Result<Vec<Finding>, Error> {
    // A CPU's generator seeds itself, and says so by refusing a seed.
    if !device.is_cpu() {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        device.set_seed(clock.as_nanos() as u64)?;
    }
    let mut examination = Examination { device: device.clone(), findings: Vec::new() };
    cases::all(&mut examination, depth, tiers)?;
    Ok(examination.findings)
}

/// A run of comparisons.
pub(super) struct Examination {
    pub(super) device: Device,
    findings: Vec<Finding>,
}

/// One thing to compare.
pub(super) struct Case<'a> {
    pub(super) kernel: &'static str,
    pub(super) name: String,
    pub(super) tolerance: f64,
    /// What kernel and reference are given: the reference, in f32.
    pub(super) inputs: &'a [Tensor],
}

/// What a kernel or a reference makes of its inputs.
pub(super) type Outputs = Vec<Tensor>;

impl Examination {
    /// Normally distributed values of a dtype.
    pub(super) fn random(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        self.spread(dtype, shape, 1.0)
    }

    /// Normally distributed values with a standard deviation.
    pub(super) fn spread(&self, dtype: DType, shape: &[usize], deviation: f32) -> Result<Tensor> {
        Ok(Tensor::randn(0f32, deviation, shape, &self.device)?.to_dtype(dtype)?)
    }

    /// A weight (out, in) that keeps the size of what it is given.
    pub(super) fn weight(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let inputs: usize = shape[1..].iter().product();
        self.spread(dtype, shape, (inputs as f32).sqrt().recip())
    }

    /// Compares, and keeps the finding.
    pub(super) fn compare(
        &mut self,
        case: Case<'_>,
        kernel: impl Fn(&[Tensor]) -> candle_core::Result<Option<Outputs>>,
        reference: impl Fn(&[Tensor]) -> candle_core::Result<Outputs>,
    ) {
        // What an earlier case left behind says nothing about this one.
        take_refusal();
        let verdict = verdict(&case, kernel, reference).unwrap_or_else(Verdict::Failed);
        let refusal = take_refusal();
        let Case { kernel, name, .. } = case;
        self.findings.push(Finding { kernel, case: name, verdict, refusal });
    }
}

fn verdict(
    case: &Case<'_>,
    kernel: impl Fn(&[Tensor]) -> candle_core::Result<Option<Outputs>>,
    reference: impl Fn(&[Tensor]) -> candle_core::Result<Outputs>,
) -> Result<Verdict> {
    let runs = {
        #[cfg(feature = "cuda")]
        let _poison = kernels::cuda::Poison::new();
        (kernel(case.inputs)?, kernel(case.inputs)?)
    };
    let (Some(first), Some(second)) = runs else { return Ok(Verdict::NoKernel) };
    let wide = case
        .inputs
        .iter()
        .map(|input| input.to_dtype(DType::F32))
        .collect::<Result<Vec<_>, _>>()?;
    let expected = reference(&wide)?;
    let mut error = 0f64;
    for ((first, second), expected) in first.iter().zip(&second).zip(&expected) {
        let (first, second) = (first.to_dtype(DType::F32)?, second.to_dtype(DType::F32)?);
        let deviation = norm(&(&first - expected)?)? / norm(expected)?;
        // Not `max`, which would drop a NaN.
        if deviation > error || deviation.is_nan() {
            error = deviation;
        }
        if norm(&(&first - &second)?)? > 0.0 {
            return Ok(Verdict::Unsteady);
        }
    }
    let deviation = Deviation { error, tolerance: case.tolerance };
    let agrees = error < case.tolerance && first.len() == expected.len();
    Ok(if agrees { Verdict::Agrees(deviation) } else { Verdict::Disagrees(deviation) })
}

/// Why the last kernel that was not there was not.
fn take_refusal() -> Option<String> {
    #[cfg(feature = "cuda")]
    return crate::ops::cuda::take_refusal();
    #[cfg(not(feature = "cuda"))]
    None
}

/// √Σx². Rows first: a GPU has one block add up a whole tensor.
fn norm(x: &Tensor) -> Result<f64> {
    let rows = x.sqr()?.sum(D::Minus1)?;
    Ok(f64::from(rows.sum_all()?.to_scalar::<f32>()?).sqrt())
}
