//! Queries, keys and values of several streams as the heads of one attention.

use candle_core::{DType, cuda_backend::cudarc::driver::DeviceRepr};

use crate::{
    cuda::{
        Error, Result,
        context::{self, PushKernelArg, grid},
        tensor::{Operand, Output, VECTOR, check_shape, device},
    },
    operand::{Heads, Rotations, Stream},
};

const NAME: &str = "qk norm + rope";

/// Of a block.
const MOST_THREADS: usize = 1024;

/// Streams of n·l₁, n·l₂, … tokens → heads of n·(l₁ + l₂ + …) tokens, (n·l, h, d) each:
/// queries and keys normalised over each head's width, then rotated in pairs of neighbours. An image's
/// tokens of all streams come together; there are n times as many tokens as angles. bf16 or f32.
///
/// Of a single stream, the values are a view into `qkv`.
///
/// # Errors
/// `Unsupported` where d / 8 is no power of two up to 32, or where a stream's tokens are no multiple of n.
pub(super) fn qk_norm_rope(streams: &[Stream<'_>], rotations: &Rotations) -> Result<Heads> {
    let first = streams.first().ok_or(Error::Unsupported { kernel: NAME, what: "no streams" })?;
    let shape = Joined::of(streams)?;
    let joint = rotations.cos.dims2()?.0.max(1);
    let images = shape.length / joint;
    // Then the streams' shares of an image add up to its angles.
    check_shape((NAME, "tokens"), &[shape.length], &[images * joint])?;
    let cos =
        Operand::companion((NAME, "cos"), &rotations.cos, DType::F32, &[joint, shape.width / 2])?;
    let sin =
        Operand::companion((NAME, "sin"), &rotations.sin, DType::F32, &[joint, shape.width / 2])?;
    let context = context::of(device(NAME, first.qkv)?)?;
    let dtype = first.qkv.dtype();
    let Joined { length, count, width } = shape;
    let new = || {
        // SAFETY: each stream's kernel below writes its rows, and the streams' rows are all there are.
        unsafe { Output::new(&context.device, (length, count, width), dtype) }
    };
    let (q, k) = (new()?, new()?);
    let v = if streams.len() > 1 { Some(new()?) } else { None };
    // Of an image's rows, the stream's first.
    let mut row = 0;
    for stream in streams {
        let rows = stream.qkv.dim(0)?;
        let qkv = Operand::contiguous(NAME, stream.qkv)?;
        let each = rows / images.max(1);
        qkv.require(each > 0 && each * images == rows, "tokens of a part of an image")?;
        check_shape((NAME, "qkv"), stream.qkv.dims(), &[rows, 3 * count * width])?;
        let weight = |weight| Operand::companion((NAME, "norm's weight"), weight, dtype, &[width]);
        let (weight_q, weight_k) = (weight(&stream.norm_q.weight)?, weight(&stream.norm_k.weight)?);
        let heads_at = |base: u64| base + (row * count * width * dtype.size_in_bytes()) as u64;
        let angles_at = |base: u64| base + (row * width / 2 * size_of::<f32>()) as u64;
        let parameters = Parameters {
            qkv: qkv.address,
            weight_q: weight_q.address,
            weight_k: weight_k.address,
            cos: angles_at(cos.address),
            sin: angles_at(sin.address),
            q: heads_at(q.address),
            k: heads_at(k.address),
            v: v.as_ref().map_or(0, |v| heads_at(v.address)),
            rows: rows as i32,
            each: each as i32,
            joint: joint as i32,
            heads: count as i32,
            width: width as i32,
            eps_q: stream.norm_q.eps as f32,
            eps_k: stream.norm_k.eps as f32,
        };
        let threads = (count * (width / VECTOR)).next_multiple_of(32).min(MOST_THREADS);
        let mut call = context.call("qk_norm_rope", qkv.suffix()?)?;
        call.arg(&parameters);
        // SAFETY: the one argument is laid out as the kernel's. qkv holds rows · 3 · count · width
        // values; cos and sin hold width / 2 for each of an image's joint rows, the outputs
        // count · width for those of every image, and this stream's `each` rows of an image begin at
        // `row`, behind those of the streams before it. A block touches one row of each, its threads the
        // same vectors of the row's parts; a head's lanes divide a warp's, and so a block's.
        unsafe { call.launch(grid(rows as u32, threads)) }?;
        row += each;
    }
    let v = match v {
        Some(v) => v.into_tensor(),
        // (n·l, 3·h·d) → (n·l, h, d)
        None => first.qkv.reshape((length, 3, count, width))?.narrow(1, 2, 1)?.squeeze(1)?,
    };
    Ok(Heads { q: q.into_tensor(), k: k.into_tensor(), v, images })
}

/// What `qk_norm_rope_*` takes, as `cuda/heads.cu` declares it: addresses, then counts.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    qkv: u64,
    weight_q: u64,
    weight_k: u64,
    cos: u64,
    sin: u64,
    q: u64,
    k: u64,
    v: u64,
    rows: i32,
    each: i32,
    joint: i32,
    heads: i32,
    width: i32,
    eps_q: f32,
    eps_k: f32,
}

// SAFETY: plain numbers in C's layout, which is what a kernel's parameters are copied from.
unsafe impl DeviceRepr for Parameters {}

/// The shape of all streams' heads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Joined {
    length: usize,
    count: usize,
    width: usize,
}

impl Joined {
    fn of(streams: &[Stream<'_>]) -> Result<Self> {
        let mut length = 0;
        for stream in streams {
            length += stream.qkv.dims2()?.0;
        }
        let width = streams[0].norm_q.weight.elem_count();
        let joined = streams[0].qkv.dims2()?.1;
        if !is_shared_evenly(width) || !joined.is_multiple_of(3 * width) {
            return Err(Error::Unsupported { kernel: NAME, what: "this width of a head" });
        }
        Ok(Self { length, count: joined / (3 * width), width })
    }
}

/// Whether whole vectors of a head fall to lanes of one warp: 1, 2, 4, 8, 16 or 32 of them.
fn is_shared_evenly(width: usize) -> bool {
    let lanes = width / VECTOR;
    width.is_multiple_of(VECTOR) && lanes.is_power_of_two() && lanes <= 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_laid_out_as_in_c() {
        assert_eq!(size_of::<Parameters>(), 8 * 8 + 7 * 4 + 4);
        assert_eq!(std::mem::offset_of!(Parameters, rows), 64);
        assert_eq!(std::mem::offset_of!(Parameters, eps_k), 88);
    }

    #[test]
    fn heads_of_whole_powers_of_two_are_shared() {
        for width in [8, 16, 32, 64, 128, 256] {
            assert!(is_shared_evenly(width), "{width}");
        }
        for width in [4, 20, 24, 96, 512] {
            assert!(!is_shared_evenly(width), "{width}");
        }
    }
}
