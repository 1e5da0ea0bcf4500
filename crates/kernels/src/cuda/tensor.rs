//! Tensors as kernels see them: an address, a length, a row stride.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Layout, Shape, Storage, StorageRef, Tensor,
    cuda_backend::cudarc::driver::{DevicePtr, result::memset_d8_async},
    op::BackpropOp,
};
use float8::F8E4M3;
use half::bf16;

use crate::cuda::{Error, Result};

/// Values that one thread handles at a time; row lengths are multiples of it.
pub(crate) const VECTOR: usize = 8;

/// What the kernels' vector accesses need, in bytes.
const ALIGNMENT: u64 = 16;

/// A tensor that is read. Its storage stays locked against writers while this lives; once a kernel is
/// in the stream, the tensor may be dropped: its memory is freed in stream order, after the kernel.
pub(crate) struct Operand<'a> {
    _storage: StorageRef<'a>,
    layout: &'a Layout,
    pub(crate) dtype: DType,
    /// Of its first value, on the device.
    pub(crate) address: u64,
    kernel: &'static str,
}

impl<'a> Operand<'a> {
    /// Any view of a tensor on a CUDA device.
    pub(crate) fn new(kernel: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(cuda) = &*storage else { return Err(Error::NotOnDevice { kernel }) };
        let base = address(cuda, tensor.dtype())
            .ok_or(Error::Unsupported { kernel, what: "this dtype" })?;
        let offset = layout.start_offset() * tensor.dtype().size_in_bytes();
        let (dtype, address) = (tensor.dtype(), base + offset as u64);
        Ok(Self { _storage: storage, layout, dtype, address, kernel })
    }

    /// A contiguous tensor whose address suits vector accesses.
    pub(crate) fn contiguous(kernel: &'static str, tensor: &'a Tensor) -> Result<Self> {
        let operand = Self::new(kernel, tensor)?;
        operand.require(operand.layout.is_contiguous(), "a view with gaps")?;
        operand.require(operand.address.is_multiple_of(ALIGNMENT), "an unaligned view")?;
        Ok(operand)
    }

    /// A contiguous tensor of one shape and dtype, the companion of others.
    pub(crate) fn companion(
        (kernel, name): (&'static str, &'static str),
        tensor: &'a Tensor,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Self> {
        let operand = Self::contiguous(kernel, tensor)?;
        check_shape((kernel, name), tensor.dims(), shape)?;
        if dtype != operand.dtype {
            let (expected, found) = (dtype, operand.dtype);
            return Err(Error::Dtype { kernel, tensor: name, expected, found });
        }
        Ok(operand)
    }

    /// (rows, columns) with neighbouring columns side by side, any row stride that keeps the rows
    /// aligned.
    pub(crate) fn rows(kernel: &'static str, tensor: &'a Tensor) -> Result<(Self, Rows)> {
        let operand = Self::new(kernel, tensor)?;
        let rows = Rows::of(operand.layout)
            .ok_or(Error::Unsupported { kernel, what: "rows with gaps in them" })?;
        let bytes = operand.dtype.size_in_bytes() * rows.stride;
        let aligned = operand.address.is_multiple_of(ALIGNMENT)
            && (bytes as u64).is_multiple_of(ALIGNMENT)
            && rows.columns.is_multiple_of(VECTOR);
        operand.require(aligned, "unaligned rows")?;
        Ok((operand, rows))
    }

    /// Strides in values.
    pub(crate) fn strides(&self) -> &[usize] {
        self.layout.stride()
    }

    /// `Unsupported` unless it holds.
    pub(crate) fn require(&self, holds: bool, what: &'static str) -> Result<()> {
        if holds { Ok(()) } else { Err(Error::Unsupported { kernel: self.kernel, what }) }
    }

    /// The name that kernels of this dtype end in.
    pub(crate) fn suffix(&self) -> Result<&'static str> {
        suffix(self.kernel, self.dtype)
    }
}

/// The name that a kernel's forms for a dtype end in.
pub(crate) fn suffix(kernel: &'static str, dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::BF16 => Ok("bf16"),
        DType::F32 => Ok("f32"),
        _ => Err(Error::Unsupported { kernel, what: "this dtype" }),
    }
}

/// A matrix in memory, in values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl Rows {
    fn of(layout: &Layout) -> Option<Self> {
        let &[rows, columns] = layout.dims() else { return None };
        let &[stride, 1] = layout.stride() else { return None };
        // The stride of a single row may be anything; it is not used.
        let stride = if rows == 1 { columns } else { stride };
        (stride >= columns).then_some(Self { rows, columns, stride })
    }
}

/// While it lives, what kernels are about to write is filled with NaN first (255 in bytes), so that a
/// value that is never written shows. Slow; for comparisons with the reference.
#[must_use]
pub(crate) struct Poison(());

static POISONED: AtomicBool = AtomicBool::new(false);

impl Poison {
    /// From now on.
    pub(crate) fn new() -> Self {
        POISONED.store(true, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Poison {
    fn drop(&mut self) {
        POISONED.store(false, Ordering::Relaxed);
    }
}

/// A new tensor that a kernel writes; all of it, before anything reads it.
pub(crate) struct Output {
    storage: CudaStorage,
    shape: Shape,
    pub(crate) address: u64,
}

impl Output {
    /// Memory with nothing in it yet.
    ///
    /// # Safety
    /// Every value is written, by work in the device's stream, before [`Output::into_tensor`]'s
    /// result is used by any other work.
    pub(crate) unsafe fn new(
        device: &CudaDevice,
        shape: impl Into<Shape>,
        dtype: DType,
    ) -> Result<Self> {
        let shape = shape.into();
        let count = shape.elem_count();
        // SAFETY: the caller promises that nothing is read before it is written.
        let storage = unsafe {
            match dtype {
                DType::BF16 => wrap(device.alloc::<bf16>(count)?, device),
                DType::F32 => wrap(device.alloc::<f32>(count)?, device),
                DType::F64 => wrap(device.alloc::<f64>(count)?, device),
                DType::F8E4M3 => wrap(device.alloc::<F8E4M3>(count)?, device),
                DType::U8 => wrap(device.alloc::<u8>(count)?, device),
                _ => return Err(Error::Unsupported { kernel: "allocation", what: "this dtype" }),
            }
        };
        let address = address(&storage, dtype)
            .ok_or(Error::Unsupported { kernel: "allocation", what: "this dtype" })?;
        if POISONED.load(Ordering::Relaxed) {
            let (bytes, stream) = (count * dtype.size_in_bytes(), device.cuda_stream());
            stream.context().bind_to_thread()?;
            // SAFETY: the memory was allocated above, `bytes` long, in this stream.
            unsafe { memset_d8_async(address, 0xff, bytes, stream.cu_stream()) }?;
        }
        Ok(Self { storage, shape, address })
    }

    pub(crate) fn into_tensor(self) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage), self.shape, BackpropOp::none(), false)
    }
}

fn wrap<T: candle_core::cuda_backend::CudaDType>(
    slice: candle_core::cuda_backend::cudarc::driver::CudaSlice<T>,
    device: &CudaDevice,
) -> CudaStorage {
    CudaStorage::wrap_cuda_slice(slice, device.clone())
}

/// Of a storage's first value, where its dtype is one that kernels know.
fn address(storage: &CudaStorage, dtype: DType) -> Option<u64> {
    let stream = storage.device.cuda_stream();
    macro_rules! of {
        ($type:ty) => {
            storage.as_cuda_slice::<$type>().ok()?.device_ptr(&stream).0
        };
    }
    Some(match dtype {
        DType::BF16 => of!(bf16),
        DType::F32 => of!(f32),
        DType::F64 => of!(f64),
        DType::F8E4M3 => of!(F8E4M3),
        DType::U8 => of!(u8),
        _ => return None,
    })
}

/// The CUDA device of a tensor.
pub(crate) fn device<'a>(kernel: &'static str, tensor: &'a Tensor) -> Result<&'a CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        _ => Err(Error::NotOnDevice { kernel }),
    }
}

/// An error that names the tensor unless the shapes are the same.
pub(crate) fn check_shape(
    (kernel, tensor): (&'static str, &'static str),
    found: &[usize],
    expected: &[usize],
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (expected.to_vec(), found.to_vec());
    Err(Error::Shape { kernel, tensor, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tensor: &Tensor) -> Option<Rows> {
        Rows::of(tensor.layout())
    }

    #[test]
    fn rows_may_be_apart_but_not_have_gaps() {
        let whole = Tensor::zeros((6, 32), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(rows(&whole), Some(Rows { rows: 6, columns: 32, stride: 32 }));
        let below = whole.narrow(0, 2, 3).unwrap();
        assert_eq!(rows(&below), Some(Rows { rows: 3, columns: 32, stride: 32 }));
        let beside = whole.narrow(1, 8, 16).unwrap();
        assert_eq!(rows(&beside), Some(Rows { rows: 6, columns: 16, stride: 32 }));
        assert_eq!(rows(&whole.t().unwrap()), None);
        assert_eq!(rows(&whole.unsqueeze(0).unwrap()), None);
    }

    #[test]
    fn repeated_rows_are_not_rows() {
        let row = Tensor::zeros((1, 32), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(rows(&row.broadcast_as((4, 32)).unwrap()), None);
    }

    #[test]
    fn what_is_not_on_a_device_is_refused() {
        let x = Tensor::zeros((6, 32), DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(Operand::rows("test", &x), Err(Error::NotOnDevice { kernel: "test" })));
    }
}
