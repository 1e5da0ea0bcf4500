//! What GPUs sign, as it travels: the JSON whose bytes the quote binds.

use serde::{Deserialize, Serialize};

use crate::encoding::{base64, unbase64};

/// More than any machine has.
const MAX_GPUS: usize = 16;
const MAX_REPORT_BYTES: usize = 8 * 1024;
const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// One GPU's evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuEvidence {
    /// SPDM request and response, as the driver gives them.
    pub report: Vec<u8>,
    /// Certificates in PEM, the device's own first.
    pub certificates: Vec<u8>,
}

/// The bytes that travel; none where there is no GPU.
#[must_use]
pub fn encode(gpus: &[GpuEvidence]) -> Vec<u8> {
    if gpus.is_empty() {
        return Vec::new();
    }
    let gpus = gpus
        .iter()
        .map(|gpu| WireGpu { report: base64(&gpu.report), certificates: base64(&gpu.certificates) })
        .collect();
    serde_json::to_vec(&Wire { gpus }).expect("strings always serialise")
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(json: &[u8]) -> Option<Vec<GpuEvidence>> {
    let wire: Wire = serde_json::from_slice(json).ok()?;
    if wire.gpus.len() > MAX_GPUS {
        return None;
    }
    let gpus = wire.gpus.iter().map(|gpu| {
        Some(GpuEvidence {
            report: unbase64(&gpu.report, MAX_REPORT_BYTES)?,
            certificates: unbase64(&gpu.certificates, MAX_CHAIN_BYTES)?,
        })
    });
    gpus.collect()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    gpus: Vec<WireGpu>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireGpu {
    report: String,
    certificates: String,
}
