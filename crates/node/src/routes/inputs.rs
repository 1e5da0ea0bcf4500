//! Input images of an edit: from a request to what a model reads.

use engine::{InputFile, InputImage};
use protocol::{
    CreateImageRequest, ImageRequest, InvalidMask, InvalidParameter, ModelCapabilities, Operation,
    ProvenanceKind,
};
use sha2::{Digest, Sha256};

use crate::{error::ApiError, metrics::Stage, node::Service};

/// Named where a node has no model that takes images.
const CAPABLE: &str = "FLUX.2-klein (black-forest-labs/FLUX.2-klein-4B)";

/// A request, and the scanned files of its images.
pub(super) struct Scanned {
    pub(super) request: ImageRequest,
    files: Vec<InputFile>,
    /// The first one's.
    mask: Option<InputFile>,
}

/// Checks every rule that can be checked without decoding an image.
pub(super) fn scan(
    mut request: CreateImageRequest,
    operation: Operation,
    service: &Service,
) -> Result<Scanned, InvalidParameter> {
    // A sealed request that names none is refused below: it says itself by what it is to be drawn.
    let capabilities = match &request.model {
        Some(model) => service.capabilities_of(model)?,
        None => service.capabilities_for(operation),
    };
    if operation == Operation::Generation {
        let request = ImageRequest::parse(request, capabilities, || service.draw_seed())?;
        return Ok(Scanned { request, files: Vec::new(), mask: None });
    }
    takes_images(capabilities)?;
    let files = request.take_input_files(capabilities.max_input_images)?;
    let mask = files.mask;
    let files: Vec<InputFile> = files
        .images
        .into_iter()
        .enumerate()
        .map(|(index, file)| {
            let scanned = InputFile::scan(file);
            scanned.map_err(|reason| InvalidParameter::InputImage { index, reason })
        })
        .collect::<Result<_, _>>()?;
    let first = files.first().ok_or(InvalidParameter::Missing { param: "images" })?;
    let mask = mask.map(|file| {
        let mask = InputFile::scan(file)?;
        mask.check_masks(first).map(|()| mask)
    });
    let mask = mask.transpose().map_err(blame_mask)?;
    let (first_px, draw_seed) = (first.read_px(), || service.draw_seed());
    let mut request = match &mask {
        None => ImageRequest::parse_edit(request, first_px, capabilities, draw_seed)?,
        Some(_) => ImageRequest::parse_masked_edit(request, first_px, capabilities, draw_seed)?,
    };
    if request.provenance.kind != ProvenanceKind::None {
        let digest = |file: &InputFile| Sha256::digest(file.bytes()).into();
        request.input_digests = files.iter().map(digest).collect();
        request.mask_digest = mask.as_ref().map(digest);
    }
    Ok(Scanned { request, files, mask })
}

fn blame_mask(reason: InvalidMask) -> InvalidParameter {
    InvalidParameter::Mask { reason }
}

impl Scanned {
    /// Decodes the mask, which is small then, and the images. Where one of those was transparent, the request says so,
    /// for the answer.
    pub(super) fn decode(
        self,
        service: &Service,
    ) -> Result<(ImageRequest, Vec<InputImage>), InvalidParameter> {
        let Self { mut request, files, mask } = self;
        let mut mask = match mask {
            None => None,
            Some(file) => {
                let decoded = service.metrics().timed(Stage::InputDecode, || file.decode_mask());
                Some(decoded.map_err(blame_mask)?)
            }
        };
        let mut images = Vec::with_capacity(files.len());
        for (index, file) in files.into_iter().enumerate() {
            let decoded = service.metrics().timed(Stage::InputDecode, || file.decode());
            let decoded =
                decoded.map_err(|reason| InvalidParameter::InputImage { index, reason })?;
            request.has_transparent_input |= decoded.was_transparent;
            let image = match mask.take() {
                None => decoded.image,
                // Files of one size are read at one size.
                Some(mask) => decoded.image.masked(mask).map_err(|_| {
                    let reason = protocol::InvalidInputImage::Damaged;
                    InvalidParameter::InputImage { index, reason }
                })?,
            };
            images.push(image);
        }
        Ok((request, images))
    }
}

/// Refuses edits where nothing here can make any: before their bodies are read.
pub(super) fn refuse_where_useless(service: &Service) -> Result<(), ApiError> {
    takes_images(service.capabilities_for(Operation::Edit)).map_err(ApiError::Invalid)
}

fn takes_images(capabilities: &ModelCapabilities) -> Result<(), InvalidParameter> {
    match capabilities.max_input_images {
        0 => Err(InvalidParameter::NoInputImages {
            model: capabilities.model.clone(),
            capable: CAPABLE.to_owned(),
        }),
        _ => Ok(()),
    }
}
