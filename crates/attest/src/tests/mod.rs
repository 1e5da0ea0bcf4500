//! Proof against fixtures, most of them published by others.

mod vectors;

use std::path::PathBuf;

/// A file of `tests/fixtures/attestation`.
fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/attestation")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
