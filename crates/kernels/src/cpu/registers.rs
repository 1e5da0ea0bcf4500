//! The innermost loop of products in f32: a rectangle of sums that stays in registers while K goes by.
//!
//! 6 × 16 sums take twelve of AVX2's sixteen registers, two more hold a row of B, one an element of A: twelve
//! multiply-adds for eight loads. 12 × 32 take 24 of AVX-512's 32.

use std::ops::Range;

use pulp::{Simd, WithSimd, bytemuck::cast_slice};

use super::{grid::Rectangle, simd::allows_avx512};

/// Two of AVX2's vectors.
const NARROW: usize = 16;
/// Two of AVX-512's.
const WIDE: usize = 32;

/// How many sums are in registers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registers {
    /// 6 rows of 16 columns.
    Sixteen,
    /// 12 rows of 32 columns.
    ThirtyTwo,
}

/// What a product is added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onto {
    Zero,
    Itself,
}

impl Registers {
    /// What this machine has room for, and `OBSCURA_CPU` allows.
    pub(super) fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        if allows_avx512() && pulp::x86::V4::is_available() {
            return Self::ThirtyTwo;
        }
        Self::Sixteen
    }

    pub(super) fn rows(self) -> usize {
        match self {
            Self::Sixteen => 6,
            Self::ThirtyTwo => 12,
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Self::Sixteen => NARROW,
            Self::ThirtyTwo => WIDE,
        }
    }

    /// out ← (0 or out) + a · b. Of a, (tiles, k, rows): rows side by side for each of K, a tile of them
    /// after the other. b: (k, columns). What lies past the end of `out` is left out.
    ///
    /// An element's sum over K begins at zero and goes from front to back, so that it depends on nothing
    /// but its row and its column, on every machine.
    pub(super) fn multiply(self, a: &[f32], b: &[f32], out: &mut impl RowsMut, onto: Onto) {
        match self {
            Self::Sixteen => multiply::<6, NARROW>(a, b, out, onto),
            Self::ThirtyTwo => multiply::<12, WIDE>(a, b, out, onto),
        }
    }
}

/// Rows to write, all of one length.
pub(super) trait RowsMut {
    fn count(&self) -> usize;

    fn at(&mut self, i: usize) -> &mut [f32];
}

impl RowsMut for Rectangle<'_, f32> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.rows().len()
    }

    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut [f32] {
        self.row(i)
    }
}

/// Some columns of rows that follow each other.
pub(super) struct Columns<'a> {
    elements: &'a mut [f32],
    step: usize,
    columns: Range<usize>,
}

impl<'a> Columns<'a> {
    /// All of rows of `width` elements.
    pub(super) fn all(elements: &'a mut [f32], width: usize) -> Self {
        Self { elements, step: width, columns: 0..width }
    }

    /// Those of `columns` that there are in rows of `width` elements.
    pub(super) fn some(elements: &'a mut [f32], width: usize, columns: Range<usize>) -> Self {
        Self { elements, step: width, columns: columns.start..columns.end.min(width) }
    }
}

impl RowsMut for Columns<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.elements.len() / self.step.max(1)
    }

    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut [f32] {
        &mut self.elements[i * self.step..][self.columns.clone()]
    }
}

/// Sums of `ROWS` × `COLUMNS`: in the machine's vectors where two of them make a row.
fn multiply<const ROWS: usize, const COLUMNS: usize>(
    a: &[f32],
    b: &[f32],
    out: &mut impl RowsMut,
    onto: Onto,
) {
    let product = Product::<_, ROWS, COLUMNS> { a, b, out, onto };
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let (WIDE, Some(simd)) = (COLUMNS, V4::try_new()) {
            return Simd::vectorize(simd, product);
        }
        if let (NARROW, Some(simd)) = (COLUMNS, V3::try_new()) {
            return Simd::vectorize(simd, product);
        }
    }
    product.portable();
}

struct Product<'a, R, const ROWS: usize, const COLUMNS: usize> {
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut R,
    onto: Onto,
}

/// The compiler is not left to find the vectors: of 12 × 32 sums in plain arrays it makes none, and the product
/// takes over twenty times as long.
impl<R: RowsMut, const ROWS: usize, const COLUMNS: usize> WithSimd
    for Product<'_, R, ROWS, COLUMNS>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let b = cast_slice::<f32, S::f32s>(self.b).as_chunks::<2>().0;
        for (tile, a) in self.a.chunks_exact((ROWS * b.len()).max(1)).enumerate() {
            let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
            for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b) {
                for i in 0..ROWS {
                    let a = simd.splat_f32s(a[i]);
                    for j in 0..2 {
                        sums[i][j] = simd.mul_add_f32s(a, b[j], sums[i][j]);
                    }
                }
            }
            // A copy: what is lent out would be stored with each step.
            let mut rows = [[simd.splat_f32s(0.0); 2]; ROWS];
            for i in 0..ROWS {
                for j in 0..2 {
                    rows[i][j] = sums[i][j];
                }
            }
            let rows = cast_slice::<S::f32s, f32>(rows.as_flattened());
            write(rows.as_chunks::<COLUMNS>().0, self.out, tile * ROWS, self.onto);
        }
    }
}

impl<R: RowsMut, const ROWS: usize, const COLUMNS: usize> Product<'_, R, ROWS, COLUMNS> {
    fn portable(self) {
        let b = self.b.as_chunks::<COLUMNS>().0;
        for (tile, a) in self.a.chunks_exact((ROWS * b.len()).max(1)).enumerate() {
            let mut sums = [[0f32; COLUMNS]; ROWS];
            for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b) {
                for i in 0..ROWS {
                    for j in 0..COLUMNS {
                        sums[i][j] = a[i].mul_add(b[j], sums[i][j]);
                    }
                }
            }
            write(&sums, self.out, tile * ROWS, self.onto);
        }
    }
}

/// Rows of sums to as many of `out` as there are from `first` on.
#[inline(always)]
pub(super) fn write<const COLUMNS: usize>(
    sums: &[[f32; COLUMNS]],
    out: &mut impl RowsMut,
    first: usize,
    onto: Onto,
) {
    let count = out.count().saturating_sub(first);
    for (i, sums) in sums.iter().enumerate().take(count) {
        let out = out.at(first + i);
        match (out.as_chunks_mut::<COLUMNS>(), onto) {
            (([out], []), Onto::Zero) => *out = *sums,
            (([out], []), Onto::Itself) => {
                for j in 0..COLUMNS {
                    out[j] += sums[j];
                }
            }
            ((_, out), Onto::Zero) => out.copy_from_slice(&sums[..out.len()]),
            ((_, out), Onto::Itself) => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, which any order of addition sums exactly.
    fn integers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_are_right_in_every_corner() {
        for registers in [Registers::Sixteen, Registers::ThirtyTwo] {
            let (height, width) = (registers.rows(), registers.columns());
            for [rows, k, columns] in
                [[1, 1, 1], [height, 5, width], [3 * height - 1, 33, width - 3], [height + 1, 0, 2]]
            {
                let tiles = rows.div_ceil(height);
                let (a, b) = (integers(tiles * k * height, 1), integers(k * width, 2));
                let expected = |i: usize, j: usize| -> f32 {
                    let at = |l: usize| a[(i / height * k + l) * height + i % height];
                    (0..k).map(|l| at(l) * b[l * width + j]).sum()
                };
                let mut elements = vec![9.0; rows * columns];
                for (onto, times) in [(Onto::Zero, 1.0), (Onto::Itself, 2.0)] {
                    let mut out = Columns::all(&mut elements, columns);
                    registers.multiply(&a, &b, &mut out, onto);
                    // Nothing is summed up of no K, and nothing is written.
                    for (at, x) in elements.iter().enumerate().filter(|_| k > 0) {
                        let expected = times * expected(at / columns, at % columns);
                        assert_eq!(*x, expected, "{registers:?} {rows}x{k}x{columns} {at}");
                    }
                }
            }
        }
    }
}
