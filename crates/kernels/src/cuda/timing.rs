//! Time on the device, and which of several ways is the fastest.

use std::sync::Arc;

use candle_core::{
    Device,
    cuda_backend::cudarc::driver::{CudaEvent, CudaStream, sys::CUevent_flags},
};

use crate::{
    cuda::{Error, Result},
    groups::{self, Group},
};

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

/// Ways to compute one thing that are tried one after the other, and what became of each.
pub(crate) struct Trial<'a> {
    kernel: &'static str,
    stream: &'a Arc<CudaStream>,
    failures: Vec<String>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(kernel: &'static str, stream: &'a Arc<CudaStream>) -> Self {
        Self { kernel, stream, failures: Vec::new() }
    }

    /// Runs the candidate of this number and waits for it; `None` where it fails, which is noted.
    ///
    /// # Errors
    /// [`Error::Lost`] where the device answers nothing any more, whoever asks.
    pub(crate) fn run<T>(
        &mut self,
        candidate: usize,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        let ran = run().and_then(|made| Ok(self.stream.synchronize().map(|()| made)?));
        let error = match ran {
            Ok(made) => return Ok(Some(made)),
            Err(error) => error,
        };
        // An error that stays: every later call would fail with it, under another name.
        if self.stream.synchronize().is_err() {
            let kernel = self.kernel;
            return Err(Error::Lost { kernel, candidate, reason: error.to_string().into() });
        }
        self.note(candidate, &error.to_string());
        Ok(None)
    }

    /// Notes why a candidate cannot be used.
    pub(crate) fn note(&mut self, candidate: usize, reason: &str) {
        let reason = reason.lines().next().unwrap_or_default();
        self.failures.push(format!("candidate {candidate}: {reason}"));
    }

    /// What became of those that failed, for the record: another one runs.
    pub(crate) fn record(&self, group: Group) {
        for failure in &self.failures {
            groups::refuse(group, &format!("{}, {failure}; another runs", self.kernel));
        }
    }

    /// Why none of them runs.
    pub(crate) fn refusal(&self) -> Box<str> {
        match &self.failures[..] {
            [] => "the library offers nothing".into(),
            failures => failures.join("; ").into(),
        }
    }

    /// Runs each candidate, behind its number, a few times and returns the fastest one's place; `None` where
    /// none runs. Waits for the device.
    pub(crate) fn fastest<C>(
        &mut self,
        candidates: &[(usize, C)],
        mut run: impl FnMut(&C) -> Result<()>,
    ) -> Result<Option<usize>> {
        /// Timed together, so that the gaps between launches count little.
        const RUNS: u32 = 4;
        // The first run loads code and tells whether there will be others.
        let mut runnable = Vec::new();
        for (place, (number, candidate)) in candidates.iter().enumerate() {
            if self.run(*number, || run(candidate))?.is_some() {
                runnable.push((place, *number, candidate));
            }
        }
        let mut best: Option<(usize, f64)> = None;
        // Twice, since the card's clock may still rise while the first ones run.
        for &(place, number, candidate) in runnable.iter().chain(&runnable) {
            let stream = self.stream;
            let timed = self.run(number, || {
                let start = record(stream)?;
                for _ in 0..RUNS {
                    run(candidate)?;
                }
                Ok(start.milliseconds_to(&record(stream)?)? / f64::from(RUNS))
            })?;
            if let Some(milliseconds) = timed
                && best.is_none_or(|(_, least)| milliseconds < least)
            {
                best = Some((place, milliseconds));
            }
        }
        Ok(best.map(|(place, _)| place))
    }
}
