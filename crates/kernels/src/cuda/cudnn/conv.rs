//! 3×3 convolutions of images with their channels last.

use std::ffi::c_void;

use candle_core::{
    DType, Tensor,
    cuda_backend::cudarc::cudnn::sys::{
        cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
        cudnnConvolutionMode_t as Mode, cudnnDataType_t as Element,
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
        Error, Result,
        context::{self, Context, lock},
        pointwise::Filled,
        tensor::{Operand, Output, device},
    },
    groups::Group,
    operand::{Conv3x3, Kernel3x3},
};

const NAME: &str = "conv3x3";

/// Engines that are tried for a shape.
const CANDIDATES: usize = 12;

/// x (h, w, in), bf16 → (h, w, out).
///
/// # Errors
/// `Unsupported` for other dtypes, and for shapes that no engine takes.
pub(in super::super) fn conv3x3(x: &Tensor, conv: &Conv3x3) -> Result<Tensor> {
    let context = context::of(device(NAME, x)?)?;
    Ok(convolve(&context, x, conv)?.into_tensor())
}

/// x (h, w, in), bf16 → residual + conv(x): (h, w, out).
///
/// # Errors
/// As [`conv3x3`], and where out is no multiple of 8.
pub(in super::super) fn conv3x3_add(
    x: &Tensor,
    conv: &Conv3x3,
    residual: &Tensor,
) -> Result<Tensor> {
    let context = context::of(device(NAME, x)?)?;
    let (height, width, _) = x.dims3()?;
    let outputs = weight_of(conv)?.dims4()?.0;
    let shape = [height, width, outputs];
    let residual = Operand::companion((NAME, "residual"), residual, x.dtype(), &shape)?;
    let y = convolve(&context, x, conv)?;
    Filled {
        address: y.address,
        shape: [height * width, outputs],
        stride: outputs,
        dtype: x.dtype(),
        context: &context,
    }
    .add_onto(&residual)?;
    Ok(y.into_tensor())
}

fn weight_of(conv: &Conv3x3) -> Result<&Tensor> {
    match &conv.kernel {
        Kernel3x3::Plain(weight) => Ok(weight),
        Kernel3x3::Packed(_) => Err(Error::NotOnDevice { kernel: NAME }),
    }
}

fn convolve(context: &Context, x: &Tensor, conv: &Conv3x3) -> Result<Output> {
    let (height, width, inputs) = x.dims3()?;
    let weight = weight_of(conv)?;
    let outputs = weight.dims4()?.0;
    let operand = Operand::contiguous(NAME, x)?;
    operand.require(operand.dtype == DType::BF16, "this dtype")?;
    let dtype = operand.dtype;
    let weight = Operand::companion((NAME, "weight"), weight, dtype, &[outputs, 3, 3, inputs])?;
    let bias = Operand::companion((NAME, "bias"), &conv.bias, dtype, &[outputs])?;
    // SAFETY: the convolution below writes every value.
    let y = unsafe { Output::new(&context.device, (height, width, outputs), dtype) }?;
    let [height, width, inputs, outputs] = [height, width, inputs, outputs].map(|n| n as i64);
    let problem = Problem { height, width, inputs, outputs };
    let places = [operand.address, weight.address, bias.address, y.address]
        .map(|address| address as *mut c_void);
    let bound = Bound { ids: &[X, W, B, Y], places: &places };
    let library = Library::of(&context.device)?;
    // SAFETY: the operands have the problem's sizes, contiguous, their storages are locked until the
    // plan is in the stream, and y is new.
    unsafe { lock(&library).convolve(problem, &bound) }?;
    Ok(y)
}

impl Library {
    /// # Safety
    /// As for [`Library::run`] with a plan of this problem.
    unsafe fn convolve(&mut self, problem: Problem, bound: &Bound<'_>) -> Result<()> {
        // Taken out while it runs, which needs all of `self`.
        let plan = match self.convolutions.remove(&problem) {
            Some(plan) => plan,
            None => {
                let of = Of { kernel: NAME, group: Group::Conv, most: CANDIDATES };
                let graph = problem.graph(&self.target);
                // SAFETY: the caller's promise.
                unsafe { self.pin_fastest(&of, graph, bound) }?
            }
        };
        // SAFETY: the caller's promise.
        let done = planned(NAME, &plan).and_then(|plan| unsafe { self.run(plan, bound) });
        self.convolutions.insert(problem, plan);
        done
    }
}

const X: i64 = 1;
const W: i64 = 2;
const B: i64 = 3;
const Y: i64 = 4;
const SUM: i64 = 5;

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    height: i64,
    width: i64,
    inputs: i64,
    outputs: i64,
}

impl Problem {
    /// Convolution, then the bias; cuDNN numbers (image, channel, row, column) whatever lies how.
    ///
    /// Nothing more is fused in: with an addition behind the bias, only engines that compile their
    /// kernels at run time are left.
    fn graph(&self, target: &Target) -> Result<Graph> {
        let &Self { height, width, inputs, outputs } = self;
        let bf16 = Element::CUDNN_DATA_BFLOAT16;
        let image = |id, channels, element, residence| graph::Tensor {
            id,
            dims: [1, channels, height, width],
            strides: [height * width * channels, 1, width * channels, channels],
            element,
            residence,
        };
        let x = image(X, inputs, bf16, graph::Residence::Memory).descriptor()?;
        let y = image(Y, outputs, bf16, graph::Residence::Memory).descriptor()?;
        let sum = image(SUM, outputs, Element::CUDNN_DATA_FLOAT, graph::Residence::Between)
            .descriptor()?;
        let w = graph::Tensor {
            id: W,
            dims: [outputs, inputs, 3, 3],
            strides: [9 * inputs, 1, 3 * inputs, inputs],
            element: bf16,
            residence: graph::Residence::Memory,
        }
        .descriptor()?;
        let b = graph::Tensor {
            id: B,
            dims: [1, outputs, 1, 1],
            strides: [outputs, 1, outputs, outputs],
            element: bf16,
            residence: graph::Residence::Memory,
        }
        .descriptor()?;
        let [convolution, how] = convolution(&x, &w, &sum)?;
        let [addition, mode] = graph::add(&sum, &b, &y)?;
        Graph::new(target, vec![convolution, addition], vec![x, w, b, y, sum, how, mode])
    }
}

/// y = x ∗ w, summed in f32; one pixel of zeros around, stride 1. The operation, then what it is made
/// from.
fn convolution(x: &Descriptor, w: &Descriptor, y: &Descriptor) -> Result<[Descriptor; 2]> {
    let how = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, Value::Numbers(&[2]))?
        .with(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Value::Element(Element::CUDNN_DATA_FLOAT))?
        .with(
            Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE,
            Value::Convolution(Mode::CUDNN_CROSS_CORRELATION),
        )?
        .with(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, Value::Numbers(&[1, 1]))?
        .with(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, Value::Numbers(&[1, 1]))?
        .with(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, Value::Numbers(&[1, 1]))?
        .with(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, Value::Numbers(&[1, 1]))?
        .finish("convolution")?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?
        .with(
            Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            Value::Descriptors(&[&how]),
        )?
        .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, Value::Descriptors(&[x]))?
        .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, Value::Descriptors(&[w]))?
        .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, Value::Descriptors(&[y]))?
        .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, Value::Factor(1.0))?
        .with(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, Value::Factor(0.0))?
        .finish("convolution of tensors")?;
    Ok([operation, how])
}

#[cfg(test)]
mod tests {
    use super::{
        super::{descriptor::tests::h200, graph::Plan},
        *,
    };

    /// cuDNN plans for a described device: this says which shapes its engines take, not that they
    /// compute them rightly.
    #[test]
    fn cudnn_plans_the_autoencoders_convolutions_for_an_h200() {
        let target = h200();
        let sizes = [
            [128, 16, 512],
            [128, 512, 512],
            [256, 512, 512],
            [512, 512, 256],
            [512, 256, 256],
            [1024, 256, 128],
            [1024, 128, 128],
            [1024, 128, 3],
            // The demo model's, at 256².
            [32, 16, 64],
            [256, 32, 16],
            [256, 16, 3],
        ];
        for [side, inputs, outputs] in sizes {
            let problem = Problem { height: side, width: side + 8, inputs, outputs };
            let graph = problem.graph(&target).unwrap();
            let mut offered = graph.configurations(&target, CANDIDATES).unwrap().into_iter();
            assert!(offered.any(|one| Plan::new(&target, one, &graph).is_ok()), "{problem:?}");
        }
    }
}
