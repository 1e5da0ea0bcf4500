//! Time on the device.

use std::sync::Arc;

use candle_core::{
    Device,
    cuda_backend::cudarc::driver::{CudaEvent, CudaStream, sys::CUevent_flags},
};

use crate::cuda::{Error, Result};

/// A point in a device's stream.
pub struct Mark(CudaEvent);

/// Marks where the device's stream is now; waits for nothing.
///
/// # Errors
/// Where the driver refuses.
pub fn mark(device: &Device) -> Result<Mark> {
    let Device::Cuda(cuda) = device else { return Err(Error::NotOnDevice { kernel: "mark" }) };
    record(&cuda.cuda_stream())
}

impl Mark {
    /// Waits until the device is there.
    ///
    /// # Errors
    /// Where the work before it failed.
    pub fn wait(&self) -> Result<()> {
        Ok(self.0.synchronize()?)
    }

    /// Milliseconds of device time from this mark to a later one; waits for both.
    ///
    /// # Errors
    /// Where the work between them failed.
    pub fn milliseconds_to(&self, later: &Self) -> Result<f64> {
        Ok(f64::from(self.0.elapsed_ms(&later.0)?))
    }
}

fn record(stream: &Arc<CudaStream>) -> Result<Mark> {
    let event = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
    event.record(stream)?;
    Ok(Mark(event))
}

/// Runs each candidate a few times and returns the fastest one's index and milliseconds. Candidates
/// that refuse to run are passed over. Waits for the device.
pub(crate) fn fastest<C>(
    stream: &Arc<CudaStream>,
    candidates: &[C],
    mut run: impl FnMut(&C) -> Result<()>,
) -> Result<Option<(usize, f64)>> {
    /// Timed together, so that the gaps between launches count little.
    const RUNS: u32 = 4;
    // The first run loads code and tells whether there will be others.
    let runnable: Vec<_> =
        candidates.iter().enumerate().filter(|(_, candidate)| run(candidate).is_ok()).collect();
    stream.synchronize()?;
    let mut best: Option<(usize, f64)> = None;
    // Twice, since the card's clock may still rise while the first ones run.
    for &(index, candidate) in runnable.iter().chain(&runnable) {
        let start = record(stream)?;
        for _ in 0..RUNS {
            run(candidate)?;
        }
        let milliseconds = start.milliseconds_to(&record(stream)?)? / f64::from(RUNS);
        if best.is_none_or(|(_, least)| milliseconds < least) {
            best = Some((index, milliseconds));
        }
    }
    Ok(best)
}
