//! C2PA manifests (C2PA Technical Specification 2.1), as a node writes them: claim version 2, one
//! manifest, three assertions.
//!
//! ```text
//! c2pa                          the store                         JUMBF superboxes, ISO 19566-5
//! └ urn:c2pa:…                  the one manifest
//!   ├ c2pa.assertions
//!   │ ├ c2pa.actions.v2         created by a trained model        §18.14
//!   │ ├ obscura.generation      Statement
//!   │ └ c2pa.hash.data          SHA-256 of the file without this  §18.7
//!   ├ c2pa.claim.v2             the assertions' hashes            §10
//!   └ c2pa.signature            COSE_Sign1 over the claim         §13.2
//! ```
//! Nothing in it is a name, a place or a time: two images of one request differ in what they commit to, in
//! the two random identifiers that the specification asks for, and in their hashes.

mod container;
mod draft;
mod jumbf;
mod key;
mod read;

pub use container::MAX_FILE_BYTES;
pub use draft::embed;
pub use key::ManifestSigner;
pub use read::Manifest;

/// The longest manifest that is written, with what its file format puts around it.
pub const MAX_MANIFEST_BYTES: usize = 4096;

const STORE: &str = "c2pa";
const ASSERTIONS: &str = "c2pa.assertions";
const ACTIONS: &str = "c2pa.actions.v2";
const GENERATION: &str = "obscura.generation";
const HASH: &str = "c2pa.hash.data";
const CLAIM: &str = "c2pa.claim.v2";
const SIGNATURE: &str = "c2pa.signature";
/// What all manifests' names begin with; a UUID follows.
const MANIFEST_PREFIX: &str = "urn:c2pa:";

/// Who writes them.
const GENERATOR: &str = "Obscura";
/// <http://cv.iptc.org/newscodes/digitalsourcetype>: media made by a model that was trained.
const DIGITAL_SOURCE: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";

#[cfg(test)]
mod tests;
