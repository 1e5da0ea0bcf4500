//! Latents and images: unpacking, upsampling, conversion to bytes.

use candle_core::{DType, Tensor};

use crate::{
    cuda::{
        Error, Result,
        context::{self, PushKernelArg, THREADS, grid},
        tensor::{Operand, Output, check_shape, device},
    },
    operand::Unpacking,
};

/// tokens (rows · columns, 4·c), f32 → latent pixels / scaling + shift: (2·rows, 2·columns, c).
///
/// # Errors
/// `Unsupported` for other dtypes.
pub(super) fn unpack(tokens: &Tensor, how: Unpacking) -> Result<Tensor> {
    const NAME: &str = "unpack";
    let [rows, columns] = how.grid;
    let shape = [rows * columns, 4 * how.channels];
    let operand = Operand::companion((NAME, "tokens"), tokens, DType::F32, &shape)?;
    let values = shape[0] * shape[1];
    operand.require(values <= i32::MAX as usize, "this many values")?;
    let suffix = match how.dtype {
        DType::BF16 => "bf16",
        DType::F32 => "f32",
        _ => return Err(Error::Unsupported { kernel: NAME, what: "this dtype" }),
    };
    let context = context::of(device(NAME, tokens)?)?;
    let image = (2 * rows, 2 * columns, how.channels);
    // SAFETY: the kernel below writes every value.
    let y = unsafe { Output::new(&context.device, image, how.dtype) }?;
    let (row_count, column_count, channels) = (rows as i32, columns as i32, how.channels as i32);
    let (scaling, shift) = (how.scaling as f32, how.shift as f32);
    let mut call = context.call("unpack", suffix)?;
    call.arg(&operand.address).arg(&y.address).arg(&row_count).arg(&column_count);
    call.arg(&channels).arg(&scaling).arg(&shift);
    // SAFETY: the kernel's arguments in its order; both tensors have `values` values, one for each
    // thread, and threads beyond them touch nothing.
    unsafe { call.launch(grid(values.div_ceil(THREADS) as u32, THREADS)) }?;
    Ok(y.into_tensor())
}

/// x (h, w, c) → each pixel twice each way: (2h, 2w, c). bf16 or f32.
///
/// # Errors
/// `Unsupported` where c is no multiple of 8.
#[cfg(feature = "cudnn")]
pub(super) fn upsample_nearest(x: &Tensor) -> Result<Tensor> {
    use crate::cuda::tensor::VECTOR;
    const NAME: &str = "upsampling";
    let (height, width, channels) = x.dims3()?;
    let operand = Operand::contiguous(NAME, x)?;
    operand.require(channels.is_multiple_of(VECTOR), "this many channels")?;
    let vectors = channels / VECTOR;
    let count = height * width * vectors;
    operand.require(count <= 1 << 28, "this many values")?;
    let context = context::of(device(NAME, x)?)?;
    let shape = (2 * height, 2 * width, channels);
    // SAFETY: the kernel below writes every pixel.
    let y = unsafe { Output::new(&context.device, shape, operand.dtype) }?;
    let (rows, columns, of_pixel) = (height as u32, width as u32, vectors as u32);
    let mut call = context.call("upsample", operand.suffix()?)?;
    call.arg(&operand.address).arg(&y.address).arg(&rows).arg(&columns).arg(&of_pixel);
    // SAFETY: the kernel's arguments in its order; y has four vectors for each of x's.
    unsafe { call.launch(context.strided(count)) }?;
    Ok(y.into_tensor())
}

/// image (h, w, 3) in −1 to 1 → 8 bits, rounded half to even. bf16 or f32.
///
/// # Errors
/// `Unsupported` for other dtypes.
pub(super) fn to_bytes(image: &Tensor) -> Result<Tensor> {
    const NAME: &str = "to bytes";
    let (height, width, channels) = image.dims3()?;
    check_shape((NAME, "image"), &image.dims()[2..], &[3])?;
    let operand = Operand::contiguous(NAME, image)?;
    let values = height * width * channels;
    operand.require(values <= i32::MAX as usize, "this many values")?;
    let context = context::of(device(NAME, image)?)?;
    // SAFETY: the kernel below writes every value.
    let y = unsafe { Output::new(&context.device, (height, width, channels), DType::U8) }?;
    let count = values as i32;
    let mut call = context.call("to_bytes", operand.suffix()?)?;
    call.arg(&operand.address).arg(&y.address).arg(&count);
    // SAFETY: the kernel's arguments in its order; a thread for each value, and threads beyond them
    // touch nothing.
    unsafe { call.launch(grid(values.div_ceil(THREADS) as u32, THREADS)) }?;
    Ok(y.into_tensor())
}
