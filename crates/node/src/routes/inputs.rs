//! Input images of an edit: from a request to what a model reads.

use engine::{InputFile, InputImage};
use protocol::{
    CreateImageRequest, ImageRequest, InvalidParameter, ModelCapabilities, Operation,
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
        return Ok(Scanned { request, files: Vec::new() });
    }
    takes_images(capabilities)?;
    let files = request.take_input_files(capabilities.max_input_images)?;
    let files: Vec<InputFile> = files
        .into_iter()
        .enumerate()
        .map(|(index, file)| {
            let scanned = InputFile::scan(file);
            scanned.map_err(|reason| InvalidParameter::InputImage { index, reason })
        })
        .collect::<Result<_, _>>()?;
    let first = files.first().ok_or(InvalidParameter::Missing { param: "images" })?;
    let first_px = first.read_px();
    let mut request =
        ImageRequest::parse_edit(request, first_px, capabilities, || service.draw_seed())?;
    if request.provenance.kind != ProvenanceKind::None {
        let digest = |file: &InputFile| Sha256::digest(file.bytes()).into();
        request.input_digests = files.iter().map(digest).collect();
    }
    Ok(Scanned { request, files })
}

impl Scanned {
    /// Decodes the images. Where one was transparent, the request says so, for the answer.
    pub(super) fn decode(
        self,
        service: &Service,
    ) -> Result<(ImageRequest, Vec<InputImage>), InvalidParameter> {
        let Self { mut request, files } = self;
        let mut images = Vec::with_capacity(files.len());
        for (index, file) in files.into_iter().enumerate() {
            let decoded = service.metrics().timed(Stage::InputDecode, || file.decode());
            let decoded =
                decoded.map_err(|reason| InvalidParameter::InputImage { index, reason })?;
            request.has_transparent_input |= decoded.was_transparent;
            images.push(decoded.image);
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
