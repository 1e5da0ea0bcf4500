//! Which trusted execution environment this process runs in.

use std::{fmt, path::Path, str::FromStr};

use thiserror::Error;

/// The environment whose hardware would sign this node's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Platform {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
    /// None: for development, and said so wherever the platform is named.
    Simulated,
}

impl Platform {
    /// Its name in reports and policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::Simulated => "simulated",
        }
    }

    /// The platform of this name.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Tdx, Self::Snp, Self::Simulated].into_iter().find(|one| one.name() == name)
    }

    /// Finds the platform that `choice` asks for among the guest devices below `dev` (`/dev` on a
    /// real machine). There is no fallback: simulation is had only by asking for it.
    ///
    /// # Errors
    /// Where the device is missing.
    pub fn find(choice: PlatformChoice, dev: &Path) -> Result<Self, NoPlatform> {
        let tdx = dev.join("tdx_guest");
        let snp = dev.join("sev-guest");
        match choice {
            PlatformChoice::Simulated => Ok(Self::Simulated),
            PlatformChoice::Auto if tdx.exists() => Ok(Self::Tdx),
            PlatformChoice::Auto if snp.exists() => Ok(Self::Snp),
            PlatformChoice::Auto => Err(NoPlatform::None),
            PlatformChoice::Tdx if tdx.exists() => Ok(Self::Tdx),
            PlatformChoice::Tdx => Err(NoPlatform::Missing { device: "/dev/tdx_guest" }),
            PlatformChoice::Snp if snp.exists() => Ok(Self::Snp),
            PlatformChoice::Snp => Err(NoPlatform::Missing { device: "/dev/sev-guest" }),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdx => "Intel TDX",
            Self::Snp => "AMD SEV-SNP",
            Self::Simulated => "SIMULATED - NOT A TEE",
        })
    }
}

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformChoice {
    /// Whichever hardware is there.
    Auto,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
    /// No hardware.
    Simulated,
}

impl FromStr for PlatformChoice {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, UnknownPlatform> {
        match text {
            "auto" => Ok(Self::Auto),
            "tdx" => Ok(Self::Tdx),
            "snp" => Ok(Self::Snp),
            "simulated" => Ok(Self::Simulated),
            _ => Err(UnknownPlatform),
        }
    }
}

/// A word that names no platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be one of: auto, tdx, snp, simulated")]
pub struct UnknownPlatform;

/// Why there is no platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoPlatform {
    /// Neither device is there.
    #[error(
        "no TEE found: neither /dev/tdx_guest nor /dev/sev-guest exists; run inside a TDX or SEV-SNP guest{}",
        if cfg!(feature = "simulator") { ", or ask for `--tee simulated` by name" } else { "" }
    )]
    None,
    /// The one asked for is not there.
    #[error("the TEE asked for was not found: {device} does not exist")]
    Missing {
        /// Its path.
        device: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_falls_back_to_simulation() {
        let dev = tempfile::tempdir().unwrap();
        let find = |choice| Platform::find(choice, dev.path());
        assert_eq!(find(PlatformChoice::Auto), Err(NoPlatform::None));
        assert!(find(PlatformChoice::Tdx).is_err() && find(PlatformChoice::Snp).is_err());
        assert_eq!(find(PlatformChoice::Simulated), Ok(Platform::Simulated));
        std::fs::write(dev.path().join("sev-guest"), "").unwrap();
        assert_eq!(find(PlatformChoice::Auto), Ok(Platform::Snp));
        assert!(find(PlatformChoice::Tdx).is_err());
    }
}
