//! From candle's tensors to slices and matrices.

use std::borrow::Cow;

use crate::operand::rows_each;
use candle_core::{
    CpuStorage, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, WithDType, bail,
};
use half::bf16;
use zeroize::Zeroize;

/// The f32 elements of a CPU tensor, from its first one on.
pub(super) struct Elements<'a> {
    guard: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Elements<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Self {
        let (guard, layout) = tensor.storage_and_layout();
        Self { guard, layout }
    }

    /// All elements of a contiguous tensor.
    pub(super) fn slice(&self) -> Result<&[f32]> {
        self.slice_of()
    }

    /// All elements of a contiguous tensor of f32 or bf16, as f32.
    pub(super) fn wide(&self) -> Result<Cow<'_, [f32]>> {
        match self.storage()? {
            CpuStorage::BF16(_) => {
                Ok(self.slice_of::<bf16>()?.iter().map(|x| x.to_f32()).collect())
            }
            _ => self.slice().map(Cow::Borrowed),
        }
    }

    /// The same of any type.
    pub(super) fn slice_of<T: WithDType>(&self) -> Result<&[T]> {
        match self.layout.contiguous_offsets() {
            Some((start, end)) => Ok(&self.storage()?.as_slice()?[start..end]),
            None => bail!("expected contiguous elements, found strides {:?}", self.layout.stride()),
        }
    }

    /// The same, which are so many.
    pub(super) fn exactly<T: WithDType>(&self, count: usize) -> Result<&[T]> {
        match self.slice_of()? {
            elements if elements.len() == count => Ok(elements),
            elements => bail!("expected {count} elements, found {}", elements.len()),
        }
    }

    /// Of the tensor's three dimensions, and from element to element of each.
    pub(super) fn dims_and_strides(&self) -> Result<[[usize; 3]; 2]> {
        let (a, b, c) = self.layout.shape().dims3()?;
        match *self.layout.stride() {
            [x, y, z] => Ok([[a, b, c], [x, y, z]]),
            _ => bail!("expected three dimensions"),
        }
    }

    /// The tensor (n·l, h, d) as n·h matrices (l, d).
    pub(super) fn heads(&self, images: usize) -> Result<Vec<Matrix<'_>>> {
        let (rows, count, width) = self.layout.shape().dims3()?;
        let length = rows_each(rows, images)?;
        let [row_step, head_step, 1] = *self.layout.stride() else {
            bail!("expected adjacent elements of a head, found {:?}", self.layout.stride())
        };
        let elements = self.onwards()?;
        (0..images * count)
            .map(|i| {
                let (image, head) = (i / count, i % count);
                let first = image * length * row_step + head * head_step;
                let elements = elements.get(first..).unwrap_or_default();
                Matrix::new(elements, [length, width], [row_step, 1])
            })
            .collect()
    }

    /// The tensor (rows, columns), however strided.
    pub(super) fn matrix(&self) -> Result<Matrix<'_>> {
        let (rows, columns) = self.layout.shape().dims2()?;
        let [row_step, column_step] = *self.layout.stride() else { bail!("expected a matrix") };
        let steps = [row_step, column_step];
        Matrix::new(self.onwards()?, [rows, columns], steps)
    }

    /// The storage from the tensor's first element to its end.
    fn onwards(&self) -> Result<&[f32]> {
        self.onwards_of()
    }

    /// The same of any type.
    pub(super) fn onwards_of<T: WithDType>(&self) -> Result<&[T]> {
        let elements = self.storage()?.as_slice::<T>()?;
        Ok(elements.get(self.layout.start_offset()..).unwrap_or_default())
    }

    fn storage(&self) -> Result<&CpuStorage> {
        match &*self.guard {
            Storage::Cpu(storage) => Ok(storage),
            _ => bail!("expected a tensor on the CPU"),
        }
    }
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
    /// Where the last element lies past the slice's end.
    pub(super) fn new(elements: &'a [f32], size: [usize; 2], steps: [usize; 2]) -> Result<Self> {
        let last = |i: usize| size[i].checked_sub(1)?.checked_mul(steps[i]);
        let end = || last(0)?.checked_add(last(1)?).filter(|&last| last < elements.len());
        if !size.contains(&0) && end().is_none() {
            bail!(
                "a matrix {size:?} with steps {steps:?} does not fit in {} elements",
                elements.len()
            )
        }
        Ok(Self { elements, size, steps })
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

/// Overwrites a tensor's storage with zeros.
pub(super) fn wipe(x: &Tensor) -> Result<()> {
    struct Wipe;
    impl InplaceOp1 for Wipe {
        fn name(&self) -> &'static str {
            "wipe"
        }

        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
            match storage {
                // All of the storage, whatever part of it the tensor shows.
                CpuStorage::F32(elements) => elements.as_mut_slice().zeroize(),
                CpuStorage::U32(elements) => elements.as_mut_slice().zeroize(),
                CpuStorage::BF16(elements) => elements.fill(Default::default()),
                CpuStorage::F16(elements) => elements.fill(Default::default()),
                _ => bail!("expected f32, bf16, f16 or u32"),
            }
            Ok(())
        }
    }
    x.inplace_op1(&Wipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_past_their_slice_are_refused() {
        let elements = [0.0; 12];
        let is_refused = |size, steps| Matrix::new(&elements, size, steps).is_err();
        assert!(!is_refused([3, 4], [4, 1]) && !is_refused([5, 4], [2, 1]));
        assert!(is_refused([3, 5], [4, 1]) && is_refused([2, 2], [usize::MAX, 1]));
        assert!(is_refused([1, 13], [usize::MAX, 1]) && is_refused([usize::MAX, 2], [2, 1]));
        assert!(!is_refused([0, usize::MAX], [4, 1]) && !is_refused([1, 1], [usize::MAX, 1]));
    }
}
