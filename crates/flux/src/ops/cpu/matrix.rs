//! From candle's tensors to slices and matrices, and back.

use candle_core::{
    CpuStorage, InplaceOp1, Layout, Result, Shape, Storage, StorageRef, Tensor,
    backend::BackendStorage, bail,
};
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
        match self.layout.contiguous_offsets() {
            Some((start, end)) => Ok(&self.storage()?.as_slice()?[start..end]),
            None => bail!("expected contiguous elements, found strides {:?}", self.layout.stride()),
        }
    }

    /// The tensor (l, h, d) as h matrices (l, d).
    pub(super) fn heads(&self) -> Result<Vec<Matrix<'_>>> {
        let (length, count, width) = self.layout.shape().dims3()?;
        let [row_step, head_step, 1] = *self.layout.stride() else {
            bail!("expected adjacent elements of a head, found {:?}", self.layout.stride())
        };
        let storage = self.storage()?;
        let start = self.layout.start_offset();
        (0..count)
            .map(|head| {
                let start = start + head * head_step;
                Matrix { storage, start, size: [length, width], steps: [row_step, 1] }.checked()
            })
            .collect()
    }

    /// The tensor (rows, columns), however strided.
    pub(super) fn matrix(&self) -> Result<Matrix<'_>> {
        let (rows, columns) = self.layout.shape().dims2()?;
        let [row_step, column_step] = *self.layout.stride() else { bail!("expected a matrix") };
        let (size, steps) = ([rows, columns], [row_step, column_step]);
        Matrix { storage: self.storage()?, start: self.layout.start_offset(), size, steps }
            .checked()
    }

    /// A matrix anywhere behind the tensor's first element.
    pub(super) fn part(
        &self,
        start: usize,
        size: [usize; 2],
        steps: [usize; 2],
    ) -> Result<Matrix<'_>> {
        Matrix::new(self.storage()?, self.layout.start_offset() + start, size, steps)
    }

    fn storage(&self) -> Result<&CpuStorage> {
        match &*self.guard {
            Storage::Cpu(storage) => Ok(storage),
            _ => bail!("expected a tensor on the CPU"),
        }
    }
}

/// A matrix somewhere in a CPU storage; element (i, j) is at start + i·steps₀ + j·steps₁.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    storage: &'a CpuStorage,
    start: usize,
    size: [usize; 2],
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// A matrix (rows, columns) in `storage`, from `start` on.
    pub(super) fn new(
        storage: &'a CpuStorage,
        start: usize,
        size: [usize; 2],
        steps: [usize; 2],
    ) -> Result<Self> {
        Self { storage, start, size, steps }.checked()
    }

    /// Candle's product trusts the layout that it is given, so no [`Matrix`] may reach past its end.
    fn checked(self) -> Result<Self> {
        let [rows, columns] = self.size;
        let last = self.start
            + rows.saturating_sub(1) * self.steps[0]
            + columns.saturating_sub(1) * self.steps[1];
        if rows == 0 || columns == 0 || last < self.storage.as_slice::<f32>()?.len() {
            Ok(self)
        } else {
            bail!("matrix {:?} ends at {last}, past its storage", self.size)
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.size[0]
    }

    pub(super) fn columns(&self) -> usize {
        self.size[1]
    }

    /// Columns become rows.
    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [row_step, column_step]) = (self.size, self.steps);
        Self { size: [columns, rows], steps: [column_step, row_step], ..self }
    }

    /// `rows` rows from `from` on.
    pub(super) fn some_rows(self, from: usize, rows: usize) -> Result<Self> {
        let start = self.start + from * self.steps[0];
        Self { start, size: [rows, self.size[1]], ..self }.checked()
    }

    /// self (m, k) · other (k, n): (m, n), row by row.
    pub(super) fn times(&self, other: &Self) -> Result<Vec<f32>> {
        let ([m, k], [same_k, n]) = (self.size, other.size);
        if k != same_k {
            bail!("cannot multiply {:?} and {:?}", self.size, other.size)
        }
        let product =
            self.storage.matmul(other.storage, (1, m, n, k), &self.layout(), &other.layout())?;
        match product {
            CpuStorage::F32(elements) => Ok(elements),
            _ => bail!("expected an f32 product"),
        }
    }

    fn layout(&self) -> Layout {
        Layout::new(Shape::from_dims(&self.size), self.steps.to_vec(), self.start)
    }
}

/// Overwrites a tensor's storage with zeros.
pub(crate) fn wipe(x: &Tensor) -> Result<()> {
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
