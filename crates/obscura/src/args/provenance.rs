//! What `obscura replay` can be told, and `generate` of where images are from.

use std::path::PathBuf;

use attest::binding::Nonce;
use clap::ValueEnum;

use super::{ModelArgs, TrustArgs};
use crate::time::At;

/// What a node is to say of its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProvenanceChoice {
    /// Nothing
    None,
    /// A signed receipt, in a file beside the image
    Receipt,
    /// That, and an invisible mark in the image's pixels
    Mark,
    /// A receipt, and a C2PA manifest in the image's file
    C2pa,
    /// All three
    #[value(name = "c2pa+mark")]
    C2paAndMark,
}

impl ProvenanceChoice {
    /// As requests have it; `None` where nothing is asked for.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Receipt => Some("receipt"),
            Self::Mark => Some("mark"),
            Self::C2pa => Some("c2pa"),
            Self::C2paAndMark => Some("c2pa+mark"),
        }
    }

    pub(crate) fn has_manifest(self) -> bool {
        matches!(self, Self::C2pa | Self::C2paAndMark)
    }

    pub(crate) fn has_mark(self) -> bool {
        matches!(self, Self::Mark | Self::C2paAndMark)
    }
}

#[derive(clap::Args)]
pub(crate) struct ReplayArgs {
    /// What came with the image: the JSON that `obscura generate --provenance` writes beside it, or an
    /// answer's `provenance`
    #[arg(value_name = "RECEIPT")]
    pub(crate) receipt: PathBuf,
    /// The prompt, as it was asked for; a line's end at its end does not count
    #[arg(long, value_name = "FILE")]
    pub(crate) prompt_file: PathBuf,
    /// Of an edit: an input image, as it was sent; several in their order
    #[arg(long, value_name = "FILE")]
    pub(crate) input_image: Vec<PathBuf>,
    /// Of an edit under a mask: the mask, as it was sent
    #[arg(long, value_name = "FILE", requires = "input_image")]
    pub(crate) input_mask: Option<PathBuf>,
    /// The image, to compare with by how far the pixels are, where another machine drew it
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// The node's evidence, by which its key is known; saved by `obscura verify --save`
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// The nonce that the report was asked with
    #[arg(long, value_name = "HEX", requires = "report")]
    pub(crate) nonce: Option<Nonce>,
    /// When to judge the report [default: now, by this machine's clock]
    #[arg(long, value_name = "TIME", requires = "report")]
    pub(crate) at: Option<At>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print the verdict as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
