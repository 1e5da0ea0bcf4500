//! What a quote is verified with, from a file that the operator keeps fresh.
//!
//! It is public and signed by the hardware's maker, and a verifier checks its dates: whoever writes
//! this file can make verification fail, and no more. For TDX it is the JSON of a PCCS client such as
//! `dcap-qvl`, for SEV-SNP that of [`SnpCollateral`](crate::verify::SnpCollateral).

use std::path::PathBuf;

use super::{
    EvidenceError,
    files::{Disk, Files},
};

const MAX_BYTES: usize = 256 * 1024;

/// The file. It is read for every quote.
#[derive(Debug, Clone)]
pub struct CollateralFile {
    path: PathBuf,
}

impl CollateralFile {
    /// A file at this path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// What it holds now.
    ///
    /// # Errors
    /// Where it is missing, or longer than collateral is.
    pub fn read(&self) -> Result<Vec<u8>, EvidenceError> {
        let bytes = Disk.read(&self.path, MAX_BYTES).ok().filter(|bytes| bytes.len() <= MAX_BYTES);
        bytes.ok_or_else(|| EvidenceError::Collateral { path: self.path.display().to_string() })
    }
}
