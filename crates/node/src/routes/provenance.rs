//! What is said of where an image is from: a receipt beside it, a manifest in its file.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::Image;
use protocol::{
    ImageProvenance, ImageRequest, InvalidParameter, Operation, ProvenanceKind, ProvenanceWish,
    SecretBytes, Style,
};
use provenance::{Drawing, ManifestSigner, Receipt, Salt, Statement, embed, pixels_digest};
use seal::StatementSigner;
use sha2::{Digest, Sha256};

use crate::{
    error::ApiError,
    node::{Measured, Service},
};

/// How much is said, once it is known what the node can say.
#[derive(Clone)]
pub(super) enum Wanted {
    Nothing,
    Receipt,
    Manifest(Arc<ManifestSigner>),
}

impl Wanted {
    /// Of a sealed request: what it asks for.
    pub(super) fn sealed(
        request: &ImageRequest,
        service: &Service,
    ) -> Result<Self, InvalidParameter> {
        match (request.provenance.kind, service.manifest_signer()) {
            // Commitments do not cover input images: what is said of an edit would be half the truth.
            (ProvenanceKind::Receipt | ProvenanceKind::C2pa, _)
                if request.operation == Operation::Edit =>
            {
                Err(InvalidParameter::Unsupported { param: "provenance" })
            }
            (ProvenanceKind::Unsaid | ProvenanceKind::None, _) => Ok(Self::Nothing),
            (ProvenanceKind::Receipt, _) => Ok(Self::Receipt),
            (ProvenanceKind::C2pa, Some(signer)) => Ok(Self::Manifest(signer.clone())),
            (ProvenanceKind::C2pa, None) => Err(InvalidParameter::NoManifests),
        }
    }

    /// Of a request in clear text: what it asks for, or the operator decided.
    pub(super) fn clear(
        request: &ImageRequest,
        service: &Service,
    ) -> Result<Self, InvalidParameter> {
        let is_generation = request.operation == Operation::Generation;
        match (request.provenance.kind, service.manifest_signer()) {
            (ProvenanceKind::Unsaid, Some(signer)) if is_generation => {
                Ok(Self::Manifest(signer.clone()))
            }
            _ => Self::sealed(request, service),
        }
    }

    /// Asks the hardware, once, what it measured: before a request is accepted, that is used up by it.
    pub(super) async fn measured(&self, service: &Service) -> Result<Option<Measured>, ApiError> {
        match self {
            Self::Nothing => Ok(None),
            _ => service.measured().await.map(Some),
        }
    }

    /// What proves each image of a request.
    pub(super) fn prover(
        self,
        measured: Option<Measured>,
        wish: &ProvenanceWish,
        signer: StatementSigner,
        service: &Service,
    ) -> Result<Prover, ApiError> {
        let manifests = match self {
            Self::Nothing => return Ok(Prover::Nothing),
            Self::Receipt => None,
            Self::Manifest(signer) => Some(signer),
        };
        let salt = match &wish.salt {
            Some(bytes) => Salt::from_bytes(**bytes),
            None => Salt::fresh().map_err(|_| ApiError::Internal)?,
        };
        let measured = measured.ok_or(ApiError::Internal)?;
        let model_manifest = *service.manifest();
        Ok(Prover::Node(Box::new(NodeProver { measured, model_manifest, signer, manifests, salt })))
    }
}

/// Says where images of one request are from.
pub(super) enum Prover {
    /// Nobody asked.
    Nothing,
    /// This node.
    Node(Box<NodeProver>),
}

pub(super) struct NodeProver {
    measured: Measured,
    model_manifest: [u8; 32],
    signer: StatementSigner,
    manifests: Option<Arc<ManifestSigner>>,
    salt: Salt,
}

impl Prover {
    /// The file as the client gets it, and what stands beside it.
    pub(super) fn prove(
        &self,
        request: &ImageRequest,
        (index, image): (usize, &Image),
        file: SecretBytes,
    ) -> Result<(SecretBytes, Option<ImageProvenance>), ApiError> {
        match self {
            Self::Nothing => Ok((file, None)),
            Self::Node(node) => {
                node.prove(request, (index, image), file).map(|(file, told)| (file, Some(told)))
            }
        }
    }
}

impl NodeProver {
    fn prove(
        &self,
        request: &ImageRequest,
        (index, image): (usize, &Image),
        file: SecretBytes,
    ) -> Result<(SecretBytes, ImageProvenance), ApiError> {
        let (width_px, height_px) = (image.size.width_px(), image.size.height_px());
        let drawing = Drawing {
            prompt: request.prompt.expose(),
            seed: request.seed.offset(index).get(),
            width_px,
            height_px,
            steps: request.steps.get(),
            guidance: request.guidance.map(protocol::Guidance::get),
        };
        let statement = Statement {
            platform: self.measured.platform.name().to_owned(),
            measurements: self.measured.measurements.clone(),
            model_manifest: self.model_manifest,
            keyset: self.signer.keyset_digest(),
            commitment: drawing.commitment(&self.salt),
        };
        let failed = |error: provenance::ProvenanceError| {
            tracing::error!(%error, "an image could not be signed");
            ApiError::Internal
        };
        let file = match &self.manifests {
            Some(signer) => embed(&file, &statement, signer).map_err(failed)?.into(),
            None => file,
        };
        let receipt = Receipt {
            statement,
            pixels: pixels_digest(width_px, height_px, &image.rgb),
            file: Sha256::digest(&*file).into(),
        };
        let sign = |message: &[u8]| self.signer.sign_cose(message);
        let receipt = receipt.sign(&self.signer.public_key(), sign)?;
        let told = ImageProvenance {
            receipt: Some(BASE64_STANDARD.encode(receipt)),
            salt: self.salt.to_hex().to_string().into(),
            seed: drawing.seed,
            size: image.size.to_string(),
            steps: drawing.steps as u64,
            guidance: drawing.guidance,
            style: (request.style == Style::Vivid).then(|| "vivid".to_owned()),
        };
        Ok((file, told))
    }
}
