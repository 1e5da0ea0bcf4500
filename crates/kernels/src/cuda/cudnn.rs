//! Attention and convolutions through cuDNN's graphs.

mod attention;
mod conv;
mod descriptor;
mod graph;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use candle_core::{
    CudaDevice,
    cuda_backend::cudarc::{
        cudnn::sys,
        driver::{CudaSlice, CudaStream, DevicePtr},
    },
};

use crate::{
    cuda::{Error, Result, context::PerDevice, timing::Trial},
    groups::Group,
};
use attention::Shape;
use conv::Problem;
use descriptor::{Bound, Descriptor, Target, check};
use graph::{Graph, Plan};

pub(super) use attention::{attention, attention_beside_mlp, is_fusable};
pub(super) use conv::{conv3x3, conv3x3_add};

/// cuDNN's handle in one stream, its workspace, and the plan pinned for each shape.
pub(crate) struct Library {
    target: Target,
    stream: Arc<CudaStream>,
    /// Used by one plan at a time: they are all in one stream.
    workspace: CudaSlice<u8>,
    attention: HashMap<Shape, Pinned>,
    convolutions: HashMap<Problem, Pinned>,
}

/// The fastest plan, or why there is none.
type Pinned = std::result::Result<Plan, Box<str>>;

// SAFETY: a handle may be used from any thread, one at a time, and so may descriptors; a `Library` is
// used through `&mut` alone.
unsafe impl Send for Library {}

impl Library {
    /// A device's own.
    fn of(device: &CudaDevice) -> Result<Arc<Mutex<Self>>> {
        static MADE: PerDevice<Mutex<Library>> = PerDevice::new();
        MADE.of(device, |stream| Self::new(stream).map(Mutex::new))
    }

    fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the call writes a handle to a place for one.
        check("create", unsafe { sys::cudnnCreate(&raw mut handle) })?;
        let target = Target::Handle(handle);
        // SAFETY: handle and stream are alive, and the stream outlives the handle: it is kept below.
        check("stream", unsafe { sys::cudnnSetStream(handle, stream.cu_stream().cast()) })?;
        // SAFETY: only cuDNN uses it, which reads nothing there that it did not write.
        let workspace = unsafe { stream.alloc(1) }?;
        Ok(Self {
            target,
            stream: stream.clone(),
            workspace,
            attention: HashMap::new(),
            convolutions: HashMap::new(),
        })
    }

    /// Runs a plan.
    ///
    /// # Safety
    /// `bound` names each of the plan's tensors, on this stream's device, as large as its shape says,
    /// and no output is another one's memory.
    unsafe fn run(&mut self, plan: &Plan, bound: &Bound<'_>) -> Result<()> {
        self.stream.context().bind_to_thread()?;
        if plan.workspace_bytes > self.workspace.len() {
            // SAFETY: as in `new`. The one before it is freed in stream order, after its last use.
            self.workspace = unsafe { self.stream.alloc(plan.workspace_bytes) }?;
        }
        let (workspace, _) = self.workspace.device_ptr(&self.stream);
        // SAFETY: the tensors are the caller's promise; the workspace is as large as the plan asks.
        unsafe { plan.execute(&self.target, bound, workspace) }
    }

    /// The fastest of the plans that run.
    ///
    /// # Safety
    /// As for [`Library::run`], for each of the plans.
    unsafe fn pin_fastest(
        &mut self,
        of: &Of,
        graph: Result<Graph>,
        bound: &Bound<'_>,
    ) -> Result<Pinned> {
        let (graph, configurations) = match self.offered(of, graph) {
            Ok(offered) => offered,
            Err(reason) => return Ok(Err(reason)),
        };
        let stream = self.stream.clone();
        let mut trial = Trial::new(of.kernel, &stream);
        let mut plans = Vec::new();
        for (index, configuration) in configurations.into_iter().enumerate() {
            // cuDNN says only when it plans whether an engine takes the graph.
            match Plan::new(&self.target, configuration, &graph) {
                Ok(plan) => plans.push((index, plan)),
                Err(error) => trial.note(index, &error.to_string()),
            }
        }
        // SAFETY: the caller's promise; each run writes the same result.
        let best = trial.fastest(&plans, |plan| unsafe { self.run(plan, bound) })?;
        Ok(match best.and_then(|place| plans.into_iter().nth(place)) {
            Some((_, plan)) => {
                trial.record(of.group);
                Ok(plan)
            }
            None => Err(trial.refusal()),
        })
    }

    /// The first of the plans that runs, as cuDNN's heuristics rank them; those behind it are not made,
    /// which takes a second or two each.
    ///
    /// # Safety
    /// As for [`Library::run`], for each of the plans.
    unsafe fn pin_first(
        &mut self,
        of: &Of,
        graph: Result<Graph>,
        bound: &Bound<'_>,
    ) -> Result<Pinned> {
        let (graph, configurations) = match self.offered(of, graph) {
            Ok(offered) => offered,
            Err(reason) => return Ok(Err(reason)),
        };
        let stream = self.stream.clone();
        let mut trial = Trial::new(of.kernel, &stream);
        for (index, configuration) in configurations.into_iter().enumerate() {
            let planned = trial.run(index, || {
                let plan = Plan::new(&self.target, configuration, &graph)?;
                // SAFETY: the caller's promise.
                unsafe { self.run(&plan, bound) }.map(|()| plan)
            })?;
            if let Some(plan) = planned {
                trial.record(of.group);
                return Ok(Ok(plan));
            }
        }
        Ok(Err(trial.refusal()))
    }

    /// A graph and what cuDNN offers for it, or why it offers nothing.
    fn offered(
        &self,
        of: &Of,
        graph: Result<Graph>,
    ) -> std::result::Result<(Graph, Vec<Descriptor>), Box<str>> {
        let offered = graph.and_then(|graph| {
            let configurations = graph.configurations(&self.target, of.most)?;
            Ok((graph, configurations))
        });
        offered.map_err(|error| error.to_string().into())
    }
}

/// What plans are for, and how many engines are asked at most.
struct Of {
    kernel: &'static str,
    group: Group,
    most: usize,
}

/// An error that callers have a reference for unless there is a plan.
fn planned<'a>(kernel: &'static str, plan: &'a Pinned) -> Result<&'a Plan> {
    plan.as_ref().map_err(|reason| Error::NoPlan { kernel, reason: reason.clone() })
}
