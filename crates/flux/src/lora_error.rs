//! Why a LoRA cannot be merged.

use std::fmt;

use thiserror::Error;

/// What is wrong with a LoRA. Names of tensors are as its file has them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A pickle, or an archive of them: reading it could run anything.
    #[error("it is a pickle or an archive, not safetensors; nothing is ever unpickled")]
    Pickle,
    /// A tensor of another way to update weights.
    #[error("{key:?} belongs to {method}, which is not implemented: only plain LoRA is")]
    Method {
        /// The tensor, or the field of its metadata.
        key: String,
        /// The method's name.
        method: &'static str,
    },
    /// A text encoder's.
    #[error("{key:?} is of a text encoder: only the transformer's layers are merged")]
    TextEncoder {
        /// The tensor.
        key: String,
    },
    /// A name that means nothing here.
    #[error("it has names that no LoRA of this model has: {}", Several(keys))]
    UnknownKeys {
        /// The tensors, sorted.
        keys: Vec<String>,
    },
    /// Layers that the model does not have: it is for another one.
    #[error("it is for another model: this one does not have {}", Several(layers))]
    OtherModel {
        /// The layers, as this crate names them, sorted.
        layers: Vec<String>,
    },
    /// One half of a pair is missing, or alpha is alone.
    #[error("{layer:?} has no {missing}")]
    Incomplete {
        /// The layer.
        layer: String,
        /// What is missing.
        missing: &'static str,
    },
    /// One layer is updated by two pairs.
    #[error("{first:?} and {second:?} update the same layer")]
    Duplicate {
        /// A layer or tensor.
        first: String,
        /// Another.
        second: String,
    },
    /// The two halves are not (rank, in) and (out, rank).
    #[error("{layer:?}: the shapes {down:?} and {up:?} are of no common rank")]
    Rank {
        /// The layer.
        layer: String,
        /// Of the half that reads.
        down: Vec<usize>,
        /// Of the half that writes.
        up: Vec<usize>,
    },
    /// The update has another shape than the weight.
    #[error(
        "{layer:?} updates a weight of {found:?}, the model's has {expected:?}: it is for another model"
    )]
    Shape {
        /// The layer.
        layer: String,
        /// Of the model's weight.
        expected: Vec<usize>,
        /// Of the update.
        found: Vec<usize>,
    },
    /// NaN or infinity.
    #[error("{key:?} holds values that are no numbers, or leads to such")]
    NotFinite {
        /// The tensor, or the layer.
        key: String,
    },
    /// An alpha that is no single number.
    #[error("{key:?} must be one number, and has the shape {shape:?}")]
    Alpha {
        /// The tensor.
        key: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Metadata that say something else than can be read.
    #[error("its metadata `lora_adapter_metadata` cannot be used: {what}")]
    Metadata {
        /// What is wrong with them.
        what: String,
    },
    /// Nothing in it.
    #[error("it updates nothing")]
    Empty,
    /// More of them than anybody merges.
    #[error("more than {limit} LoRAs")]
    TooMany {
        /// The most.
        limit: usize,
    },
}

/// The first of several names, and how many there are besides.
struct Several<'a>(&'a [String]);

impl fmt::Display for Several<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            [one] => write!(f, "{one:?}"),
            [first, others @ ..] => write!(f, "{first:?} and {} more", others.len()),
        }
    }
}
