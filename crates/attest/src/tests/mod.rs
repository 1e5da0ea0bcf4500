//! Proof against fixtures, most of them published by others.

#[cfg(feature = "simulator")]
mod conformance;
mod gpu;
mod live;
#[cfg(feature = "simulator")]
mod matrix;
mod mutated;
#[cfg(feature = "simulator")]
mod simulated;
mod snp;
mod tdx;
mod vectors;

use std::path::{Path, PathBuf};

use crate::{
    Report,
    binding::Nonce,
    nonces::NoncePath,
    platform::Platform,
    policy::Rules,
    verify::{Check, Outcome},
};

/// A file of `tests/fixtures/attestation`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = fixture_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/attestation").join(name)
}

fn rules(toml: &str) -> Rules {
    toml::from_str(toml).unwrap()
}

/// A report of which a test fills in what it looks at.
pub(crate) fn empty_report(platform: Platform) -> Report {
    Report {
        platform,
        nonce: Nonce::ABSENT,
        nonce_path: NoncePath::alone([0; 32]),
        keyset: Vec::new(),
        possession: [0; 64],
        model_manifest: Vec::new(),
        device_evidence: Vec::new(),
        event_log: Vec::new(),
        quote: Vec::new(),
        collateral: Vec::new(),
    }
}

fn outcome(checks: &[Check], id: &str) -> Option<Outcome> {
    let found: Vec<_> = checks.iter().filter(|check| check.id == id).collect();
    assert!(found.len() <= 1, "{id} was reported {} times", found.len());
    found.first().map(|check| check.outcome)
}

fn failing(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.outcome == Outcome::Fail).map(|check| check.id).collect()
}
