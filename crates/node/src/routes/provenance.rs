//! What is said of where an image is from: a receipt beside it, a mark in its pixels, a manifest in its file.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::Image;
use protocol::{
    ImageProvenance, ImageRequest, InvalidParameter, ProvenanceKind, SecretBytes, Style,
};
use provenance::{
    Drawing, MIN_MARKED_SIDE_PX, ManifestSigner, MarkId, Receipt, Salt, Statement, embed, mark,
    pixels_digest,
};
use seal::StatementSigner;
use sha2::{Digest, Sha256};

use crate::{
    error::ApiError,
    node::{Measured, Service},
};

/// What is said, once it is known that the node can say it.
#[derive(Clone)]
pub(super) enum Wanted {
    Nothing,
    Receipt(InImage),
}

/// What of it is in the image itself.
#[derive(Clone)]
pub(super) struct InImage {
    manifests: Option<Arc<ManifestSigner>>,
    marking: Marking,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marking {
    Left,
    Marked,
}

impl Wanted {
    /// Of a sealed request: what it asks for.
    pub(super) fn sealed(
        request: &ImageRequest,
        service: &Service,
    ) -> Result<Self, InvalidParameter> {
        let kind = request.provenance.kind;
        request.provenance.check_salt(kind)?;
        if !kind.has_receipt() {
            return Ok(Self::Nothing);
        }
        if kind.has_manifest() && service.manifest_signer().is_none() {
            return Err(InvalidParameter::NoManifests);
        }
        if kind.has_mark() && !holds_mark(request) {
            return Err(InvalidParameter::TooSmallForMark { min_px: MIN_MARKED_SIDE_PX });
        }
        Ok(Self::of(kind, request, service))
    }

    /// Of a request in clear text: what it asks for, or the operator decided.
    pub(super) fn clear(
        request: &ImageRequest,
        service: &Service,
    ) -> Result<Self, InvalidParameter> {
        match request.provenance.kind {
            ProvenanceKind::Unsaid => {
                let kind = service.unasked_provenance();
                request.provenance.check_salt(kind)?;
                Ok(Self::of(kind, request, service))
            }
            _ => Self::sealed(request, service),
        }
    }

    fn of(kind: ProvenanceKind, request: &ImageRequest, service: &Service) -> Self {
        if !kind.has_receipt() {
            return Self::Nothing;
        }
        let manifests = service.manifest_signer().filter(|_| kind.has_manifest()).cloned();
        let marking = match kind.has_mark() && holds_mark(request) {
            true => Marking::Marked,
            false => Marking::Left,
        };
        Self::Receipt(InImage { manifests, marking })
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
        request: &ImageRequest,
        signer: StatementSigner,
        service: &Service,
    ) -> Result<Prover, ApiError> {
        let Self::Receipt(InImage { manifests, marking }) = self else {
            return Ok(Prover::Nothing);
        };
        let salt = match &request.provenance.salt {
            Some(bytes) => Salt::from_bytes(**bytes),
            None => Salt::fresh().map_err(|_| ApiError::Internal)?,
        };
        let measured = measured.ok_or(ApiError::Internal)?;
        let model_manifest = *service.manifest_of(&request.model).ok_or(ApiError::Internal)?;
        let marks = match marking {
            Marking::Left => None,
            Marking::Marked => Some(MarkId::of_key(&signer.public_key())),
        };
        Ok(Prover::Node(Box::new(NodeProver {
            measured,
            model_manifest,
            signer,
            marks,
            manifests,
            salt,
        })))
    }
}

fn holds_mark(request: &ImageRequest) -> bool {
    request.size.width_px().min(request.size.height_px()) >= MIN_MARKED_SIDE_PX
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
    marks: Option<MarkId>,
    manifests: Option<Arc<ManifestSigner>>,
    salt: Salt,
}

impl Prover {
    /// An image as its file shows it, where that is not as it was drawn: with the node's mark.
    pub(super) fn marked(&self, image: &Image) -> Option<Image> {
        let Self::Node(node) = self else { return None };
        let id = node.marks?;
        let mut rgb = SecretBytes::from(image.rgb.to_vec());
        mark(image.size.width_px(), image.size.height_px(), &mut rgb, id);
        Some(Image { size: image.size, rgb })
    }

    /// The file as the client gets it, and what stands beside it; `image` is as it was drawn.
    pub(super) fn prove(
        &self,
        request: &ImageRequest,
        (index, image): (usize, &Image),
        file: SecretBytes,
    ) -> Result<(SecretBytes, Option<Box<ImageProvenance>>), ApiError> {
        match self {
            Self::Nothing => Ok((file, None)),
            Self::Node(node) => node
                .prove(request, (index, image), file)
                .map(|(file, told)| (file, Some(Box::new(told)))),
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
            inputs: &request.input_digests,
            mask: request.mask_digest.as_ref(),
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
            images: request.input_digests.iter().map(hex::encode).collect(),
            mask: request.mask_digest.as_ref().map(hex::encode),
        };
        Ok((file, told))
    }
}
