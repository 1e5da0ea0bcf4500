//! Discrete Fourier transforms of powers of two, in f32 (J. Cooley, J. Tukey, 1965): radix 2, in place.
//!
//! Sums and products alone, in one order, by factors that are rounded from f64: every machine computes the same bits.

use std::f64::consts::TAU;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f32,
    pub(super) im: f32,
}

impl Complex {
    /// e^(i 2π turns).
    pub(super) fn unit(turns: f64) -> Self {
        let (sin, cos) = (TAU * turns).sin_cos();
        Self { re: cos as f32, im: sin as f32 }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    pub(super) fn scaled(self, factor: f32) -> Self {
        Self { re: self.re * factor, im: self.im * factor }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    pub(super) fn conjugate(self) -> Self {
        Self { re: self.re, im: -self.im }
    }

    pub(super) fn power(self) -> f32 {
        self.re * self.re + self.im * self.im
    }
}

/// X(k) = Σ x(n) e^(−i 2π k n / N), of one length N.
pub(super) struct Fft {
    /// Of each stage its own, one after the other: 1, 2, 4, … N/2 factors.
    factors: Vec<Complex>,
    /// Where each value goes first: its place's bits, from the other end.
    places: Vec<u32>,
}

impl Fft {
    /// Of `len` values, a power of two.
    pub(super) fn new(len: usize) -> Self {
        debug_assert!(len.is_power_of_two());
        let mut factors = Vec::with_capacity(len);
        let mut half = 1;
        while half < len {
            factors.extend((0..half).map(|j| Complex::unit(-(j as f64) / (2 * half) as f64)));
            half *= 2;
        }
        let bits = len.trailing_zeros();
        let places = (0..len as u32).map(|n| n.reverse_bits().checked_shr(32 - bits).unwrap_or(0));
        Self { factors, places: places.collect() }
    }

    /// Transforms `values`, as many as this was made for.
    pub(super) fn transform(&self, values: &mut [Complex]) {
        for (n, place) in self.places.iter().enumerate() {
            let place = *place as usize;
            if n < place {
                values.swap(n, place);
            }
        }
        let mut half = 1;
        let mut factors = &self.factors[..];
        while half < values.len() {
            let (stage, rest) = factors.split_at(half);
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((a, b), factor) in low.iter_mut().zip(high).zip(stage) {
                    let turned = b.times(*factor);
                    *b = Complex { re: a.re - turned.re, im: a.im - turned.im };
                    *a = a.plus(turned);
                }
            }
            factors = rest;
            half *= 2;
        }
    }
}

/// Transforms `rows` of `across` values each in both directions. The result is transposed: X(kx, ky) is at
/// `kx * rows + ky`.
pub(super) fn transform_2d(values: &[Complex], across: &Fft, down: &Fft) -> Vec<Complex> {
    let (width, height) = (across.places.len(), down.places.len());
    let mut rows = values.to_vec();
    for row in rows.chunks_exact_mut(width) {
        // Most rows of a small image are padding.
        if row.iter().any(|value| *value != Complex::default()) {
            across.transform(row);
        }
    }
    let mut columns = vec![Complex::default(); width * height];
    const BLOCK: usize = 16;
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            for x in left..width.min(left + BLOCK) {
                for y in top..height.min(top + BLOCK) {
                    columns[x * height + y] = rows[y * width + x];
                }
            }
        }
    }
    for column in columns.chunks_exact_mut(height) {
        down.transform(column);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_it_says() {
        for (width, height) in [(1, 1), (8, 4), (2, 16)] {
            let value = |n: usize| Complex::unit((n * n) as f64 / 7.0);
            let values: Vec<_> = (0..width * height).map(value).collect();
            let found = transform_2d(&values, &Fft::new(width), &Fft::new(height));
            for kx in 0..width {
                for ky in 0..height {
                    let sum = (0..width * height).fold(Complex::default(), |sum, n| {
                        let (x, y) = (n % width, n / width);
                        let turns =
                            (kx * x) as f64 / width as f64 + (ky * y) as f64 / height as f64;
                        sum.plus(values[n].times(Complex::unit(-turns)))
                    });
                    let found = found[kx * height + ky];
                    assert!(found.plus(sum.scaled(-1.0)).power() < 1e-8, "{kx} {ky}");
                }
            }
        }
    }
}
