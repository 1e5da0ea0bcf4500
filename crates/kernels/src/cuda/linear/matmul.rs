//! cublasLt's handle, its workspace, and the algorithm pinned for each problem.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem::MaybeUninit,
    sync::{Arc, Mutex},
};

use candle_core::{
    CudaDevice,
    cuda_backend::cudarc::{
        cublaslt::{result, sys},
        driver::{CudaSlice, CudaStream, DevicePtr},
    },
};

use super::NAME;
use super::plan::{Descriptors, Matrices, Problem};
use crate::{
    cuda::{Error, Result, context::PerDevice, timing::Trial},
    groups::Group,
};

/// Room for split sums; NVIDIA recommends 32 MiB on Hopper.
const WORKSPACE_BYTES: usize = 64 << 20;

/// Algorithms that are tried for a problem worth more than `LARGE` operations, and for others.
const CANDIDATES: [usize; 2] = [24, 4];
const LARGE: f64 = 1e9;

/// Multiplies matrices in one stream: a matmul handle.
pub(crate) struct Matmul {
    handle: sys::cublasLtHandle_t,
    stream: Arc<CudaStream>,
    /// Used by one product at a time: they are all in one stream.
    workspace: CudaSlice<u8>,
    /// Why there is none, where no algorithm works.
    plans: HashMap<Problem, Result<Plan, Box<str>>>,
}

// SAFETY: cublasLt's handle and descriptors are bound to no thread, and a `Matmul` is used through
// `&mut` alone.
unsafe impl Send for Matmul {}

struct Plan {
    descriptors: Descriptors,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Matmul {
    /// A device's own.
    pub(crate) fn of(device: &CudaDevice) -> Result<Arc<Mutex<Self>>> {
        static MADE: PerDevice<Mutex<Matmul>> = PerDevice::new();
        MADE.of(device, |stream| Self::new(stream).map(Mutex::new))
    }

    fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread()?;
        // SAFETY: only cublasLt uses it, which reads nothing there that it did not write.
        let workspace = unsafe { stream.alloc(WORKSPACE_BYTES) }?;
        let handle = result::create_handle()?;
        Ok(Self { handle, stream: stream.clone(), workspace, plans: HashMap::new() })
    }

    /// Puts the product into the stream. Of a problem's first call, measures and pins its algorithm.
    ///
    /// # Safety
    /// The matrices are on this stream's device, as large as the problem says, of its element types,
    /// and `y` is no other one's memory.
    pub(crate) unsafe fn multiply(&mut self, problem: &Problem, at: &Matrices) -> Result<()> {
        self.stream.context().bind_to_thread()?;
        let (workspace, _) = self.workspace.device_ptr(&self.stream);
        let products = Products { handle: self.handle, stream: &self.stream, workspace };
        let plan = match self.plans.entry(*problem) {
            Entry::Occupied(plan) => plan.into_mut(),
            Entry::Vacant(place) => {
                let descriptors = Descriptors::new(problem)?;
                descriptors.operation.point(at)?;
                let candidates = products.candidates(problem, &descriptors)?;
                let candidates: Vec<_> = candidates.into_iter().enumerate().collect();
                let mut trial = Trial::new(NAME, &self.stream);
                // SAFETY: as this function's caller promises; each run writes the same product.
                let best = trial.fastest(&candidates, |algorithm| unsafe {
                    products.run(&descriptors, algorithm, at)
                })?;
                place.insert(match best {
                    Some(place) => {
                        trial.record(Group::Linear);
                        Ok(Plan { descriptors, algorithm: candidates[place].1 })
                    }
                    None => Err(format!("cublasLt, {problem}: {}", trial.refusal()).into()),
                })
            }
        };
        let plan = plan
            .as_ref()
            .map_err(|reason| Error::NoPlan { kernel: NAME, reason: reason.clone() })?;
        plan.descriptors.operation.point(at)?;
        // SAFETY: as this function's caller promises.
        unsafe { products.run(&plan.descriptors, &plan.algorithm, at) }
    }
}

impl Drop for Matmul {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed here alone. There is nothing to do about a refusal.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// What a product runs with.
struct Products<'a> {
    handle: sys::cublasLtHandle_t,
    stream: &'a CudaStream,
    workspace: u64,
}

impl Products<'_> {
    /// What cublasLt thinks best, best first.
    fn candidates(
        &self,
        problem: &Problem,
        descriptors: &Descriptors,
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        let preference = Preference::new(problem)?;
        let most = CANDIDATES[usize::from(problem.operations() <= LARGE)];
        let mut found: Vec<MaybeUninit<sys::cublasLtMatmulHeuristicResult_t>> =
            vec![MaybeUninit::uninit(); most];
        let mut count = 0;
        // SAFETY: the descriptors live until the call is over; `found` has room for `most` results,
        // and `count` tells how many of them were written.
        let asked = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                descriptors.operation.0,
                descriptors.a.0,
                descriptors.b.0,
                descriptors.c.0,
                descriptors.d.0,
                preference.0,
                most as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        };
        // Which of these it says of what it has no kernel for is not promised.
        use sys::cublasStatus_t::{
            CUBLAS_STATUS_ARCH_MISMATCH, CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED,
        };
        if matches!(
            asked,
            CUBLAS_STATUS_NOT_SUPPORTED | CUBLAS_STATUS_INVALID_VALUE | CUBLAS_STATUS_ARCH_MISMATCH
        ) {
            return Ok(Vec::new());
        }
        asked.result()?;
        let written = &found[..(count.max(0) as usize).min(most)];
        // SAFETY: these are the ones that were written.
        let written = written.iter().map(|result| unsafe { result.assume_init() });
        Ok(written
            .filter(|result| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS)
            .map(|result| result.algo)
            .collect())
    }

    /// D ← W xᵀ + β C with the operation's epilogue.
    ///
    /// # Safety
    /// As for [`Matmul::multiply`]; the descriptors are of the same problem.
    unsafe fn run(
        &self,
        descriptors: &Descriptors,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        at: &Matrices,
    ) -> Result<()> {
        let one = 1f32;
        let beta = if at.onto.is_some() { 1f32 } else { 0f32 };
        // SAFETY: the factors are read before the call is over, the matrices are the caller's
        // promise, and the workspace is only used in this stream.
        let done = unsafe {
            result::matmul(
                self.handle,
                descriptors.operation.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                at.weight as *const _,
                descriptors.a.0,
                at.x as *const _,
                descriptors.b.0,
                at.onto.unwrap_or(at.y) as *const _,
                descriptors.c.0,
                at.y as *mut _,
                descriptors.d.0,
                algorithm,
                self.workspace as *mut _,
                WORKSPACE_BYTES,
                self.stream.cu_stream().cast(),
            )
        };
        Ok(done?)
    }
}

/// What algorithms may count on.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(problem: &Problem) -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let this = Self(result::create_matmul_pref()?);
        // SAFETY: the attribute is a 64-bit number of bytes.
        unsafe {
            this.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(WORKSPACE_BYTES as u64))
        }?;
        let [weight, x, onto, y] = problem.alignments.0;
        for (attribute, bytes) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, weight),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, onto),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y),
        ] {
            // SAFETY: each of the four attributes is a 32-bit number of bytes.
            unsafe { this.set(attribute, &bytes) }?;
        }
        Ok(this)
    }

    /// # Safety
    /// `T` is what the attribute is stored as.
    unsafe fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<()> {
        let (place, bytes) = (std::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the preference lives as long as `self`, the value until the call is over, and the
        // caller vouches for its type.
        Ok(unsafe { result::set_matmul_pref_attribute(self.0, attribute, place, bytes) }?)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed here alone. There is nothing to do about a refusal.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
