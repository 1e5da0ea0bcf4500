//! What was computed, in the form in which a policy names it.

use std::{fmt, str::FromStr};

use super::{CpuModel, MeasureError, Vcpus};
use crate::{encoding::hex, event_log::Rtmr};

const MAX_NAME: usize = 96;

/// What an entry is called: for people, and safe to stand in TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = MeasureError;

    fn from_str(name: &str) -> Result<Self, MeasureError> {
        let plain = |byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
        match (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
            true => Ok(Self(name.to_owned())),
            false => Err(MeasureError::Name { max: MAX_NAME }),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the files do not say: how the host is to set the guest up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// XFAM as the bytes lie in a quote, hex; where it is not said, the entry has no rule for it.
    pub xfam: Option<[u8; 8]>,
    /// MRSEAM of the TDX module.
    pub mrseam: Option<Rtmr>,
}

/// An entry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Computed {
    /// MRTD, RTMR0: one shape of machine.
    Platform {
        /// What policies call this shape of machine.
        name: Name,
        /// MRTD.
        mrtd: Rtmr,
        /// RTMR0.
        rtmr0: Rtmr,
        /// What the host decides.
        setup: Setup,
    },
    /// RTMR1, RTMR2: one image.
    Image {
        /// What policies call the release that the image is of.
        name: Name,
        /// RTMR1.
        rtmr1: Rtmr,
        /// RTMR2.
        rtmr2: Rtmr,
    },
    /// The launch digest: one image on one shape of machine.
    Snp {
        /// What policies call the release that the image is of.
        name: Name,
        /// The processor that QEMU shows the guest: its signature is measured.
        cpu: CpuModel,
        /// How many processors the guest starts with: each is measured.
        vcpus: Vcpus,
        /// The launch digest.
        measurement: Rtmr,
    },
}

impl fmt::Display for Computed {
    /// TOML that a policy can hold. What it does not name refuses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = |bytes| "00".repeat(bytes);
        match self {
            Self::Platform { name, mrtd, rtmr0, setup } => {
                writeln!(f, "[[tdx.platforms]]\nname = \"{name}\"")?;
                writeln!(f, "mrtd = \"{}\"\nrtmr0 = \"{}\"", hex(mrtd), hex(rtmr0))?;
                match &setup.xfam {
                    Some(xfam) => writeln!(f, "xfam = [\"{}\"]", hex(xfam))?,
                    None => {
                        writeln!(f, "# xfam is missing and refuses: it depends on the processor.")?
                    }
                }
                writeln!(f, "# SEPT_VE_DISABLE, bit 28, and nothing else.")?;
                writeln!(f, "td_attributes = [\"0000001000000000\"]")?;
                match &setup.mrseam {
                    Some(mrseam) => writeln!(f, "mrseam = [\"{}\"]", hex(mrseam))?,
                    None => {
                        writeln!(f, "# mrseam is missing and refuses: the TDX module of the host.")?
                    }
                }
                writeln!(f, "# Intel's signer.\nmrsignerseam = [\"{}\"]", zeros(48))?;
                writeln!(f, "seam_attributes = [\"{}\"]", zeros(8))
            }
            Self::Image { name, rtmr1, rtmr2 } => {
                writeln!(f, "[[tdx.images]]\nname = \"{name}\"")?;
                writeln!(f, "rtmr1 = \"{}\"\nrtmr2 = \"{}\"", hex(rtmr1), hex(rtmr2))?;
                writeln!(f, "# The image reads nothing that the host gives at launch.")?;
                for key in ["mrconfigid", "mrowner", "mrownerconfig"] {
                    writeln!(f, "{key} = [\"{}\"]", zeros(48))?;
                }
                Ok(())
            }
            Self::Snp { name, cpu, vcpus, measurement } => {
                writeln!(f, "[[snp.releases]]\nname = \"{name}\"")?;
                writeln!(f, "cpu = \"{}\"\nvcpus = {}", cpu.name(), vcpus.number())?;
                writeln!(f, "measurement = \"{}\"", hex(measurement))?;
                writeln!(
                    f,
                    "# The image reads nothing that the host gives at launch; no ID block."
                )?;
                for (key, bytes) in [
                    ("host_data", 32),
                    ("family_id", 16),
                    ("image_id", 16),
                    ("id_key_digest", 48),
                    ("author_key_digest", 48),
                ] {
                    writeln!(f, "{key} = [\"{}\"]", zeros(bytes))?;
                }
                Ok(())
            }
        }
    }
}
