//! The trusted execution environment that this process runs in, or pretends to.

#[cfg(feature = "simulator")]
use super::NoGpus;
use super::{CollateralFile, EvidenceError, GpuSource, Rtmr3, Tsm};
use crate::{binding::Digest32, event_log::EventLog, platform::Platform};

/// A quote, and what it is verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// As the hardware signed it.
    pub quote: Vec<u8>,
    /// As it travels.
    pub collateral: Vec<u8>,
}

/// Something that signs 64 bytes.
pub trait Tee: Send {
    /// Whose hardware.
    fn platform(&self) -> Platform;

    /// Measures which model was loaded, where there is a register for it; gives the register's log.
    ///
    /// # Errors
    /// Where it cannot be measured.
    fn measure_model(&mut self, manifest: Digest32) -> Result<Option<EventLog>, EvidenceError>;

    /// Signs.
    ///
    /// # Errors
    /// Where there is no quote.
    fn quote(&mut self, report_data: &[u8; 64], now_secs: u64) -> Result<Quoted, EvidenceError>;
}

/// Everything that signs on this machine.
pub struct Sources {
    /// For the guest.
    pub tee: Box<dyn Tee>,
    /// For its GPUs.
    pub gpus: Box<dyn GpuSource>,
}

impl Sources {
    /// No hardware.
    #[cfg(feature = "simulator")]
    #[must_use]
    pub fn simulated() -> Self {
        Self { tee: Box::new(SimulatedGuest::default()), gpus: Box::new(NoGpus) }
    }
}

/// A TDX or SEV-SNP guest.
pub struct TsmGuest {
    platform: Platform,
    tsm: Tsm,
    rtmr3: Option<Rtmr3>,
    collateral: CollateralFile,
}

impl TsmGuest {
    /// A TDX guest.
    #[must_use]
    pub fn tdx(collateral: CollateralFile) -> Self {
        let rtmr3 = Some(Rtmr3::new());
        Self { platform: Platform::Tdx, tsm: Tsm::tdx(), rtmr3, collateral }
    }

    /// A SEV-SNP guest, which has no registers of its own.
    #[must_use]
    pub fn snp(collateral: CollateralFile) -> Self {
        Self { platform: Platform::Snp, tsm: Tsm::snp(), rtmr3: None, collateral }
    }
}

impl Tee for TsmGuest {
    fn platform(&self) -> Platform {
        self.platform
    }

    fn measure_model(&mut self, manifest: Digest32) -> Result<Option<EventLog>, EvidenceError> {
        match &self.rtmr3 {
            Some(rtmr3) => rtmr3.measure_model(manifest),
            None => Ok(None),
        }
    }

    fn quote(&mut self, report_data: &[u8; 64], _: u64) -> Result<Quoted, EvidenceError> {
        Ok(Quoted { quote: self.tsm.quote(report_data)?, collateral: self.collateral.read()? })
    }
}

/// No guest at all.
#[cfg(feature = "simulator")]
#[derive(Debug, Clone, Default)]
pub struct SimulatedGuest(pub crate::simulator::Simulator);

#[cfg(feature = "simulator")]
impl Tee for SimulatedGuest {
    fn platform(&self) -> Platform {
        Platform::Simulated
    }

    fn measure_model(&mut self, manifest: Digest32) -> Result<Option<EventLog>, EvidenceError> {
        let mut log = EventLog::default();
        self.0.extend(&log.push_model(manifest));
        Ok(Some(log))
    }

    fn quote(&mut self, report_data: &[u8; 64], now_secs: u64) -> Result<Quoted, EvidenceError> {
        let simulated = self.0.quote(report_data, now_secs);
        Ok(Quoted { quote: simulated.quote, collateral: simulated.collateral })
    }
}
