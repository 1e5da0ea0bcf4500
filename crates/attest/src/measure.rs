//! What a guest will measure into, from the files it is made of: no hardware, no clock, no network.
//!
//! A verifier compares registers that hardware signed with values computed here, and so trusts files
//! that it can build itself instead of numbers that somebody published.
//!
//! ```text
//! MRTD   the firmware's pages, by the TDX module as they are added            (platform)
//! RTMR0  what the firmware finds: memory, its variables, the ACPI tables     (platform)
//! RTMR1  the kernel as an EFI image, and four events of its start            (image)
//! RTMR2  the command line, the initrd                                        (image)
//! SNP    all of the firmware, the digests of kernel, initrd and command line, each vCPU's registers
//! ```
//! It knows one way to boot: QEMU ≥ 10.2 with `-kernel`, `-initrd` and `-append`, edk2's OVMF of before
//! edk2-stable202505 with TDX or SEV metadata, Secure Boot off. Before 10.2, QEMU writes into the
//! kernel's header, which is then another kernel in RTMR1. What is not of this form is refused by name:
//! a number that is wrong in silence would only be found when it matters.

mod acpi;
mod bytes;
mod error;
mod firmware;
mod hob;
mod image;
mod log;
mod machine;
mod mrtd;
mod pe;
mod platform;
mod release;
mod snp;

pub use acpi::AcpiTables;
pub use error::MeasureError;
pub use firmware::{Firmware, MAX_FIRMWARE_BYTES};
pub use image::{CommandLine, Image, MAX_IMAGE_BYTES};
pub use log::{Difference, FirmwareLog, MAX_LOG_BYTES};
pub use machine::{Memory, Vcpus};
pub use platform::Platform;
pub use release::{Computed, Name, Setup};
pub use snp::{CpuModel, SnpMachine, snp_launch_digest};

use crate::event_log::{Rtmr, extend};

/// One digest that a boot extends, and what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasuredEvent {
    /// For people: which input this is.
    pub what: &'static str,
    /// SHA-384: what the register is extended with.
    pub digest: Rtmr,
}

impl MeasuredEvent {
    fn new(what: &'static str, digest: Rtmr) -> Self {
        Self { what, digest }
    }

    fn of(what: &'static str, bytes: &[u8]) -> Self {
        Self::new(what, sha384(bytes))
    }
}

/// The register after these events, from zeros.
#[must_use]
pub fn replay(events: &[MeasuredEvent]) -> Rtmr {
    events.iter().fold([0; 48], |register, event| extend(&register, &event.digest))
}

/// SHA-256 of a file, by which people name it.
#[must_use]
pub fn file_sha256(bytes: &[u8]) -> crate::binding::Digest32 {
    crate::binding::sha256(bytes)
}

fn sha384(bytes: &[u8]) -> Rtmr {
    use sha2::{Digest, Sha384};
    Sha384::digest(bytes).into()
}

/// UTF-16, little-endian, without an end: the form of text in EFI.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests;
