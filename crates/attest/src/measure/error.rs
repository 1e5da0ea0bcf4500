//! Why a measurement cannot be computed.

use thiserror::Error;

/// Each names the input that is at fault, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// Longer than any such file.
    #[error("the {input} is longer than {max_bytes} bytes")]
    TooLong {
        /// Which file.
        input: &'static str,
        /// The most that is read.
        max_bytes: usize,
    },
    /// Nothing in it.
    #[error("the {input} is empty")]
    Empty {
        /// Which file.
        input: &'static str,
    },
    /// Not of the form that the boot knows.
    #[error("the firmware is no image this computes: {problem}")]
    Firmware {
        /// What is wrong.
        problem: &'static str,
    },
    /// A section of the firmware's TDX or SEV metadata.
    #[error("section {index} of the firmware's {metadata} metadata: {problem}")]
    Section {
        /// TDX or SEV.
        metadata: &'static str,
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// No EFI image.
    #[error("the kernel is no EFI image for x86-64: {problem}")]
    Kernel {
        /// What is wrong.
        problem: &'static str,
    },
    /// Not one that reaches the kernel as it was written.
    #[error("the command line {problem}")]
    CommandLine {
        /// What is wrong.
        problem: &'static str,
    },
    /// Not what QEMU makes.
    #[error("the ACPI blob {blob} {problem}")]
    Acpi {
        /// Which, by QEMU's name.
        blob: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A size that no machine has, or that the firmware does not fit in.
    #[error("the memory {problem}")]
    Memory {
        /// What is wrong.
        problem: &'static str,
    },
    /// Of no machine.
    #[error("there are 1 to {max} vCPUs, not {found}")]
    Vcpus {
        /// What was said.
        found: u32,
        /// The most.
        max: u32,
    },
    /// Not one of QEMU's.
    #[error("no CPU model of QEMU's for SEV-SNP is called so; there are: {known}")]
    CpuModel {
        /// All of them.
        known: String,
    },
    /// Guest features under which no guest is an SNP guest, or whose meaning is not known.
    #[error("the guest features {problem}")]
    GuestFeatures {
        /// What is wrong.
        problem: &'static str,
    },
    /// An event log that cannot be read.
    #[error("event {index} of the log: {problem}")]
    Log {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A name that would not stand in a policy.
    #[error("a name is 1 to {max} printable ASCII characters without quotes and backslashes")]
    Name {
        /// The most characters.
        max: usize,
    },
}
