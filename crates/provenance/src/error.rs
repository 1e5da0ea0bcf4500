//! What can be wrong.

use thiserror::Error;

/// Why there is no statement about an image, or none that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProvenanceError {
    /// Not a file of a format that manifests are put into.
    #[error("the file is not a whole PNG, JPEG or WebP")]
    NotAnImage,
    /// Nobody says anything.
    #[error("the image holds no C2PA manifest")]
    NoManifest,
    /// Something that should be there is not, or is of another shape.
    #[error("{what} is malformed or cut off")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// A manifest of others, or one that others added to.
    #[error("the manifest is not as an Obscura node writes it: {what}")]
    Foreign {
        /// How that shows.
        what: &'static str,
    },
    /// The manifest is about other bytes.
    #[error("{what} is not what the manifest was made over")]
    OtherBytes {
        /// The part that differs.
        what: &'static str,
    },
    /// No signature of the key that is named.
    #[error("{what} is not signed by the key that it names")]
    Signature {
        /// Which part.
        what: &'static str,
    },
    /// Longer than is written or read.
    #[error("{what} is longer than {max_bytes} bytes")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// The bound.
        max_bytes: usize,
    },
    /// Not a salt.
    #[error("a salt is 64 lower-case hexadecimal digits")]
    InvalidSalt,
    /// The system gives no randomness, or no certificate can be made.
    #[error("a key to sign images with could not be made")]
    NoKey,
}
