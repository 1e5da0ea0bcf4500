//! A device: how it is opened, what is made once for it, how its kernels are called.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use candle_core::{
    CudaDevice, Device,
    cuda_backend::{
        DeviceId,
        cudarc::{
            driver::{
                CudaFunction, CudaStream, LaunchArgs, LaunchConfig, result,
                sys::{self, CUdevice_attribute, CUmemPool_attribute},
            },
            nvrtc::Ptx,
        },
    },
};

pub(crate) use candle_core::cuda_backend::cudarc::driver::PushKernelArg;

use crate::cuda::{Error, Result};

/// Opens a GPU for [`candle_core`], as this crate's kernels want it.
///
/// All of its work is in one stream, whichever thread it comes from; its memory pool keeps what is
/// freed for what is allocated next, instead of giving it back to the system at each
/// synchronisation.
///
/// # Errors
/// Where there is no such GPU, or its driver is older than the CUDA that this was built with.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    // SAFETY: event tracking orders uses of a tensor in several streams. Everything that candle and
    // this crate do with the device is in its one stream, which orders it by itself.
    unsafe { device.disable_event_tracking() };
    set_pool_attribute(&device, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)?;
    Ok(Device::Cuda(device))
}

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// As its driver names it.
    pub name: String,
    /// Major and minor version of what it can do.
    pub compute_capability: (i32, i32),
    /// Of its memory.
    pub memory_bytes: u64,
    /// The newest CUDA version that its driver knows: 1000 · major + 10 · minor.
    pub driver_cuda_version: i32,
}

/// What the GPU behind a device is.
///
/// # Errors
/// Where the driver does not answer.
pub fn device_info(device: &Device) -> Result<DeviceInfo> {
    let Device::Cuda(cuda) = device else {
        return Err(Error::NotOnDevice { kernel: "device info" });
    };
    let stream = cuda.cuda_stream();
    let context = stream.context();
    let mut driver_cuda_version = 0;
    // SAFETY: the call writes one integer, to a place that is one.
    unsafe { sys::cuDriverGetVersion(&raw mut driver_cuda_version) }.result()?;
    Ok(DeviceInfo {
        name: context.name()?,
        compute_capability: context.compute_capability()?,
        memory_bytes: context.total_mem()? as u64,
        driver_cuda_version,
    })
}

/// How much of a device's memory tensors take. What libraries keep for themselves is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// By tensors, now.
    pub used_bytes: u64,
    /// The most that it ever was since [`MemoryUse::reset_peak`].
    pub peak_bytes: u64,
    /// Kept by the pool, used or not.
    pub reserved_bytes: u64,
}

impl MemoryUse {
    /// Lets the peak begin again from what is used now.
    ///
    /// # Errors
    /// Where the driver refuses.
    pub fn reset_peak(device: &Device) -> Result<()> {
        let Device::Cuda(cuda) = device else {
            return Err(Error::NotOnDevice { kernel: "memory use" });
        };
        // The driver takes nothing but 0 here, and resets the peak to what is used.
        set_pool_attribute(cuda, CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }
}

/// How much of a device's memory tensors take.
///
/// # Errors
/// Where the driver does not answer.
pub fn memory_use(device: &Device) -> Result<MemoryUse> {
    let Device::Cuda(cuda) = device else {
        return Err(Error::NotOnDevice { kernel: "memory use" });
    };
    let pool = pool(cuda)?;
    let read = |attribute| -> Result<u64> {
        let mut value = 0u64;
        // SAFETY: each of the three attributes below is a 64-bit number, written to one.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }?;
        Ok(value)
    };
    Ok(MemoryUse {
        used_bytes: read(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        peak_bytes: read(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        reserved_bytes: read(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
    })
}

fn pool(device: &CudaDevice) -> Result<sys::CUmemoryPool> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread()?;
    // SAFETY: the device is one that the driver gave out, and lives as long as its context.
    Ok(unsafe { result::device::get_mem_pool(stream.context().cu_device()) }?)
}

fn set_pool_attribute(
    device: &CudaDevice,
    attribute: CUmemPool_attribute,
    mut value: u64,
) -> Result<()> {
    let pool = pool(device)?;
    // SAFETY: both attributes that this is called with are 64-bit numbers, read from one.
    Ok(unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut value).cast()) }?)
}

/// What is made once for each device, by the first call for it: this crate's kernels, and each library's
/// handles and plans.
pub(crate) struct PerDevice<T>(OnceLock<Mutex<HashMap<DeviceId, Arc<T>>>>);

impl<T> PerDevice<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The device's own.
    ///
    /// # Errors
    /// Where it cannot be made; the next call tries again.
    pub(crate) fn of(
        &self,
        device: &CudaDevice,
        make: impl FnOnce(&Arc<CudaStream>) -> Result<T>,
    ) -> Result<Arc<T>> {
        let mut made = lock(self.0.get_or_init(Mutex::default));
        if let Some(own) = made.get(&device.id()) {
            return Ok(own.clone());
        }
        let own = Arc::new(make(&device.cuda_stream())?);
        made.insert(device.id(), own.clone());
        Ok(own)
    }
}

/// A device's kernels.
pub(crate) struct Context {
    pub(crate) device: CudaDevice,
    pub(crate) stream: Arc<CudaStream>,
    /// Streaming multiprocessors.
    pub(crate) multiprocessors: u32,
    functions: HashMap<&'static str, CudaFunction>,
}

/// A device's context.
pub(crate) fn of(device: &CudaDevice) -> Result<Arc<Context>> {
    static CONTEXTS: PerDevice<Context> = PerDevice::new();
    CONTEXTS.of(device, |stream| Context::new(device, stream))
}

/// What a panic left behind is as good as before: plans are added whole or not at all.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    fn new(device: &CudaDevice, stream: &Arc<CudaStream>) -> Result<Self> {
        let mut functions = HashMap::new();
        for (image, names) in KERNELS {
            let module = stream.context().load_module(Ptx::from_binary(image.to_vec()))?;
            for name in *names {
                functions.insert(*name, module.load_function(name)?);
            }
        }
        let multiprocessors = stream
            .context()
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok(Self {
            device: device.clone(),
            multiprocessors: multiprocessors.unsigned_abs(),
            functions,
            stream: stream.clone(),
        })
    }

    /// A call of the kernel `{root}_{suffix}` in this device's stream, without arguments yet.
    pub(crate) fn call(&self, root: &'static str, suffix: &str) -> Result<LaunchArgs<'_>> {
        let name = format!("{root}_{suffix}");
        self.call_named(root, &name)
    }

    /// A call of a kernel by its whole name.
    pub(crate) fn call_named(&self, root: &'static str, name: &str) -> Result<LaunchArgs<'_>> {
        let function = self
            .functions
            .get(name)
            .ok_or(Error::Unsupported { kernel: root, what: "this dtype" })?;
        Ok(self.stream.launch_builder(function))
    }

    /// A grid whose threads walk over `count` things in strides: enough blocks to fill the device,
    /// and no more than there is work for.
    pub(crate) fn strided(&self, count: usize) -> LaunchConfig {
        const BLOCKS_OF_MULTIPROCESSOR: u32 = 32;
        let most = self.multiprocessors * BLOCKS_OF_MULTIPROCESSOR;
        grid(u32::try_from(count.div_ceil(THREADS)).unwrap_or(most).clamp(1, most), THREADS)
    }
}

/// Of a block, where nothing else decides.
pub(crate) const THREADS: usize = 256;

/// `blocks` blocks of `threads` threads.
pub(crate) fn grid(blocks: u32, threads: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

macro_rules! image {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin"))
    };
}

/// Compiled files of `cuda/`, and the kernels in each.
const KERNELS: &[(&[u8], &[&str])] = &[
    (
        image!("norm"),
        &[
            "layer_norm_bf16",
            "layer_norm_f32",
            "layer_norm_e4m3",
            "residual_norm_bf16",
            "residual_norm_f32",
            "residual_norm_e4m3",
            "rms_norm_bf16",
            "rms_norm_f32",
        ],
    ),
    (image!("heads"), &["qk_norm_rope_bf16", "qk_norm_rope_f32"]),
    (
        image!("pointwise"),
        &[
            "gate_onto_bf16",
            "gate_onto_f32",
            "add_onto_bf16",
            "add_onto_f32",
            "activate_bf16",
            "activate_f32",
            "gated_gelu_bf16",
            "gated_gelu_f32",
        ],
    ),
    (
        image!("group_norm"),
        &[
            "group_sums_bf16",
            "group_sums_f32",
            "group_finish",
            "group_apply_bf16",
            "group_apply_f32",
        ],
    ),
    (image!("softmax"), &["softmax_bf16", "softmax_f32", "softmax_long_bf16", "softmax_long_f32"]),
    (
        image!("image"),
        &[
            "unpack_bf16",
            "unpack_f32",
            "upsample_bf16",
            "upsample_f32",
            "to_bytes_bf16",
            "to_bytes_f32",
        ],
    ),
    (image!("quantise"), &["quantise_rows_2", "quantise_rows_8", "dequantise_rows"]),
];
