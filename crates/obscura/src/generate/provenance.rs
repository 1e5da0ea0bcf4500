//! What a node says of where an image is from: held against what was asked, to be kept beside the image.

use anyhow::{Context, bail, ensure};
use attest::{Report, ReportedModel};
use base64_simd::STANDARD;
use client::AttestedNode;
use protocol::{ImageProvenance, Prompt, Style, VIVID_SUFFIX};
use provenance::{Drawing, Manifest, MarkId, Salt, SignedReceipt, Statement};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Order;
use crate::{args::ProvenanceChoice, marked};

/// What was asked for, and whom.
pub(super) struct Expected<'a> {
    pub(super) order: &'a Order,
    pub(super) prompt: &'a Prompt,
    pub(super) node: &'a AttestedNode,
    pub(super) model: &'a str,
}

impl Expected<'_> {
    /// Checks what came with an image, where anything was asked for; gives the file that belongs beside it.
    pub(super) fn check(
        &self,
        file: &[u8],
        told: Option<&ImageProvenance>,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        if self.order.provenance == ProvenanceChoice::None {
            return Ok(None);
        }
        let told = told.context("the node said nothing of where its image is from")?;
        self.check_told(file, told).context("what the node said of where its image is from")?;
        Ok(Some(serde_json::to_vec_pretty(told)?))
    }

    fn check_told(&self, file: &[u8], told: &ImageProvenance) -> anyhow::Result<()> {
        let receipt = told.receipt.as_deref().context("there is no receipt")?;
        let receipt = STANDARD.decode_to_vec(receipt).ok().context("the receipt is no base64")?;
        let signed = SignedReceipt::read(&receipt)?;
        ensure!(signed.receipt.file == *Sha256::digest(file), "the receipt is for another file");
        let attested = self.node.appraisal().attested().context("the node is not attested")?;
        ensure!(signed.signing_key == attested.signing_key, "the receipt has another key");
        self.check_statement(&signed.receipt.statement, told)?;
        if self.order.provenance.has_manifest() {
            let manifest = Manifest::read(file)?;
            manifest.check_bytes(file)?;
            manifest.check_signature()?;
            let key = Some(manifest.signer_spki_sha256);
            ensure!(key == attested.c2pa_spki_sha256, "another key signed the manifest");
            ensure!(manifest.statement == signed.receipt.statement, "it says two things");
        }
        if self.order.provenance.has_mark() {
            let mark = marked::find(file).context("no mark can be found in the image")?;
            let id = MarkId::of_key(&attested.signing_key);
            ensure!(mark.id == id, "its mark names another key");
        }
        Ok(())
    }

    fn check_statement(&self, statement: &Statement, told: &ImageProvenance) -> anyhow::Result<()> {
        let attested = self.node.appraisal().attested().context("the node is not attested")?;
        let report = Report::parse(&self.node.evidence().report).context("the node's evidence")?;
        let named = |model: &ReportedModel| {
            model.is_called(self.model) && model.manifest == statement.model_manifest
        };
        ensure!(report.models().iter().any(named), "it names another model");
        ensure!(statement.keyset == attested.keyset_digest, "it names another keyset");
        let size: protocol::Size = told.size.parse().context("`size`")?;
        let Ok(steps) = usize::try_from(told.steps) else { bail!("`steps` is too large") };
        ensure!(steps == self.order.steps().get(), "it tells of other steps");
        let mut prompt = Zeroizing::new(self.prompt.expose().to_owned());
        if self.order.style == Style::Vivid {
            prompt.push_str(VIVID_SUFFIX);
        }
        let inputs = self.order.inputs.digests();
        let mask = self.order.inputs.mask_digest();
        let drawing = Drawing {
            prompt: &prompt,
            seed: told.seed,
            width_px: size.width_px(),
            height_px: size.height_px(),
            steps,
            guidance: self.order.guidance,
            inputs: &inputs,
            mask: mask.as_ref(),
        };
        let salt = Salt::from_hex(&told.salt)?;
        ensure!(drawing.commitment(&salt) == statement.commitment, "it commits to something else");
        Ok(())
    }
}
