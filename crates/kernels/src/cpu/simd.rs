//! Elementwise mathematics that compiles to vector instructions.
//!
//! Everything here is plain arithmetic, without calls and branches, so that the compiler can widen a
//! loop over it; [`vectorised!`] lets it use the machine's own vectors.

use std::{env, sync::OnceLock};

/// The variable that names what products are made with, in bf16 above all: see `bf16::level`.
pub(super) const VARIABLE: &str = "OBSCURA_CPU";
/// Its value that leaves AVX-512 alone.
pub(super) const WITHOUT_AVX512: &str = "avx2";

/// Its value that leaves nothing alone.
pub(super) const WITH_AMX: &str = "amx";

/// Whether products may use AVX-512, in whatever type.
pub(super) fn allows_avx512() -> bool {
    named() != WITHOUT_AVX512
}

/// Whether they may use AMX.
pub(super) fn allows_amx() -> bool {
    ["", WITH_AMX].contains(&named())
}

fn named() -> &'static str {
    static NAMED: OnceLock<String> = OnceLock::new();
    NAMED.get_or_init(|| env::var(VARIABLE).unwrap_or_default().trim().to_owned())
}

/// Lanes of the accumulators that sums are kept in: two AVX2 registers, one of AVX-512.
const LANES: usize = 16;
/// 1.5 · 2²³: adding it to less than 2²² rounds to an integer, which then stands in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// Defines a function that is compiled once for each set of vector instructions, the machine's own
/// being picked at run time.
///
/// A closure would not do: it may be compiled apart from its caller, and then for the plainest
/// machine. Everything in the body has to be inlined for the same reason: loops rather than chains
/// of iterators, and `#[inline(always)]` on what it calls. Its lifetime is `'a`; it may have one type
/// parameter.
macro_rules! vectorised {
    (
        $(#[$meta:meta])*
        fn $name:ident<'a $(, $param:ident: $bound:ident)?>($($arg:ident: $type:ty),* $(,)?)
        $(-> $output:ty)? $body:block
    ) => {
        $(#[$meta])*
        pub(super) fn $name<'a $(, $param: $bound)?>($($arg: $type),*) $(-> $output)? {
            struct Call<'a $(, $param: $bound)?> {
                $($arg: $type,)*
                $(_param: std::marker::PhantomData<$param>,)?
            }
            impl<'a $(, $param: $bound)?> pulp::NullaryFnOnce for Call<'a $(, $param)?> {
                type Output = crate::cpu::simd::output!($($output)?);
                #[inline(always)]
                fn call(self) -> Self::Output {
                    let Self { $($arg,)* .. } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call {
                $($arg,)*
                $(_param: std::marker::PhantomData::<$param>,)?
            })
        }
    };
}
pub(super) use vectorised;

/// A function's output, () where none is written.
macro_rules! output {
    () => {
        ()
    };
    ($output:ty) => {
        $output
    };
}
pub(super) use output;

/// A function of one number.
pub(super) trait Elementwise {
    fn apply(x: f32) -> f32;
}

macro_rules! elementwise {
    ($($(#[$meta:meta])* $name:ident($x:ident) = $value:expr;)*) => {
        $(
            $(#[$meta])*
            pub(super) struct $name;
            impl Elementwise for $name {
                #[inline(always)]
                fn apply($x: f32) -> f32 {
                    $value
                }
            }
        )*
    };
}

elementwise! {
    /// x
    Identity(x) = x;
    /// max(x, 0)
    Relu(x) = if x > 0.0 { x } else { 0.0 };
    /// x · σ(x) = x / (1 + e⁻ˣ)
    Silu(x) = x / (1.0 + exp(-x));
    /// x · σ(1.702 x)
    QuickGelu(x) = x / (1.0 + exp(-1.702 * x));
    /// x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))) = x · σ(2√(2/π)(x + 0.044715 x³))
    GeluTanh(x) = x / (1.0 + exp(-1.595_769 * x * (x * x).mul_add(0.044_715, 1.0)));
}

/// eˣ to within 2 units in the last place; x is held to ±87, where f32 ends.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor series up to r⁷/7!, 2ⁿ by the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 87.0 { x } else { 87.0 };
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut series = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    series = r.mul_add(series, 1.0 / 120.0);
    series = r.mul_add(series, 1.0 / 24.0);
    series = r.mul_add(series, 1.0 / 6.0);
    series = r.mul_add(series, 0.5);
    series = r.mul_add(series, 1.0);
    series = r.mul_add(series, 1.0);
    let power = (rounded.to_bits() << 23).wrapping_add(127 << 23);
    series * f32::from_bits(power)
}

/// 2ˣ to within 5·10⁻⁶, for what bf16 stores; x is at most 127 and held to −126, where f32 ends.
///
/// x = n + r with |r| ≤ 1/2; 2ʳ by its Taylor series up to (r ln 2)⁵/5!, 2ⁿ by the exponent's bits.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    let x = if x > -126.0 { x } else { -126.0 };
    let rounded = x + ROUND;
    let r = x - (rounded - ROUND);
    let mut series = r.mul_add(1.333_355_8e-3, 9.618_129e-3);
    series = r.mul_add(series, 5.550_411e-2);
    series = r.mul_add(series, 2.402_265e-1);
    series = r.mul_add(series, std::f32::consts::LN_2);
    series = r.mul_add(series, 1.0);
    let power = (rounded.to_bits() << 23).wrapping_add(127 << 23);
    series * f32::from_bits(power)
}

vectorised! {
    /// Columns become rows: `from` has rows that begin every `step` elements, `to` has rows of `rows`
    /// elements, as many as they fill.
    fn transpose<'a>(from: &'a [f32], step: usize, to: &'a mut [f32], rows: usize) {
        for (i, to) in to.chunks_mut(LANES * rows).enumerate() {
            let from = &from[i * LANES..];
            // Squares of whole cache lines, as far as they go.
            let whole = if to.len() == LANES * rows { rows / LANES * LANES } else { 0 };
            for row in (0..whole).step_by(LANES) {
                let mut square = [[0.0; LANES]; LANES];
                for (lanes, j) in square.iter_mut().zip(row..) {
                    lanes.copy_from_slice(&from[j * step..][..LANES]);
                }
                for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                    let mut turned = [0.0; LANES];
                    for j in 0..LANES {
                        turned[j] = square[j][column % LANES];
                    }
                    to[row..][..LANES].copy_from_slice(&turned);
                }
            }
            for row in whole..rows {
                for (column, to) in to.chunks_exact_mut(rows).enumerate() {
                    to[row] = from[row * step + column];
                }
            }
        }
    }
}

/// Σ (x − centre)²; summed in [`LANES`] lanes, so the order is the same on every machine.
#[inline(always)]
pub(super) fn sum_of_squares(row: &[f32], centre: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            let x = chunk[i] - centre;
            lanes[i] = x.mul_add(x, lanes[i]);
        }
    }
    let mut sum = total(&lanes);
    for x in rest {
        sum += (x - centre) * (x - centre);
    }
    sum
}

/// Σ x
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    let mut sum = total(&lanes);
    for x in rest {
        sum += x;
    }
    sum
}

#[inline(always)]
fn total(lanes: &[f32; LANES]) -> f32 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
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
        assert!(worst(exp2, f64::exp2) < 5e-6);
        assert!(worst(Silu::apply, |x| x / (1.0 + (-x).exp())) < 4e-7);
        assert!(worst(QuickGelu::apply, |x| x / (1.0 + (-1.702 * x).exp())) < 4e-6);
        let gelu = |x: f64| {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh())
        };
        assert!(worst(GeluTanh::apply, gelu) < 4e-6);
    }

    #[test]
    fn far_arguments_stay_finite() {
        for x in [-1e30, -200.0, 200.0, 1e30] {
            assert!(exp(x).is_finite());
        }
        assert!(GeluTanh::apply(-1e4).abs() < 1e-30);
        assert_eq!(GeluTanh::apply(100.0), 100.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn transposing_turns_rows_into_columns() {
        let (rows, columns, step) = (21, 37, 40);
        let from: Vec<f32> = (0..rows * step).map(|i| i as f32).collect();
        let mut to = vec![0.0; columns * rows];
        // The last row may end with its last column.
        transpose(&from[..20 * step + columns], step, &mut to, rows);
        for (i, x) in to.iter().enumerate() {
            assert_eq!(*x, from[i % rows * step + i / rows]);
        }
    }

    #[test]
    fn reductions_cover_the_rest() {
        let row: Vec<f32> = (0..37).map(|i| i as f32).collect();
        assert_eq!(sum(&row), 666.0);
        assert_eq!(sum_of_squares(&row, 1.0), 14_911.0);
    }
}
