//! What `obscura collateral` can be told.

use std::path::PathBuf;

use attest::{PlatformChoice, collateral};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch what this machine's quotes are verified with, and write it in place of the older file
    Fetch(CollateralFetchArgs),
    /// Print what a file of collateral is of, and until when each part of it holds
    Show {
        /// The file that the configuration's `collateral` names
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
pub(crate) struct CollateralFetchArgs {
    /// Where to write: what the configuration's `collateral` names
    #[arg(long, short, value_name = "FILE", default_value = "/etc/obscura/collateral.json")]
    pub(crate) output: PathBuf,
    /// Whose quotes: auto, tdx, snp
    #[arg(long, value_name = "TEE", default_value = "auto")]
    pub(crate) tee: PlatformChoice,
    /// A quote of the machine, instead of asking this machine for one: a TDX quote, or a SEV-SNP report
    #[arg(long, value_name = "FILE")]
    pub(crate) quote: Option<PathBuf>,
    /// Intel's service, or a PCCS that keeps its documents
    #[arg(long, value_name = "URL", default_value = collateral::INTEL_PCS)]
    pub(crate) pccs: String,
    /// AMD's service, or what stands in for it
    #[arg(long, value_name = "URL", default_value = collateral::AMD_KDS)]
    pub(crate) kds: String,
    /// The generation of AMD's processors, where the report does not say it (version 2)
    #[arg(long, value_name = "NAME")]
    pub(crate) generation: Option<collateral::Generation>,
}
