//! Operations on single values. Those that end a linear layer overwrite its output in place.

use candle_core::Tensor;

use crate::{
    cuda::{
        Error, Result,
        context::{self, Context, PushKernelArg},
        tensor::{Operand, Output, VECTOR, device, suffix},
    },
    operand::Activation,
};

/// Vectors that kernels count in 32 bits.
const MOST_VECTORS: usize = 1 << 30;

/// x (l, 2·m) → gelu(first half) ∘ second half: (l, m), GELU in its tanh form. bf16 or f32.
///
/// # Errors
/// `Unsupported` where m is no multiple of 8.
pub(super) fn gated_gelu(x: &Tensor) -> Result<Tensor> {
    const NAME: &str = "gated gelu";
    let (rows, joined) = x.dims2()?;
    let operand = Operand::contiguous(NAME, x)?;
    operand.require(joined.is_multiple_of(2 * VECTOR), "this width")?;
    let context = context::of(device(NAME, x)?)?;
    // SAFETY: the kernel below writes every vector.
    let y = unsafe { Output::new(&context.device, (rows, joined / 2), operand.dtype) }?;
    let (vectors, columns) = (rows * joined / 2 / VECTOR, (joined / 2 / VECTOR) as u32);
    operand.require(vectors <= MOST_VECTORS, "this many values")?;
    let count = vectors as u32;
    let mut call = context.call("gated_gelu", operand.suffix()?)?;
    call.arg(&operand.address).arg(&y.address).arg(&count).arg(&columns);
    // SAFETY: the kernel's arguments in its order; x has twice as many vectors as y, row by row.
    unsafe { call.launch(context.strided(vectors)) }?;
    Ok(y.into_tensor())
}

/// An output that a kernel has been told to fill, and that another may change before it is given out.
pub(crate) struct Filled<'a> {
    pub(crate) address: u64,
    /// (rows, columns)
    pub(crate) shape: [usize; 2],
    /// From row to row, in values.
    pub(crate) stride: usize,
    pub(crate) dtype: candle_core::DType,
    pub(crate) context: &'a Context,
}

impl Filled<'_> {
    /// y ← onto + gate ∘ y; onto and y (rows, columns), gate (n, columns), a row for as many rows of y as
    /// for the next; contiguous.
    pub(crate) fn gate_onto(&self, gate: &Tensor, onto: &Tensor) -> Result<()> {
        const NAME: &str = "gate";
        let (vectors, columns) = self.vectors(NAME)?;
        let images = gate.dim(0)?;
        let gate = Operand::companion((NAME, "gate"), gate, self.dtype, &[images, self.shape[1]])?;
        let whole = images > 0 && self.shape[0].is_multiple_of(images);
        gate.require(whole, "rows of a part of an image")?;
        let each = vectors / images as u32;
        let onto = Operand::companion((NAME, "onto"), onto, self.dtype, &self.shape)?;
        let mut call = self.context.call("gate_onto", suffix(NAME, self.dtype)?)?;
        call.arg(&self.address).arg(&gate.address).arg(&onto.address);
        call.arg(&vectors).arg(&each).arg(&columns);
        // SAFETY: the kernel's arguments in its order; y and onto have `vectors` vectors in rows of
        // `columns`, gate has a row for every `each` of them. y is not given out yet, so nothing else reads it.
        unsafe { call.launch(self.context.strided(vectors as usize)) }?;
        Ok(())
    }

    /// y ← onto + y; onto has as many values as y, both contiguous.
    #[cfg(feature = "cudnn")]
    pub(crate) fn add_onto(&self, onto: &Operand<'_>) -> Result<()> {
        let (vectors, _) = self.vectors("add")?;
        let mut call = self.context.call("add_onto", suffix("add", self.dtype)?)?;
        call.arg(&self.address).arg(&onto.address).arg(&vectors);
        // SAFETY: the kernel's arguments in its order; the caller checked onto's shape and dtype
        // against y's. y is not given out yet, so nothing else reads it.
        unsafe { call.launch(self.context.strided(vectors as usize)) }?;
        Ok(())
    }

    /// y ← activation(y + bias), rows apart or not; bias (columns,).
    pub(crate) fn activate(
        &self,
        bias: Option<&Operand<'_>>,
        activation: Option<Activation>,
    ) -> Result<()> {
        let (vectors, columns) = self.vectors("activation")?;
        let kind = activation.map_or(-1, |activation| activation as i32);
        let (bias, stride) = (bias.map_or(0, |bias| bias.address), (self.stride / VECTOR) as u32);
        let mut call = self.context.call("activate", suffix("activation", self.dtype)?)?;
        call.arg(&self.address).arg(&bias).arg(&vectors).arg(&columns).arg(&stride).arg(&kind);
        // SAFETY: the kernel's arguments in its order; y has `vectors` vectors in rows of `columns`,
        // `stride` apart, and is not given out yet; the bias is null or, as the caller checked, a row.
        unsafe { call.launch(self.context.strided(vectors as usize)) }?;
        Ok(())
    }

    /// Vectors in all and in a row.
    fn vectors(&self, kernel: &'static str) -> Result<(u32, u32)> {
        let [rows, columns] = self.shape;
        let vectors = rows * columns / VECTOR;
        if !(columns | self.stride).is_multiple_of(VECTOR) || vectors > MOST_VECTORS {
            return Err(Error::Unsupported { kernel, what: "this many values" });
        }
        Ok((vectors as u32, (columns / VECTOR) as u32))
    }
}
