//! Elementwise mathematics that compiles to vector instructions.
//!
//! Everything here is plain arithmetic, without calls and branches, so that the compiler can widen a
//! loop over it; [`vectorised`] lets it use the machine's own vectors.

use pulp::Arch;

/// Lanes of the accumulators that sums are kept in: two AVX2 registers, one of AVX-512.
const LANES: usize = 16;

/// Runs a loop compiled for this machine's vector instructions (found at run time).
#[inline]
pub(super) fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

/// eˣ to within 2 units in the last place; x is held to ±87, where f32 ends.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor series up to r⁷/7!, 2ⁿ by the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = r.mul_add(series, term);
    }
    let power = (rounded.to_bits() << 23).wrapping_add(127 << 23);
    series * f32::from_bits(power)
}

/// x · σ(x) = x / (1 + e⁻ˣ)
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// x · σ(1.702 x)
#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-1.702 * x))
}

/// x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))) = x · σ(2√(2/π)(x + 0.044715 x³))
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769_1;
    let inner = x * (x * x).mul_add(0.044_715, 1.0);
    x / (1.0 + exp(-TWICE_ROOT * inner))
}

/// Σ f(x); summed in [`LANES`] lanes, so the order is the same on every machine.
#[inline(always)]
pub(super) fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// The largest element, or −∞ of none.
#[inline(always)]
pub(super) fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Replaces each x by eˣ⁻ᵐᵃˣ and returns their sum.
#[inline(always)]
pub(super) fn exp_sum(row: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - max);
            *lane += *x;
        }
    }
    let mut sum: f32 = lanes.iter().sum();
    for x in rest {
        *x = exp(*x - max);
        sum += *x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative error against f64.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        (-8000..8000)
            .map(|i| i as f32 * 0.001_3)
            .filter(|x| x.abs() > 1e-6)
            .map(|x| {
                let (found, expected) = (f64::from(f(x)), exact(f64::from(x)));
                (found - expected).abs() / expected.abs().max(1e-3)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_accurate() {
        assert!(worst(exp, f64::exp) < 2.5e-7);
        assert!(worst(silu, |x| x / (1.0 + (-x).exp())) < 4e-7);
        assert!(worst(quick_gelu, |x| x / (1.0 + (-1.702 * x).exp())) < 4e-6);
        let gelu = |x: f64| {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh())
        };
        assert!(worst(gelu_tanh, gelu) < 4e-6);
    }

    #[test]
    fn far_arguments_stay_finite() {
        for x in [-1e30, -200.0, 200.0, 1e30] {
            assert!(exp(x).is_finite());
        }
        assert!(gelu_tanh(-1e4).abs() < 1e-30);
        assert_eq!(gelu_tanh(100.0), 100.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn reductions_cover_the_rest() {
        let row: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(sum_of(&row, |x| x), 666.0);
        assert_eq!(max(&row), 36.0);
        let mut row = row;
        let sum = exp_sum(&mut row, 36.0);
        assert!((sum - 1.581_976_7).abs() < 1e-6);
    }
}
