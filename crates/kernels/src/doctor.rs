//! Every kernel of a device against its composed reference, on fresh random input.
//!
//! The reference computes in f32 on the same values. A kernel runs twice, so that a race shows; on a
//! GPU its output is filled with NaN first, so that a value that is not written does too.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use candle_core::{D, DType, Device, Error, Result, Tensor};

use crate::{
    Precision,
    backend::Backend,
    groups::{Groups, observe},
    ops::{backend_of, reference_of},
};

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
    /// The groups whose kernels ran.
    pub groups: Groups,
    /// What came out.
    pub verdict: Verdict,
    /// Why a faster kernel was not used, where one was asked and refused.
    pub refusal: Option<String>,
    /// Of kernel and reference together, the first time, when a kernel is planned, included.
    pub seconds: f64,
}

impl Finding {
    /// Right, but by a longer way than there might be.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        matches!(self.verdict, Verdict::NoKernel) || self.refusal.is_some()
    }
}

/// What a comparison came to.
#[derive(Debug)]
pub enum Verdict {
    /// Within the tolerance.
    Agrees(Deviation),
    /// Beyond it, or not a number.
    Disagrees(Deviation),
    /// Twice the same input gave different results.
    Nondeterministic,
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

/// What all comparisons came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How many there were.
    pub comparisons: usize,
    /// Of them, those of slow paths.
    pub slow: usize,
    /// The groups of those that no node may become ready with.
    pub bad: Groups,
    /// Whether there were any such.
    pub failed: bool,
    /// The comparison after which the device answered nothing any more; none follows it.
    pub lost: Option<String>,
}

/// Compares every kernel that one of the precisions uses with its reference. Each finding is told as soon
/// as it is made.
///
/// # Errors
/// Where the device itself fails before it was asked for a kernel; what fails in a comparison is its
/// verdict.
pub fn examine(
    device: &Device,
    depth: Depth,
    precisions: &[Precision],
    tell: &mut dyn FnMut(Finding),
) -> Result<Outcome> {
    // A CPU's generator seeds itself, and says so by refusing a seed.
    if !device.is_cpu() {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        device.set_seed(clock.as_nanos() as u64)?;
    }
    let device = device.clone();
    let mut examination = Examination { device, tell, outcome: Outcome::default() };
    let done = cases::all(&mut examination, depth, precisions);
    match examination.outcome {
        outcome if outcome.lost.is_some() => Ok(outcome),
        outcome => done.map(|()| outcome),
    }
}

/// A run of comparisons.
struct Examination<'a> {
    device: Device,
    tell: &'a mut dyn FnMut(Finding),
    outcome: Outcome,
}

/// One thing to compare.
struct Case<'a> {
    kernel: &'static str,
    name: String,
    tolerance: f64,
    /// What kernel and reference are given: the reference, in f32.
    inputs: &'a [Tensor],
}

/// What a kernel or a reference makes of its inputs.
type Outputs = Vec<Tensor>;

impl Examination<'_> {
    /// Normally distributed values of a dtype.
    fn random(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        self.spread(dtype, shape, 1.0)
    }

    /// Normally distributed values with a standard deviation.
    fn spread(&self, dtype: DType, shape: &[usize], deviation: f32) -> Result<Tensor> {
        Tensor::randn(0f32, deviation, shape, &self.device)?.to_dtype(dtype)
    }

    /// A weight (out, in) that keeps the size of what it is given.
    fn weight(&self, dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let inputs: usize = shape[1..].iter().product();
        self.spread(dtype, shape, (inputs as f32).sqrt().recip())
    }

    /// Compares what the device's backend and the reference make of an operation.
    fn compare(
        &mut self,
        case: Case<'_>,
        op: impl Fn(&dyn Backend, &[Tensor]) -> Result<Option<Outputs>>,
    ) {
        let kernel = |x: &[Tensor]| op(backend_of(&x[0]), x);
        let reference = |x: &[Tensor]| match op(&reference_of(&x[0]), x)? {
            Some(outputs) => Ok(outputs),
            None => candle_core::bail!("the reference lacks an operation"),
        };
        self.compare_with(case, kernel, reference);
    }

    /// Compares any two ways to compute the same.
    fn compare_with(
        &mut self,
        case: Case<'_>,
        kernel: impl Fn(&[Tensor]) -> Result<Option<Outputs>>,
        reference: impl Fn(&[Tensor]) -> Result<Outputs>,
    ) {
        if self.outcome.lost.is_some() {
            return;
        }
        let started = Instant::now();
        let (runs, seen) = observe(|| {
            #[cfg(feature = "cuda")]
            let _poison = crate::cuda::Poison::new();
            let runs = (kernel(case.inputs)?, kernel(case.inputs)?);
            // What a kernel leaves behind is its own, and not the next one's.
            self.device.synchronize()?;
            Ok(runs)
        });
        let verdict = runs.and_then(|runs| verdict(&case, runs, reference));
        let verdict = verdict.unwrap_or_else(Verdict::Failed);
        let Case { kernel, name, .. } = case;
        let outcome = &mut self.outcome;
        if matches!(verdict, Verdict::Failed(_)) && self.device.synchronize().is_err() {
            outcome.lost = Some(format!("{kernel}, {name}"));
        }
        let (groups, refusal, seconds) =
            (seen.groups, seen.refusal, started.elapsed().as_secs_f64());
        let finding = Finding { kernel, case: name, groups, verdict, refusal, seconds };
        outcome.comparisons += 1;
        outcome.slow += usize::from(finding.is_slow());
        if !finding.verdict.is_safe() {
            outcome.failed = true;
            outcome.bad = outcome.bad.and(groups);
        }
        (self.tell)(finding);
    }
}

fn verdict(
    case: &Case<'_>,
    runs: (Option<Outputs>, Option<Outputs>),
    reference: impl Fn(&[Tensor]) -> Result<Outputs>,
) -> Result<Verdict> {
    let (Some(first), Some(second)) = runs else { return Ok(Verdict::NoKernel) };
    let wide: Vec<Tensor> =
        case.inputs.iter().map(|input| input.to_dtype(DType::F32)).collect::<Result<_>>()?;
    let expected = reference(&wide)?;
    let mut error = 0f64;
    for ((first, second), expected) in first.iter().zip(&second).zip(&expected) {
        let (first, second) = (first.to_dtype(DType::F32)?, second.to_dtype(DType::F32)?);
        let expected = expected.to_dtype(DType::F32)?;
        let deviation = norm(&(&first - &expected)?)? / norm(&expected)?;
        // Not `max`, which would drop a NaN.
        if deviation > error || deviation.is_nan() {
            error = deviation;
        }
        if norm(&(&first - &second)?)? > 0.0 {
            return Ok(Verdict::Nondeterministic);
        }
    }
    let deviation = Deviation { error, tolerance: case.tolerance };
    let agrees = error < case.tolerance && first.len() == expected.len();
    Ok(if agrees { Verdict::Agrees(deviation) } else { Verdict::Disagrees(deviation) })
}

/// √Σx². Rows first: a GPU has one block add up a whole tensor.
fn norm(x: &Tensor) -> Result<f64> {
    let rows = x.sqr()?.sum(D::Minus1)?;
    Ok(f64::from(rows.sum_all()?.to_scalar::<f32>()?).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(kernel: impl Fn(&[Tensor]) -> Result<Option<Outputs>>) -> (Vec<Finding>, Outcome) {
        let mut findings = Vec::new();
        let mut tell = |finding| findings.push(finding);
        let (device, outcome) = (Device::Cpu, Outcome::default());
        let mut examination = Examination { device, tell: &mut tell, outcome };
        let inputs = [examination.random(DType::F32, &[4, 8]).unwrap()];
        for name in ["first", "second"] {
            let case =
                Case { kernel: "test", name: name.to_owned(), tolerance: 1e-5, inputs: &inputs };
            examination.compare_with(case, &kernel, |x| Ok(vec![x[0].clone()]));
        }
        let outcome = examination.outcome;
        (findings, outcome)
    }

    #[test]
    fn each_verdict_is_told_and_counted() {
        let (findings, outcome) = compared(|x| Ok(Some(vec![x[0].clone()])));
        assert!(findings.iter().all(|finding| matches!(finding.verdict, Verdict::Agrees(_))));
        assert!(!outcome.failed && outcome.comparisons == 2);

        let (findings, outcome) = compared(|x| Ok(Some(vec![(&x[0] * 2.0)?])));
        assert!(matches!(findings[0].verdict, Verdict::Disagrees(by) if by.error > 0.9));
        assert!(outcome.failed && outcome.lost.is_none());

        let calls = std::cell::Cell::new(0.0);
        let (findings, _) = compared(|x| {
            calls.set(calls.get() + 1e-7);
            Ok(Some(vec![(&x[0] + calls.get())?]))
        });
        assert!(matches!(findings[0].verdict, Verdict::Nondeterministic));

        let (findings, outcome) = compared(|_| candle_core::bail!("no"));
        assert!(matches!(findings[1].verdict, Verdict::Failed(_)) && outcome.failed);

        let (findings, outcome) = compared(|_| Ok(None));
        assert!(findings[0].is_slow() && outcome.slow == 2 && !outcome.failed);
    }

    /// A CPU has a kernel for all that its cases ask of it, and each finding names its groups.
    #[test]
    fn a_cpus_kernels_agree_and_say_which_groups_they_are_of() {
        let mut groups = Groups::default();
        let all = [Precision::F32, Precision::Bf16, Precision::Int8];
        let outcome = examine(&Device::Cpu, Depth::Short, &all, &mut |finding| {
            assert!(matches!(finding.verdict, Verdict::Agrees(_)), "{finding:?}");
            assert_ne!(finding.groups, Groups::default(), "{finding:?}");
            groups = groups.and(finding.groups);
        })
        .unwrap();
        assert!(outcome.comparisons > 60 && outcome.slow == 0 && !outcome.failed);
        assert_eq!(groups.names(), ["linear", "norm", "heads", "attention", "group-norm", "conv"]);
    }
}
