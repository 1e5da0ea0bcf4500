//! Which hardware signs for this node.

use anyhow::{Context, bail};
#[cfg(feature = "nvml")]
use attest::evidence::NvmlGpus;
use attest::{
    Platform,
    evidence::{CollateralFile, GpuSource, NoGpus, Sources, Tee, TsmGuest},
};
use node::Config;

/// The sources of evidence of a platform that was found.
pub(crate) fn sources(platform: Platform, config: &Config) -> anyhow::Result<Sources> {
    let tee: Box<dyn Tee> = match platform {
        Platform::Tdx => Box::new(TsmGuest::tdx(collateral(config)?)),
        Platform::Snp => Box::new(TsmGuest::snp(collateral(config)?)),
        Platform::Simulated => return simulated(),
        platform => bail!("this build has no evidence for {platform}"),
    };
    Ok(Sources { tee, gpus: gpus(config)? })
}

/// Without it a verifier could not check the quote.
fn collateral(config: &Config) -> anyhow::Result<CollateralFile> {
    let path = config.collateral.as_ref().context(
        "in a TEE the configuration must name a file of `collateral`: \
         TCB info, QE identity and revocation lists for TDX, the VCEK for SEV-SNP",
    )?;
    let file = CollateralFile::new(path);
    file.read()?;
    Ok(file)
}

fn gpus(config: &Config) -> anyhow::Result<Box<dyn GpuSource>> {
    if !config.gpu_evidence {
        return Ok(Box::new(NoGpus));
    }
    #[cfg(feature = "nvml")]
    return Ok(Box::new(NvmlGpus::new().context("`gpu_evidence` is on")?));
    #[cfg(not(feature = "nvml"))]
    bail!("`gpu_evidence` is on, but this build leaves `nvml` out");
}

#[cfg(feature = "simulator")]
#[expect(clippy::unnecessary_wraps, reason = "other builds have no simulator")]
fn simulated() -> anyhow::Result<Sources> {
    Ok(Sources::simulated())
}

#[cfg(not(feature = "simulator"))]
fn simulated() -> anyhow::Result<Sources> {
    bail!("this build has no simulator: it runs in a TEE or not at all")
}
