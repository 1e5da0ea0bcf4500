//! Overwriting what should not stay in memory.

use candle_core::{
    CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Tensor, cuda_backend::WrapErr,
};
use half::bf16;

/// Overwrites a tensor's memory on its device with zeros, in stream order: all of its storage, which
/// views share.
///
/// # Errors
/// Where the tensor is not on a CUDA device, or of a dtype that kernels do not write.
pub(super) fn wipe(tensor: &Tensor) -> Result<()> {
    tensor.inplace_op1(&Wipe)
}

struct Wipe;

impl InplaceOp1 for Wipe {
    fn name(&self) -> &'static str {
        "wipe"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        Err(crate::cuda::Error::NotOnDevice { kernel: "wipe" }.into())
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        use candle_core::backend::BackendStorage;
        let stream = storage.device.cuda_stream();
        match storage.dtype() {
            DType::BF16 => stream.memset_zeros(storage.as_cuda_slice_mut::<bf16>()?).w(),
            DType::F32 => stream.memset_zeros(storage.as_cuda_slice_mut::<f32>()?).w(),
            DType::U32 => stream.memset_zeros(storage.as_cuda_slice_mut::<u32>()?).w(),
            DType::U8 => stream.memset_zeros(storage.as_cuda_slice_mut::<u8>()?).w(),
            _ => Err(crate::cuda::Error::Unsupported { kernel: "wipe", what: "this dtype" }.into()),
        }
    }
}
