//! softmax(q·kᵀ · scale) · v as one fused kernel: the scores are never in memory.

use std::ffi::c_void;

use candle_core::{
    DType, Tensor,
    cuda_backend::cudarc::cudnn::sys::{
        cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
        cudnnDataType_t as Element,
    },
};

use super::{
    Library, Of,
    descriptor::{Bound, Descriptor, Target, Value},
    graph::{self, Graph},
    planned,
};
use crate::{
    cuda::{
        Result,
        context::{self, Context, lock},
        linear::{OutputRows, product},
        tensor::{Operand, Output, check_shape, device},
    },
    groups::Group,
    operand::{Activation, Epilogue, Heads, Input, Linear},
};

const NAME: &str = "attention";

/// Of the heads that cuDNN's kernels for Hopper take. For wider ones, as the autoencoder's of 512, it has
/// its general kernel alone; which is faster, that or scores in memory, is not measured.
const WIDEST: usize = 256;

/// Engines that are tried for a shape.
const CANDIDATES: usize = 8;

/// Whether heads are such as [`attention`] is for.
pub(in super::super) fn is_fusable(heads: &Heads) -> bool {
    heads.q.dtype() == DType::BF16 && heads.q.dims().last().is_some_and(|&width| width <= WIDEST)
}

/// Heads in bf16 → (n·l, h·d).
///
/// # Errors
/// `Unsupported` for other dtypes, unaligned heads, and shapes that no engine takes.
pub(in super::super) fn attention(heads: &Heads, scale: f32) -> Result<Tensor> {
    let context = context::of(device(NAME, &heads.q)?)?;
    let (rows, count, width) = heads.q.dims3()?;
    let joined = count * width;
    // SAFETY: the attention below writes every value.
    let y = unsafe { Output::new(&context.device, (rows, joined), heads.q.dtype()) }?;
    attend(&context, heads, scale, OutputRows { address: y.address, stride: joined })?;
    Ok(y.into_tensor())
}

/// The two branches of a single-stream block side by side: attention, scaled by 1/√d, then gelu(mlp(x))
/// (n·l, m): (n·l, h·d + m).
///
/// # Errors
/// As [`attention`] and [`crate::linear`].
pub(in super::super) fn attention_beside_mlp(
    heads: &Heads,
    x: Input<'_>,
    mlp: &Linear,
) -> Result<Tensor> {
    let (context, dtype) = (context::of(device(NAME, &heads.q)?)?, heads.q.dtype());
    let (rows, count, width) = heads.q.dims3()?;
    check_shape((NAME, "x"), &x.values.dims()[..1], &[rows])?;
    let (joined, hidden) = (count * width, mlp.outputs());
    let stride = joined + hidden;
    // SAFETY: attention writes the first columns of every row, the product the others.
    let y = unsafe { Output::new(&context.device, (rows, stride), dtype) }?;
    let scale = (width as f32).sqrt().recip();
    attend(&context, heads, scale, OutputRows { address: y.address, stride })?;
    let address = y.address + (joined * dtype.size_in_bytes()) as u64;
    let then = Epilogue::Activate(Activation::GeluTanh);
    product(&context, x, mlp, then, OutputRows { address, stride })?;
    Ok(y.into_tensor())
}

/// Puts the attention's rows into place.
fn attend(context: &Context, heads: &Heads, scale: f32, place: OutputRows) -> Result<()> {
    let Heads { q, k, v, images } = heads;
    let images = *images;
    let ((rows, count, width), keys) = (q.dims3()?, k.dims3()?.0);
    check_shape((NAME, "keys"), k.dims(), &[keys, count, width])?;
    check_shape((NAME, "values"), v.dims(), &[keys, count, width])?;
    let whole = images > 0 && rows.is_multiple_of(images) && keys.is_multiple_of(images);
    let [q, k, v] = [Operand::new(NAME, q)?, Operand::new(NAME, k)?, Operand::new(NAME, v)?];
    q.require(whole, "tokens of a part of an image")?;
    q.require(width <= WIDEST, "heads this wide")?;
    for operand in [&q, &k, &v] {
        operand.require(operand.dtype == DType::BF16, "this dtype")?;
        let aligned = operand.address.is_multiple_of(16)
            && operand.strides()[2] == 1
            && operand.strides()[..2].iter().all(|stride| stride.is_multiple_of(8));
        operand.require(aligned && width.is_multiple_of(8), "unaligned heads")?;
    }
    let strides =
        |operand: &Operand<'_>| [operand.strides()[0] as i64, operand.strides()[1] as i64];
    let shape = Shape {
        images: images as i64,
        heads: count as i64,
        queries: (rows / images) as i64,
        keys: (keys / images) as i64,
        width: width as i64,
        strides: [strides(&q), strides(&k), strides(&v), [place.stride as i64, width as i64]],
    };
    let scale = [scale];
    let bound = Bound {
        ids: &[Q, K, V, O, SCALE],
        places: &[
            q.address as *mut c_void,
            k.address as *mut c_void,
            v.address as *mut c_void,
            place.address as *mut c_void,
            scale.as_ptr().cast_mut().cast(),
        ],
    };
    let library = Library::of(&context.device)?;
    // SAFETY: the operands have the shape's sizes and strides, their storages are locked until the
    // plan is in the stream, the place has room for its rows, as its maker says, and cuDNN reads the
    // scale, which is on the host, before the call is over.
    unsafe { lock(&library).attend(shape, &bound) }
}

impl Library {
    /// # Safety
    /// As for [`Library::run`] with a plan of this shape.
    unsafe fn attend(&mut self, shape: Shape, bound: &Bound<'_>) -> Result<()> {
        // Taken out while it runs, which needs all of `self`.
        let plan = match self.attention.remove(&shape) {
            Some(plan) => plan,
            None => {
                let of = Of { kernel: NAME, group: Group::Attention, most: CANDIDATES };
                let graph = shape.graph(&self.target);
                // SAFETY: the caller's promise.
                unsafe { self.pin_first(&of, graph, bound) }?
            }
        };
        // SAFETY: the caller's promise.
        let done = planned(NAME, &plan).and_then(|plan| unsafe { self.run(plan, bound) });
        self.attention.insert(shape, plan);
        done
    }
}

const Q: i64 = 1;
const K: i64 = 2;
const V: i64 = 3;
const O: i64 = 4;
const SCALE: i64 = 5;

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    images: i64,
    heads: i64,
    /// Of each image.
    queries: i64,
    keys: i64,
    width: i64,
    /// From token to token and from head to head, in values; of q, k, v and the result.
    strides: [[i64; 2]; 4],
}

impl Shape {
    /// cuDNN's own node for all of it; cuDNN numbers (batch, head, token, value).
    fn graph(&self, target: &Target) -> Result<Graph> {
        let tensor = |id: i64, length: i64| {
            let [of_token, of_head] = self.strides[(id - Q) as usize];
            graph::Tensor {
                id,
                dims: [self.images, self.heads, length, self.width],
                strides: [length * of_token, of_head, of_token, 1],
                element: Element::CUDNN_DATA_BFLOAT16,
                residence: graph::Residence::Memory,
            }
            .descriptor()
        };
        let parts = vec![
            tensor(Q, self.queries)?,
            tensor(K, self.keys)?,
            tensor(V, self.keys)?,
            tensor(O, self.queries)?,
            graph::Tensor {
                id: SCALE,
                dims: [1; 4],
                strides: [1; 4],
                element: Element::CUDNN_DATA_FLOAT,
                residence: graph::Residence::Host,
            }
            .descriptor()?,
        ];
        let names = [
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
        ];
        let mut node = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)?;
        for (name, part) in names.into_iter().zip(&parts) {
            node = node.with(name, Value::Descriptors(&[part]))?;
        }
        Graph::new(target, vec![node.finish("attention")?], parts)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::descriptor::tests::h200, *};

    fn shape(images: i64, heads: i64, length: i64, width: i64) -> Shape {
        let joined = heads * width;
        let strides = [[3 * joined, width], [3 * joined, width], [3 * joined, width]];
        let [q, k, v] = strides;
        Shape {
            images,
            heads,
            queries: length,
            keys: length,
            width,
            strides: [q, k, v, [5 * joined, width]],
        }
    }

    /// cuDNN plans for a described device: this says which shapes its engines take, not that they
    /// compute them rightly.
    #[test]
    fn cudnn_has_engines_for_flux_on_an_h200() {
        let target = h200();
        // FLUX.1 at 256² to 2048×1024, a length that is no multiple of anything, images together, the
        // autoencoder's one head over all latent pixels, the demo model's heads.
        let shapes = [
            shape(1, 24, 256 + 256, 128),
            shape(1, 24, 256 + 4096, 128),
            shape(1, 24, 256 + 8192, 128),
            shape(1, 24, 256 + 1027, 128),
            shape(9, 24, 256 + 256, 128),
            shape(3, 24, 256 + 1024, 128),
            shape(1, 1, 128 * 128, 512),
            shape(1, 4, 256 + 256, 64),
        ];
        for shape in shapes {
            let graph = shape.graph(&target).unwrap();
            assert!(!graph.configurations(&target, CANDIDATES).unwrap().is_empty(), "{shape:?}");
        }
    }

    #[test]
    fn strides_are_part_of_a_shape() {
        let plain = shape(1, 24, 512, 128);
        let mut other = plain;
        other.strides[3] = [3072, 128];
        assert_ne!(plain, other);
    }
}
