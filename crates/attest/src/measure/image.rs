//! The image's part of a boot: RTMR1 and RTMR2, the same on every machine.

use std::str::FromStr;

use super::{MeasureError, MeasuredEvent, pe, replay, utf16};
use crate::{binding::Digest32, event_log::Rtmr};

/// Of kernel or initrd.
pub const MAX_IMAGE_BYTES: usize = 512 * 1024 * 1024;
/// COMMAND_LINE_SIZE of Linux on x86, less its end, and less what OVMF adds.
const MAX_COMMAND_LINE: usize = 2047 - INITRD_OPTION.len();
/// OVMF adds it for TDX where there is an initrd, so that the kernel's EFI stub asks for it. SEV-SNP's
/// digest is of the line as QEMU was given it.
const INITRD_OPTION: &str = " initrd=initrd";

/// What runs in the guest: kernel, initrd, command line, by their digests.
#[derive(Debug, Clone, Copy)]
pub struct Image {
    /// Authenticode.
    pub(super) kernel: Rtmr,
    pub(super) options: Rtmr,
    pub(super) initrd: Rtmr,
    pub(super) sha256: ImageHashes,
}

/// What SEV-SNP's table of hashes holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageHashes {
    pub(super) kernel: Digest32,
    pub(super) initrd: Digest32,
    pub(super) command_line: Digest32,
}

impl Image {
    /// Takes the files as they were built.
    ///
    /// # Errors
    /// Where a file is empty or too long, or the kernel is no EFI image.
    pub fn new(kernel: &[u8], initrd: &[u8], line: &CommandLine) -> Result<Self, MeasureError> {
        for (input, bytes) in [("kernel", kernel), ("initrd", initrd)] {
            if bytes.is_empty() {
                return Err(MeasureError::Empty { input });
            }
            if bytes.len() > MAX_IMAGE_BYTES {
                return Err(MeasureError::TooLong { input, max_bytes: MAX_IMAGE_BYTES });
            }
        }
        let sha256 = crate::binding::sha256;
        let options = [utf16(&line.0), utf16(INITRD_OPTION), vec![0; 2]].concat();
        Ok(Self {
            kernel: pe::authenticode(kernel)?,
            options: super::sha384(&options),
            initrd: super::sha384(initrd),
            sha256: ImageHashes {
                kernel: sha256(kernel),
                initrd: sha256(initrd),
                command_line: sha256(&[line.0.as_bytes(), b"\0"].concat()),
            },
        })
    }

    /// RTMR1's events: five, the kernel's digest among them.
    #[must_use]
    pub fn rtmr1_events(&self) -> Vec<MeasuredEvent> {
        vec![
            MeasuredEvent::new("kernel", self.kernel),
            MeasuredEvent::of(
                "call of the boot option",
                b"Calling EFI Application from Boot Option",
            ),
            MeasuredEvent::of("separator", &[0; 4]),
            MeasuredEvent::of("exit from boot services", b"Exit Boot Services Invocation"),
            MeasuredEvent::of("return of that exit", b"Exit Boot Services Returned with Success"),
        ]
    }

    /// RTMR2's events, which Linux's EFI stub makes.
    #[must_use]
    pub fn rtmr2_events(&self) -> Vec<MeasuredEvent> {
        vec![
            MeasuredEvent::new("command line", self.options),
            MeasuredEvent::new("initrd", self.initrd),
        ]
    }

    /// RTMR1.
    #[must_use]
    pub fn rtmr1(&self) -> Rtmr {
        replay(&self.rtmr1_events())
    }

    /// RTMR2.
    #[must_use]
    pub fn rtmr2(&self) -> Rtmr {
        replay(&self.rtmr2_events())
    }
}

/// What QEMU is given by `-append`, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CommandLine {
    type Err = MeasureError;

    fn from_str(line: &str) -> Result<Self, MeasureError> {
        let problem = |problem| Err(MeasureError::CommandLine { problem });
        if line.is_empty() {
            return problem("is empty: it names no verity tree");
        }
        if line.len() > MAX_COMMAND_LINE {
            return problem("is longer than the kernel reads");
        }
        if !line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return problem("holds what is not a printable ASCII character, such as a newline");
        }
        if line.trim() != line {
            return problem("begins or ends with a space, which tools trim and QEMU does not");
        }
        Ok(Self(line.to_owned()))
    }
}
