//! softmax(q·kᵀ · scale + mask) · v with the scores in memory: two products of cuBLAS on the heads as
//! they lie, and a softmax between them.

use std::ffi::c_void;

use candle_core::{
    DType, Tensor,
    cuda_backend::cudarc::cublas::{result, sys},
};

use crate::{
    cuda::{
        Error, Result,
        context::{self, Context, PushKernelArg, THREADS, grid},
        tensor::{Operand, Output, check_shape, device, suffix},
    },
    operand::{self, Heads, Mask},
};

const NAME: &str = "attention in memory";

/// Scores that are in memory at once: 256 MiB of bf16, half of what the autoencoder has at 1024×1024.
const MOST_SCORES: usize = 1 << 27;

/// Keys of the longest row that one warp takes: 32 for each of its lanes.
const MOST_KEYS: usize = 1024;

const THREADS_OF_LONG_ROW: usize = 512;

/// Heads → (n·l, h·d), bf16 or f32; softmax in f32, scores and weights stored as the heads are.
///
/// # Errors
/// `Unsupported` for other dtypes, tokens that overlap, and where a biased or causal row has more than
/// 1024 scores.
pub(super) fn attention_in_memory(heads: &Heads, scores: operand::Scores<'_>) -> Result<Tensor> {
    let Heads { q, k, v, images } = heads;
    let (images, operand::Scores { scale, mask }) = (*images, scores);
    let context = context::of(device(NAME, q)?)?;
    let ((rows, count, width), keys) = (q.dims3()?, k.dims3()?.0);
    check_shape((NAME, "keys"), k.dims(), &[keys, count, width])?;
    check_shape((NAME, "values"), v.dims(), &[keys, count, width])?;
    let [q, k, v] = [Operand::new(NAME, q)?, Operand::new(NAME, k)?, Operand::new(NAME, v)?];
    let whole = images > 0 && rows.is_multiple_of(images) && keys.is_multiple_of(images);
    q.require(whole, "tokens of a part of an image")?;
    for operand in [&q, &k, &v] {
        operand.require(operand.dtype == q.dtype, "heads of different dtypes")?;
        operand.require(operand.strides()[2] == 1, "values apart")?;
        operand.require(operand.strides()[0] >= width, "tokens that overlap")?;
    }
    let (queries, keys, joined) = (rows / images, keys / images, count * width);
    q.require(queries > 0 && keys > 0 && joined > 0, "nothing")?;
    q.require((count * queries).max(keys) <= i32::MAX as usize / 32, "this many scores")?;
    let (dtype, bytes) = (q.dtype, q.dtype.size_in_bytes());
    // A bias belongs to all queries of an image.
    let most = match mask {
        Mask::None => (MOST_SCORES / (count * keys)).clamp(1, queries),
        Mask::Causal | Mask::Bias(_) => queries,
    };
    // SAFETY: the products below write each image's queries, which are all the rows there are.
    let y = unsafe { Output::new(&context.device, (rows, joined), dtype) }?;
    for image in 0..images {
        let of = |operand: &Operand<'_>, row: usize| Matrices {
            address: operand.address + (row * operand.strides()[0] * bytes) as u64,
            stride: operand.strides()[0],
            next: operand.strides()[1],
        };
        let (k, v) = (of(&k, image * keys), of(&v, image * keys));
        for from in (0..queries).step_by(most) {
            let row = image * queries + from;
            let queries = most.min(queries - from);
            // SAFETY: the product below writes every score.
            let scores = unsafe { Output::new(&context.device, (count, queries, keys), dtype) }?;
            let at = Matrices { address: scores.address, stride: keys, next: queries * keys };
            let product =
                Product { heads: count, dtype, rows: queries, inner: width, columns: keys };
            // SAFETY: queries and keys have the heads' widths at their strides, as their shapes say;
            // the scores are new.
            unsafe { product.run(&context, &of(&q, row), (&k, true), &at) }?;
            let shape = [count, queries, keys];
            Scores { address: scores.address, shape, dtype }.softmax(&context, scale, mask)?;
            let address = y.address + (row * joined * bytes) as u64;
            let to = Matrices { address, stride: joined, next: width };
            let product =
                Product { heads: count, dtype, rows: queries, inner: keys, columns: width };
            // SAFETY: as above; y's rows from `row` on have room for these heads side by side.
            unsafe { product.run(&context, &at, (&v, false), &to) }?;
        }
    }
    Ok(y.into_tensor())
}

/// A matrix for each head.
struct Matrices {
    address: u64,
    /// From row to row, in values.
    stride: usize,
    /// From head to head, in values.
    next: usize,
}

/// (rows, inner) · (inner, columns), for each head, summed in f32.
struct Product {
    heads: usize,
    /// Of all matrices: bf16 or f32.
    dtype: DType,
    rows: usize,
    inner: usize,
    columns: usize,
}

impl Product {
    /// y ← x w, or x wᵀ where w is (columns, inner).
    ///
    /// # Safety
    /// The matrices are on this context's device, of these sizes and this dtype, and y is no other one's
    /// memory.
    unsafe fn run(
        &self,
        context: &Context,
        x: &Matrices,
        (w, transposed): (&Matrices, bool),
        y: &Matrices,
    ) -> Result<()> {
        use sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        let element = match self.dtype {
            DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            _ => return Err(Error::Unsupported { kernel: NAME, what: "this dtype" }),
        };
        let (one, zero) = (1f32, 0f32);
        context.stream.context().bind_to_thread()?;
        // cuBLAS's matrices have their columns side by side: each is the transpose of ours, and
        // yᵀ = wᵀ xᵀ.
        // SAFETY: the factors are read before the call is over; the matrices are the caller's promise.
        // candle's handle is in the context's stream.
        let done = unsafe {
            result::gemm_strided_batched_ex(
                *context.device.cublas_handle().handle(),
                if transposed { CUBLAS_OP_T } else { CUBLAS_OP_N },
                CUBLAS_OP_N,
                self.columns as i32,
                self.rows as i32,
                self.inner as i32,
                (&raw const one).cast(),
                w.address as *const c_void,
                element,
                w.stride as i32,
                w.next as i64,
                x.address as *const c_void,
                element,
                x.stride as i32,
                x.next as i64,
                (&raw const zero).cast(),
                y.address as *mut c_void,
                element,
                y.stride as i32,
                y.next as i64,
                self.heads as i32,
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        Ok(done?)
    }
}

/// Scores in memory: (h, l, m).
struct Scores {
    address: u64,
    shape: [usize; 3],
    dtype: DType,
}

impl Scores {
    /// x ← softmax(x · scale + bias) over the last dimension.
    fn softmax(&self, context: &Context, scale: f32, mask: Mask<'_>) -> Result<()> {
        let ([heads, queries, keys], address) = (self.shape, self.address);
        let (rows, key_count, suffix) = (heads * queries, keys as i32, suffix(NAME, self.dtype)?);
        if keys > MOST_KEYS {
            if !matches!(mask, Mask::None) {
                let what = "this many keys behind a mask";
                return Err(Error::Unsupported { kernel: NAME, what });
            }
            let mut call = context.call("softmax_long", suffix)?;
            call.arg(&address).arg(&address).arg(&key_count).arg(&scale);
            // SAFETY: the kernel's arguments in its order; the scores have a row of keys for each
            // block, and x and y may be the same.
            unsafe { call.launch(grid(rows as u32, THREADS_OF_LONG_ROW)) }?;
            return Ok(());
        }
        let bias_tensor = match mask {
            Mask::Bias(tensor) => {
                Some(Operand::companion((NAME, "bias"), tensor, DType::F32, &self.shape)?)
            }
            Mask::None | Mask::Causal => None,
        };
        let bias_address = bias_tensor.as_ref().map_or(0u64, |bias| bias.address);
        let causal = i32::from(matches!(mask, Mask::Causal));
        let (row_count, query_count) = (rows as i64, queries as i32);
        let mut call = context.call("softmax", suffix)?;
        call.arg(&address).arg(&bias_address).arg(&address).arg(&row_count);
        call.arg(&query_count).arg(&key_count).arg(&scale).arg(&causal);
        let blocks = (rows * 32).div_ceil(THREADS);
        // SAFETY: the kernel's arguments in its order, x and y may be the same; a warp for each row, and
        // warps beyond the last row touch nothing. The bias is null or has the scores' shape.
        unsafe { call.launch(grid(blocks as u32, THREADS)) }?;
        Ok(())
    }
}
