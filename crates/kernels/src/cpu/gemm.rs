//! Matrix products in f32 on the CPU: the `gemm` crate on views of slices.

use gemm::Parallelism;
use thiserror::Error;

/// What this module's functions return.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why matrices could not be multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(super) enum Error {
    /// The view reaches past its slice.
    #[error("a matrix {size:?} with steps {steps:?} does not fit in {elements} elements")]
    OutOfBounds {
        /// Rows and columns.
        size: [usize; 2],
        /// From row to row, from column to column.
        steps: [usize; 2],
        /// Of the slice.
        elements: usize,
    },
    /// The rows of what is to be written overlap.
    #[error("rows of {columns} elements overlap when they begin every {step}")]
    Overlapping {
        /// Elements of a row.
        columns: usize,
        /// From row to row.
        step: usize,
    },
    /// The sizes do not agree.
    #[error("{a:?} times {b:?} is not {out:?}")]
    Mismatch {
        /// Rows and columns of the first factor.
        a: [usize; 2],
        /// Rows and columns of the second.
        b: [usize; 2],
        /// Rows and columns of what is to be written.
        out: [usize; 2],
    },
}

/// A matrix to read: element (i, j) stands at i·steps₀ + j·steps₁ of a slice. Elements may be shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    elements: &'a [f32],
    size: [usize; 2],
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A view of `size` (rows, columns).
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]
    pub(super) fn new(elements: &'a [f32], size: [usize; 2], steps: [usize; 2]) -> Result<Self> {
        check_bounds(elements.len(), size, steps)?;
        Ok(Self { elements, size, steps })
    }

    /// Columns become rows.
    #[cfg(test)]
    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [row_step, column_step]) = (self.size, self.steps);
        Self { size: [columns, rows], steps: [column_step, row_step], ..self }
    }

    /// `count` rows from `first` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]
    pub(super) fn some_rows(self, first: usize, count: usize) -> Result<Self> {
        let [rows, columns] = self.size;
        let size = [count, columns];
        if first.checked_add(count).is_none_or(|end| end > rows) {
            let elements = self.elements.len();
            return Err(Error::OutOfBounds { size, steps: self.steps, elements });
        }
        // No rows begin nowhere: behind the last one, the slice may have ended.
        let start = if count == 0 { 0 } else { first * self.steps[0] };
        Self::new(&self.elements[start..], size, self.steps)
    }

    /// The slice that it is a view of.
    pub(super) fn elements(&self) -> &'a [f32] {
        self.elements
    }

    /// From row to row, from column to column.
    pub(super) fn steps(&self) -> [usize; 2] {
        self.steps
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }
}

/// A matrix to write: rows of adjacent elements, which begin every `step`.
#[derive(Debug)]
pub(super) struct MatrixMut<'a> {
    elements: &'a mut [f32],
    size: [usize; 2],
    step: usize,
}

impl<'a> MatrixMut<'a> {
    /// A view of `size` (rows, columns).
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Overlapping`]
    pub(super) fn new(elements: &'a mut [f32], size: [usize; 2], step: usize) -> Result<Self> {
        check_bounds(elements.len(), size, [step, 1])?;
        let [rows, columns] = size;
        if rows > 1 && step < columns {
            return Err(Error::Overlapping { columns, step });
        }
        Ok(Self { elements, size, step })
    }
}

/// a · b, not computed yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    /// (m, k)
    pub(super) a: Matrix<'a>,
    /// (k, n)
    pub(super) b: Matrix<'a>,
}

impl Product<'_> {
    /// out ← a · b, on this thread.
    ///
    /// # Errors
    /// [`Error::Mismatch`]
    pub(super) fn write(&self, out: MatrixMut<'_>) -> Result<()> {
        self.compute(out, Onto::Nothing)
    }

    /// out ← out + a · b, on this thread.
    ///
    /// # Errors
    /// [`Error::Mismatch`]
    pub(super) fn add_to(&self, out: MatrixMut<'_>) -> Result<()> {
        self.compute(out, Onto::Itself)
    }

    fn compute(&self, out: MatrixMut<'_>, onto: Onto) -> Result<()> {
        let Self { a, b } = self;
        let ([m, k], [same_k, n]) = (a.size, b.size);
        if k != same_k || out.size != [m, n] {
            return Err(Error::Mismatch { a: a.size, b: b.size, out: out.size });
        }
        let steps = |steps: [usize; 2]| steps.map(|step| step as isize);
        let ([a_row, a_column], [b_row, b_column]) = (steps(a.steps), steps(b.steps));
        // SAFETY: the kernel reads and writes element (i, j) of each matrix only for i and j within
        // its size. Each of these lies in the matrix's slice: the constructors compute the last one
        // without overflow, and no step exceeds `isize`. `out` is borrowed mutably, so it overlaps
        // neither `a` nor `b`, and its rows do not overlap one another. All f32 are valid.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.elements.as_mut_ptr(),
                1,
                out.step as isize,
                matches!(onto, Onto::Itself),
                a.elements.as_ptr(),
                a_column,
                a_row,
                b.elements.as_ptr(),
                b_column,
                b_row,
                1.0,
                1.0,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
        Ok(())
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
enum Onto {
    Nothing,
    Itself,
}

/// Whether the last element of a matrix lies among `elements`, and all offsets in `isize`.
fn check_bounds(elements: usize, size: [usize; 2], steps: [usize; 2]) -> Result<()> {
    let fits = || {
        let last = |i: usize| size[i].checked_sub(1)?.checked_mul(steps[i]);
        last(0)?.checked_add(last(1)?).filter(|&last| last < elements)
    };
    let is_empty = size.contains(&0);
    let are_steps_small = steps.iter().all(|&step| isize::try_from(step).is_ok());
    if are_steps_small && (is_empty || fits().is_some()) {
        Ok(())
    } else {
        Err(Error::OutOfBounds { size, steps, elements })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (rows, columns) of small integers, which any order of addition sums exactly.
    fn integers([rows, columns]: [usize; 2]) -> Vec<f32> {
        (0..rows * columns).map(|i| (i * 7 % 11) as f32 - 5.0).collect()
    }

    fn naive(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
        let element = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }

    #[test]
    fn products_are_right() {
        for [m, k, n] in [[1, 1, 1], [3, 5, 2], [64, 33, 50], [130, 300, 70], [1, 40, 9], [5, 0, 3]]
        {
            let (a, b) = (integers([m, k]), integers([k, n]));
            let expected = naive(&a, &b, [m, k, n]);
            let product = Product {
                a: Matrix::new(&a, [m, k], [k, 1]).unwrap(),
                b: Matrix::new(&b, [k, n], [n, 1]).unwrap(),
            };
            let mut out = vec![9.0; m * n];
            product.write(MatrixMut::new(&mut out, [m, n], n).unwrap()).unwrap();
            assert_eq!(out, expected);
            product.add_to(MatrixMut::new(&mut out, [m, n], n).unwrap()).unwrap();
            assert!(out.iter().zip(&expected).all(|(out, expected)| *out == 2.0 * expected));
            // (a b)ᵀ = bᵀ aᵀ
            let turned = Product { a: product.b.transposed(), b: product.a.transposed() };
            turned.write(MatrixMut::new(&mut out, [n, m], m).unwrap()).unwrap();
            assert!((0..m * n).all(|at| out[at % n * m + at / n] == expected[at]));
        }
    }

    #[test]
    fn rows_between_others_are_left_alone() {
        let (a, b) = (integers([4, 3]), integers([3, 2]));
        let product = Product {
            a: Matrix::new(&a, [4, 3], [3, 1]).unwrap().some_rows(1, 2).unwrap(),
            b: Matrix::new(&b, [3, 2], [2, 1]).unwrap(),
        };
        let mut out = [9.0; 8];
        product.write(MatrixMut::new(&mut out, [2, 2], 5).unwrap()).unwrap();
        let expected = naive(&a[3..9], &b, [2, 3, 2]);
        assert_eq!(out[..2], expected[..2]);
        assert_eq!(out[5..7], expected[2..]);
        assert_eq!([out[2], out[3], out[4], out[7]], [9.0; 4]);
    }

    #[test]
    fn views_past_their_slice_are_refused() {
        let elements = [0.0; 12];
        let is_refused = |size, steps| Matrix::new(&elements, size, steps).is_err();
        assert!(!is_refused([3, 4], [4, 1]) && !is_refused([5, 4], [2, 1]));
        assert!(is_refused([3, 5], [4, 1]) && is_refused([2, 2], [usize::MAX, 1]));
        assert!(is_refused([1, 1], [usize::MAX, 1]) && is_refused([usize::MAX, 2], [2, 1]));
        assert!(!is_refused([0, usize::MAX], [4, 1]));
        let matrix = Matrix::new(&elements, [3, 4], [4, 1]).unwrap();
        assert!(matrix.some_rows(1, 2).is_ok() && matrix.some_rows(3, 0).is_ok());
        assert!(matrix.some_rows(2, 2).is_err() && matrix.some_rows(usize::MAX, 2).is_err());
        // Rows that share elements may be read, and some of them, but only as many as there are.
        let sliding = Matrix::new(&elements, [5, 4], [2, 1]).unwrap();
        assert!(sliding.some_rows(3, 2).is_ok() && sliding.some_rows(4, 2).is_err());
    }

    #[test]
    fn what_is_written_does_not_overlap_and_fits() {
        let mut out = [0.0; 12];
        let overlapping = MatrixMut::new(&mut out, [3, 4], 3).map(|_| ());
        assert_eq!(overlapping, Err(Error::Overlapping { columns: 4, step: 3 }));
        assert!(MatrixMut::new(&mut out, [4, 4], 4).is_err());
        let a = [0.0; 6];
        let a = Matrix::new(&a, [2, 3], [3, 1]).unwrap();
        let out = MatrixMut::new(&mut out, [2, 2], 2).unwrap();
        assert!(matches!(Product { a, b: a }.write(out), Err(Error::Mismatch { .. })));
    }
}
