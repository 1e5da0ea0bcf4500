//! cuDNN's backend descriptors: opaque objects that are given attributes and then finalised.

use std::ffi::{CStr, c_void};

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnStatus_t as Status,
};

use crate::cuda::{Error, Result};

/// A descriptor; destroyed when dropped.
pub(super) struct Descriptor(sys::cudnnBackendDescriptor_t);

/// What an attribute is set to.
pub(super) enum Value<'a> {
    Numbers(&'a [i64]),
    Element(sys::cudnnDataType_t),
    Flag(bool),
    Factor(f32),
    Heuristic(sys::cudnnBackendHeurMode_t),
    Pointwise(sys::cudnnPointwiseMode_t),
    Convolution(sys::cudnnConvolutionMode_t),
    Descriptors(&'a [&'a Descriptor]),
    Handle(sys::cudnnHandle_t),
    Pointers(&'a [*mut c_void]),
    #[cfg(test)]
    Text(&'a str),
}

impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the call writes a descriptor to a place for one.
        check("create descriptor", unsafe {
            sys::cudnnBackendCreateDescriptor(kind, &raw mut raw)
        })?;
        Ok(Self(raw))
    }

    /// Sets one attribute.
    pub(super) fn with(self, name: Name, value: Value<'_>) -> Result<Self> {
        match value {
            Value::Numbers(numbers) => self.set(name, Type::CUDNN_TYPE_INT64, numbers),
            Value::Element(element) => self.set(name, Type::CUDNN_TYPE_DATA_TYPE, &[element]),
            Value::Flag(flag) => self.set(name, Type::CUDNN_TYPE_BOOLEAN, &[flag]),
            Value::Factor(factor) => self.set(name, Type::CUDNN_TYPE_FLOAT, &[factor]),
            Value::Heuristic(mode) => self.set(name, Type::CUDNN_TYPE_HEUR_MODE, &[mode]),
            Value::Pointwise(mode) => self.set(name, Type::CUDNN_TYPE_POINTWISE_MODE, &[mode]),
            Value::Convolution(mode) => self.set(name, Type::CUDNN_TYPE_CONVOLUTION_MODE, &[mode]),
            Value::Descriptors(descriptors) => {
                let raw: Vec<_> = descriptors.iter().map(|descriptor| descriptor.0).collect();
                self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw)
            }
            Value::Handle(handle) => self.set(name, Type::CUDNN_TYPE_HANDLE, &[handle]),
            Value::Pointers(pointers) => self.set(name, Type::CUDNN_TYPE_VOID_PTR, pointers),
            #[cfg(test)]
            Value::Text(text) => self.set(name, Type::CUDNN_TYPE_CHAR, text.as_bytes()),
        }
    }

    /// Private, so that each `T` is the one that `with` pairs with its type.
    fn set<T>(self, name: Name, of: Type, values: &[T]) -> Result<Self> {
        // SAFETY: `values` holds `len` values of what `of` names, as `with` pairs them, and cuDNN
        // copies them before the call is over. It refuses names and types that do not fit.
        check("set attribute", unsafe {
            sys::cudnnBackendSetAttribute(
                self.0,
                name,
                of,
                values.len() as i64,
                values.as_ptr().cast(),
            )
        })?;
        Ok(self)
    }

    /// Checks the attributes and fixes them.
    pub(super) fn finish(self, call: &'static str) -> Result<Self> {
        // SAFETY: the descriptor is alive.
        check(call, unsafe { sys::cudnnBackendFinalize(self.0) })?;
        Ok(self)
    }

    /// A number that it knows.
    pub(super) fn number(&self, name: Name) -> Result<i64> {
        let (mut value, mut count) = (0i64, 0i64);
        // SAFETY: there is room for the one number that is asked for.
        check("read attribute", unsafe {
            sys::cudnnBackendGetAttribute(
                self.0,
                name,
                Type::CUDNN_TYPE_INT64,
                1,
                &raw mut count,
                (&raw mut value).cast(),
            )
        })?;
        Ok(value)
    }

    /// Up to `most` descriptors of a kind that it knows.
    pub(super) fn descriptors(&self, name: Name, kind: Kind, most: usize) -> Result<Vec<Self>> {
        let mut found = (0..most).map(|_| Self::new(kind)).collect::<Result<Vec<Self>>>()?;
        let mut raw: Vec<_> = found.iter().map(|descriptor| descriptor.0).collect();
        let mut count = 0i64;
        // SAFETY: there is room for `most`; cuDNN fills the descriptors themselves, of which the array
        // only holds the addresses, and tells how many.
        check("read attribute", unsafe {
            sys::cudnnBackendGetAttribute(
                self.0,
                name,
                Type::CUDNN_TYPE_BACKEND_DESCRIPTOR,
                most as i64,
                &raw mut count,
                raw.as_mut_ptr().cast(),
            )
        })?;
        found.truncate(usize::try_from(count).unwrap_or_default());
        Ok(found)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and destroyed here alone. There is nothing to do about a refusal.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// What plans are made for.
pub(super) enum Target {
    /// The device that a handle belongs to; destroyed when dropped.
    Handle(sys::cudnnHandle_t),
    /// A device that is described and need not be there.
    #[cfg(test)]
    Profile(Descriptor),
}

impl Drop for Target {
    fn drop(&mut self) {
        match self {
            // SAFETY: made by the one who wrapped it, and destroyed here alone.
            Self::Handle(handle) => drop(unsafe { sys::cudnnDestroy(*handle) }),
            #[cfg(test)]
            Self::Profile(_) => {}
        }
    }
}

/// Where the tensors of a plan are, by their ids.
pub(super) struct Bound<'a> {
    pub(super) ids: &'a [i64],
    pub(super) places: &'a [*mut c_void],
}

/// Runs a finalised plan.
///
/// # Safety
/// `places` are those of the plan's tensors, `workspace` is as large as the plan asks.
pub(super) unsafe fn execute(
    handle: sys::cudnnHandle_t,
    plan: &Descriptor,
    bound: &Bound<'_>,
    workspace: u64,
) -> Result<()> {
    let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
        .with(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, Value::Numbers(bound.ids))?
        .with(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Value::Pointers(bound.places))?
        .with(
            Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
            Value::Pointers(&[workspace as *mut c_void]),
        )?
        .finish("variant pack")?;
    // SAFETY: handle, plan and pack are alive, and the memory is the caller's promise.
    check("execute", unsafe { sys::cudnnBackendExecute(handle, plan.0, pack.0) })
}

/// An error with cuDNN's own words unless the call succeeded.
pub(super) fn check(call: &'static str, status: Status) -> Result<()> {
    if status == Status::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    let mut words = [0u8; 1024];
    // SAFETY: cuDNN writes at most as many bytes as it is told there are, a zero the last of them.
    unsafe { sys::cudnnGetLastErrorString(words.as_mut_ptr().cast(), words.len()) };
    let message = CStr::from_bytes_until_nul(&words).unwrap_or_default();
    Err(Error::Cudnn { call, status, message: message.to_string_lossy().into() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What cuDNN wants to know of a device that it plans for without having it.
    const H200: &str = r#"{
        "deviceName": "NVIDIA H200", "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0,
        "pciDeviceId": 9013, "isTccDriver": 0, "supportCoopLaunch": 1,
        "multiProcessorCount": 132, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000,
        "totalGlobalMem": 150754820096, "l2CacheSize": 62914560, "warpSize": 32,
        "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
        "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "maxCtasPerSM": 32,
        "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024
    }"#;

    pub(in super::super) fn h200() -> Target {
        let device = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
            .and_then(|device| {
                device.with(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, Value::Text(H200))
            })
            .and_then(|device| device.finish("device"));
        Target::Profile(device.unwrap())
    }

    #[test]
    fn refusals_carry_cudnns_own_words() {
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR).unwrap();
        let Err(Error::Cudnn { call, message, .. }) = tensor.finish("tensor") else {
            panic!("a tensor without attributes is none")
        };
        assert_eq!(call, "tensor");
        assert!(!message.is_empty());
    }
}
