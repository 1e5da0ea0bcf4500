//! How long bodies are before they are sealed: lengths that follow from what anybody may know of a
//! request, and not from its prompt, its seed or its images.
//!
//! Outside of the ciphertext stand the images' number and size (by the latent patches that are
//! billed) and so no more is given away by a length that follows from these and the file format.
//! A client that asks for `b64_json` gets each file twice, beside its URL, and so about twice the
//! length. What has no images, a refusal or a step for instance, is shorter than the least length
//! that [`seal`] pads to.

use engine::padded_bytes;
use protocol::{Format, ImageProvenance, ImageRequest, ResponseFormat, Size, VIVID_SUFFIX};

use crate::node::Service;

/// What an answer or an event has beside its images' entries: names, numbers, warnings.
const AROUND_BYTES: usize = 1024;
/// What an image's entry has beside files and prompt.
const AROUND_IMAGE_BYTES: usize = 128;
/// What proves where an image is from, whether or not anybody asked: so that nobody sees who did.
const PROVENANCE_BYTES: usize = ImageProvenance::ABOUT_BYTES;
/// The longest that JSON writes a character: a control character's escape.
const BYTES_OF_CHAR: usize = 6;

/// Of an answer with all images, whose files are so long in all, without manifests.
pub(super) fn answer(service: &Service, request: &ImageRequest, file_bytes: usize) -> usize {
    let copies = if request.response_format == ResponseFormat::B64Json { 2 } else { 1 };
    let images = request.count.get();
    let files = padded_bytes(request.size, request.format, images, file_bytes);
    let files = base64_bytes(files + images * manifest_bytes(service), images);
    let around = AROUND_IMAGE_BYTES + PROVENANCE_BYTES + prompt_bytes(service);
    AROUND_BYTES + copies * files + images * around
}

/// Of an event with an image whose file is so long.
pub(super) fn event(service: &Service, size: Size, format: Format, file_bytes: usize) -> usize {
    let file = padded_bytes(size, format, 1, file_bytes) + manifest_bytes(service);
    AROUND_BYTES + PROVENANCE_BYTES + base64_bytes(file, 1) + prompt_bytes(service)
}

/// Room for a manifest in a file, where the node signs any.
fn manifest_bytes(service: &Service) -> usize {
    service.manifest_signer().map_or(0, |_| provenance::MAX_MANIFEST_BYTES)
}

/// Room for a prompt that is told back, whether or not it is.
fn prompt_bytes(service: &Service) -> usize {
    BYTES_OF_CHAR * service.capabilities().limits.max_prompt_chars + VIVID_SUFFIX.len()
}

/// Of so many files, each of which may end in a group that is not full.
fn base64_bytes(bytes: usize, files: usize) -> usize {
    4 * (bytes.div_ceil(3) + files)
}
