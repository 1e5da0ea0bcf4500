//! What of a machine is measured beside its files.

use std::{num::NonZeroU32, str::FromStr};

use super::MeasureError;

const MIB: u64 = 1024 * 1024;
/// More than any machine has.
const MAX_MEMORY: u64 = 64 * 1024 * 1024 * MIB;
/// What Linux's KVM takes.
const MAX_VCPUS: u32 = 4096;

/// What QEMU is given by `-m`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// A machine's memory.
    ///
    /// # Errors
    /// Where it is of other than whole MiB, or of no machine.
    pub fn new(bytes: u64) -> Result<Self, MeasureError> {
        let problem = |problem| Err(MeasureError::Memory { problem });
        if bytes == 0 || bytes > MAX_MEMORY {
            return problem("is of 1 MiB to 64 TiB");
        }
        if !bytes.is_multiple_of(MIB) {
            return problem("is not a whole number of MiB");
        }
        Ok(Self(bytes))
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// How many vCPUs a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vcpus(NonZeroU32);

impl Vcpus {
    /// A machine's vCPUs.
    ///
    /// # Errors
    /// Where there are none, or more than KVM takes.
    pub fn new(number: u32) -> Result<Self, MeasureError> {
        match NonZeroU32::new(number) {
            Some(vcpus) if number <= MAX_VCPUS => Ok(Self(vcpus)),
            _ => Err(MeasureError::Vcpus { found: number, max: MAX_VCPUS }),
        }
    }

    /// How many.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.get()
    }
}

impl FromStr for Vcpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| format!("there are 1 to {MAX_VCPUS} vCPUs"))?;
        Self::new(number).map_err(|error| error.to_string())
    }
}
