//! Points in time on the device that computes: a GPU's are in its stream, behind the host.

use std::time::{Duration, Instant};

use candle_core::Device;

use crate::Result;

/// Where a device's work is.
pub(crate) struct Event {
    host: Instant,
    #[cfg(feature = "cuda")]
    on_gpu: Option<kernels::cuda::Mark>,
}

impl Event {
    /// Behind all work that the device was given so far; waits for none of it.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub(crate) fn now(device: &Device) -> Result<Self> {
        Ok(Self {
            host: Instant::now(),
            #[cfg(feature = "cuda")]
            on_gpu: device.is_cuda().then(|| kernels::cuda::mark(device)).transpose()?,
        })
    }

    /// Waits until a GPU has reached it. A CPU has reached every event there is.
    pub(crate) fn wait(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(mark) = &self.on_gpu {
            mark.wait()?;
        }
        Ok(())
    }

    /// Time to a later event; waits until a GPU has reached both.
    pub(crate) fn until(&self, later: &Self) -> Result<Duration> {
        #[cfg(feature = "cuda")]
        if let (Some(from), Some(to)) = (&self.on_gpu, &later.on_gpu) {
            return Ok(Duration::from_secs_f64(from.milliseconds_to(to)?.max(0.0) / 1e3));
        }
        Ok(later.host - self.host)
    }
}
