//! Graphs of cuDNN operations, and the plans that engines offer for them.

use std::rc::Rc;

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind,
    cudnnBackendHeurMode_t as Mode, cudnnDataType_t as Element, cudnnPointwiseMode_t as Pointwise,
};

use super::descriptor::{Bound, Descriptor, Target, Value, execute};
use crate::cuda::{Error, Result};

/// A tensor of four dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    /// Unlike those of the graph's other tensors.
    pub(super) id: i64,
    pub(super) dims: [i64; 4],
    /// In values.
    pub(super) strides: [i64; 4],
    pub(super) element: Element,
    pub(super) residence: Residence,
}

/// Where a tensor's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Residence {
    /// In the device's memory, at a multiple of 16 bytes.
    Memory,
    /// Nowhere: one operation hands them to the next.
    Between,
    /// On the host, read when the plan is run.
    Host,
}

impl Tensor {
    pub(super) fn descriptor(&self) -> Result<Descriptor> {
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?
            .with(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, Value::Numbers(&[self.id]))?
            .with(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, Value::Element(self.element))?
            .with(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, Value::Numbers(&self.dims))?
            .with(Name::CUDNN_ATTR_TENSOR_STRIDES, Value::Numbers(&self.strides))?
            .with(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, Value::Numbers(&[16]))?;
        match self.residence {
            Residence::Memory => tensor,
            Residence::Between => {
                tensor.with(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Value::Flag(true))?
            }
            Residence::Host => {
                tensor.with(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, Value::Flag(true))?
            }
        }
        .finish("tensor")
    }
}

/// y = x + b, in f32; the operation, then what it is made from.
pub(super) fn add(x: &Descriptor, b: &Descriptor, y: &Descriptor) -> Result<[Descriptor; 2]> {
    let mode = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_POINTWISE_MODE, Value::Pointwise(Pointwise::CUDNN_POINTWISE_ADD))?
        .with(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, Value::Element(Element::CUDNN_DATA_FLOAT))?
        .finish("addition")?;
    let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, Value::Descriptors(&[&mode]))?
        .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, Value::Descriptors(&[x]))?
        .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, Value::Descriptors(&[b]))?
        .with(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, Value::Descriptors(&[y]))?
        .finish("addition of tensors")?;
    Ok([operation, mode])
}

/// Engines that want more are passed over: the workspace is kept as long as the process lives.
const MOST_WORKSPACE_BYTES: usize = 1 << 30;

/// Operations that hand tensors to each other.
pub(super) struct Graph {
    graph: Rc<Parts>,
}

struct Parts {
    graph: Descriptor,
    /// cuDNN does not say whether a graph keeps what it was made from.
    _parts: Vec<Descriptor>,
}

impl Graph {
    /// `parts` are what the operations were made from.
    pub(super) fn new(
        target: &Target,
        operations: Vec<Descriptor>,
        parts: Vec<Descriptor>,
    ) -> Result<Self> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        let graph = match target {
            Target::Handle(handle) => {
                graph.with(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, Value::Handle(*handle))?
            }
            #[cfg(test)]
            Target::Profile(_) => graph,
        };
        let links: Vec<&Descriptor> = operations.iter().collect();
        let graph = graph
            .with(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, Value::Descriptors(&links))?
            .finish("graph")?;
        let mut kept = parts;
        kept.extend(operations);
        Ok(Self { graph: Rc::new(Parts { graph, _parts: kept }) })
    }

    /// Engines with their settings, best first as cuDNN's heuristics have it, those of last resort
    /// behind the others. At most `most`.
    pub(super) fn configurations(&self, target: &Target, most: usize) -> Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        for mode in [Mode::CUDNN_HEUR_MODE_A, Mode::CUDNN_HEUR_MODE_FALLBACK] {
            let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
                .with(Name::CUDNN_ATTR_ENGINEHEUR_MODE, Value::Heuristic(mode))?
                .with(
                    Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH,
                    Value::Descriptors(&[&self.graph.graph]),
                )?;
            let heuristics = match target {
                Target::Handle(_) => heuristics,
                #[cfg(test)]
                Target::Profile(device) => heuristics
                    .with(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, Value::Descriptors(&[device]))?,
            };
            // A mode that knows nothing of the graph refuses here; the other may know something.
            let Ok(heuristics) = heuristics.finish("heuristics") else { continue };
            found.extend(heuristics.descriptors(
                Name::CUDNN_ATTR_ENGINEHEUR_RESULTS,
                Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                most - found.len(),
            )?);
        }
        Ok(found)
    }
}

/// A graph as one engine runs it.
pub(super) struct Plan {
    plan: Descriptor,
    pub(super) workspace_bytes: usize,
    /// cuDNN does not say whether a plan keeps what it was made from.
    _parts: (Descriptor, Rc<Parts>),
}

impl Plan {
    /// # Errors
    /// Where the engine does not take the graph, or wants more workspace than is kept for it.
    pub(super) fn new(target: &Target, configuration: Descriptor, graph: &Graph) -> Result<Self> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?.with(
            Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
            Value::Descriptors(&[&configuration]),
        )?;
        let plan = match target {
            Target::Handle(handle) => {
                plan.with(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, Value::Handle(*handle))?
            }
            #[cfg(test)]
            Target::Profile(device) => plan
                .with(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, Value::Descriptors(&[device]))?,
        };
        let plan = plan.finish("plan")?;
        let workspace = plan.number(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
        let workspace_bytes = usize::try_from(workspace).unwrap_or_default();
        if workspace_bytes > MOST_WORKSPACE_BYTES {
            return Err(Error::Unsupported { kernel: "plan", what: "a workspace above 1 GiB" });
        }
        Ok(Self { plan, workspace_bytes, _parts: (configuration, graph.graph.clone()) })
    }

    /// # Safety
    /// `bound` names each of the graph's tensors that are not between operations, `workspace` has
    /// `workspace_bytes`.
    pub(super) unsafe fn execute(
        &self,
        target: &Target,
        bound: &Bound<'_>,
        workspace: u64,
    ) -> Result<()> {
        match target {
            // SAFETY: the caller's promise.
            Target::Handle(handle) => unsafe { execute(*handle, &self.plan, bound, workspace) },
            #[cfg(test)]
            Target::Profile(_) => unreachable!("a device that is only described runs nothing"),
        }
    }
}
