//! Evidence of GPUs.

use super::EvidenceError;
use crate::{binding::Digest32, gpu_evidence::GpuEvidence};

/// Something that signs a nonce for each GPU.
pub trait GpuSource: Send {
    /// Evidence of every GPU.
    ///
    /// # Errors
    /// Where one of them gives none, or may not be trusted.
    fn evidence(&mut self, nonce: Digest32) -> Result<Vec<GpuEvidence>, EvidenceError>;
}

/// A machine without GPUs.
#[derive(Debug, Clone, Copy)]
pub struct NoGpus;

impl GpuSource for NoGpus {
    fn evidence(&mut self, _: Digest32) -> Result<Vec<GpuEvidence>, EvidenceError> {
        Ok(Vec::new())
    }
}

/// NVIDIA's, through their management library.
#[cfg(feature = "nvml")]
pub struct NvmlGpus {
    nvml: nvml_wrapper::Nvml,
}

#[cfg(feature = "nvml")]
impl NvmlGpus {
    /// Opens the library.
    ///
    /// # Errors
    /// Where there is no driver, or a GPU is not in confidential-computing mode.
    pub fn new() -> Result<Self, EvidenceError> {
        let gpus = Self { nvml: nvml_wrapper::Nvml::init()? };
        gpus.confidential()?;
        Ok(gpus)
    }

    /// Every GPU, all of them in confidential-computing mode and none in its developer mode, in which
    /// the host may look inside.
    fn confidential(&self) -> Result<Vec<nvml_wrapper::Device<'_>>, EvidenceError> {
        let mut devices = Vec::new();
        for index in 0..self.nvml.device_count()? {
            let device = self.nvml.device_by_index(index)?;
            if !device.is_cc_enabled()? || device.is_cc_dev_mode_enabled()? {
                return Err(EvidenceError::GpuNotConfidential { index });
            }
            devices.push(device);
        }
        Ok(devices)
    }
}

#[cfg(feature = "nvml")]
impl GpuSource for NvmlGpus {
    fn evidence(&mut self, nonce: Digest32) -> Result<Vec<GpuEvidence>, EvidenceError> {
        let devices = self.confidential()?;
        let evidence = devices.iter().map(|device| {
            let report = device.confidential_compute_gpu_attestation_report(nonce)?;
            let certificate = device.confidential_compute_gpu_certificate()?;
            Ok(GpuEvidence {
                report: report.attestation_report,
                certificates: certificate.attestation_cert_chain,
            })
        });
        evidence.collect()
    }
}
