//! RTMR3, the register that a TDX guest may extend as it likes (Linux ≥ 6.16,
//! `Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest`).
//!
//! A register only ever grows, and outlives this process. So the log of what it holds is kept beside
//! it, in memory that lasts as long (`/run`): a node that is started again goes on from there.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    EvidenceError,
    files::{Disk, Files},
};
use crate::{
    binding::Digest32,
    encoding::hex,
    event_log::{EventLog, MODEL_EVENT, Rtmr},
};

/// Where a TDX guest reads and extends RTMR3.
pub const RTMR3_REGISTER: &str = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";
const LOG: &str = "/run/obscura/rtmr3.json";
const MAX_LOG_BYTES: usize = 64 * 1024;

/// The register and its log.
pub struct Rtmr3 {
    files: Box<dyn Files>,
    register: PathBuf,
    log: PathBuf,
}

impl Rtmr3 {
    /// This guest's.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Path::new(RTMR3_REGISTER), Path::new(LOG))
    }

    /// One elsewhere.
    #[must_use]
    pub fn at(register: &Path, log: &Path) -> Self {
        Self::with(Box::new(Disk), register, log)
    }

    pub(super) fn with(files: Box<dyn Files>, register: &Path, log: &Path) -> Self {
        Self { files, register: register.to_owned(), log: log.to_owned() }
    }

    /// Makes sure that the register holds this model's event, and nothing that the log does not say.
    /// Nothing where the kernel does not offer the register: verifiers that require it will refuse.
    ///
    /// # Errors
    /// Where the register holds something else.
    pub fn measure_model(&self, manifest: Digest32) -> Result<Option<EventLog>, EvidenceError> {
        let Some(register) = self.read()? else { return Ok(None) };
        let mut log = match self.files.read(&self.log, MAX_LOG_BYTES) {
            Ok(json) => EventLog::parse(&json)?,
            Err(error) if error.kind() == ErrorKind::NotFound => EventLog::default(),
            Err(error) => return io("the event log cannot be read", Err(error)),
        };
        if log.replay() != register {
            return Err(EvidenceError::Rtmr3Unknown);
        }
        let held: Vec<_> = log.payloads(MODEL_EVENT).map(str::to_owned).collect();
        match held.as_slice() {
            [] => {
                let digest = log.push_model(manifest);
                let extended = self.files.write(&self.register, &digest);
                io("RTMR3 cannot be extended", extended)?;
                io("the event log cannot be kept", self.files.keep(&self.log, &log.to_json()))?;
                // What the kernel did is what counts.
                if self.read()? != Some(log.replay()) {
                    return Err(EvidenceError::Rtmr3Unknown);
                }
            }
            [one] if *one == hex(&manifest) => {}
            _ => return Err(EvidenceError::Rtmr3OtherModel),
        }
        Ok(Some(log))
    }

    fn read(&self) -> Result<Option<Rtmr>, EvidenceError> {
        match self.files.read(&self.register, size_of::<Rtmr>()) {
            Ok(bytes) => {
                let register = bytes.try_into().map_err(|_| EvidenceError::Rtmr3Unknown)?;
                Ok(Some(register))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => io("RTMR3 cannot be read", Err(error)),
        }
    }
}

fn io<T>(what: &'static str, result: std::io::Result<T>) -> Result<T, EvidenceError> {
    result.map_err(|source| EvidenceError::Io { what, source })
}

impl Default for Rtmr3 {
    fn default() -> Self {
        Self::new()
    }
}
