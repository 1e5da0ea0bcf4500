//! The roots that evidence must lead to. They are compiled in, and nothing adds another where this crate is not built
//! with `test-roots`.
//!
//! Sources and fingerprints are in `attestation/roots/README.md`.

/// Intel SGX Root CA, DER.
pub(crate) const INTEL: &[u8] = include_bytes!("../../../attestation/roots/intel-sgx-root.der");

/// NVIDIA Device Identity CA, PEM.
pub(crate) const NVIDIA: &[u8] =
    include_bytes!("../../../attestation/roots/nvidia-device-identity.pem");

/// AMD's root and signing keys of one generation of processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AmdRoot {
    /// As in the policy.
    pub(crate) generation: &'static str,
    /// AMD Root Key, PEM. Pinned.
    pub(crate) ark: &'static [u8],
    /// AMD SEV signing key, PEM. Kept here so that no node has to send it.
    pub(crate) ask: &'static [u8],
}

pub(crate) const MILAN: AmdRoot = AmdRoot {
    generation: "milan",
    ark: include_bytes!("../../../attestation/roots/amd-ark-milan.pem"),
    ask: include_bytes!("../../../attestation/roots/amd-ask-milan.pem"),
};

pub(crate) const GENOA: AmdRoot = AmdRoot {
    generation: "genoa",
    ark: include_bytes!("../../../attestation/roots/amd-ark-genoa.pem"),
    ask: include_bytes!("../../../attestation/roots/amd-ask-genoa.pem"),
};

pub(crate) const TURIN: AmdRoot = AmdRoot {
    generation: "turin",
    ark: include_bytes!("../../../attestation/roots/amd-ark-turin.pem"),
    ask: include_bytes!("../../../attestation/roots/amd-ask-turin.pem"),
};
