//! Errors between a model directory and an image.

use std::{fmt, path::PathBuf};

use thiserror::Error;

use crate::{file_digest::FileDigest, lora_error::LoraError};

/// Why a model did not load or an image was not made. Never carries a prompt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What should be a file is something else: a folder, a pipe, a device, a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// A JSON file does not parse, or lacks a field.
    #[error("cannot parse {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A tokenizer file does not parse.
    #[error("cannot build a tokenizer from {}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
    /// A tokenizer lacks a token that the encoder depends on.
    #[error("{} has no token {token:?}", path.display())]
    MissingToken {
        /// The tokenizer's file.
        path: PathBuf,
        /// The token.
        token: &'static str,
    },
    /// A chat template is none that is known: what it would make of a prompt cannot be told.
    #[error("{} holds a chat template that is not known here (SHA-256 {found})", path.display())]
    ChatTemplate {
        /// The file.
        path: PathBuf,
        /// Of the template, without white space at its end.
        found: FileDigest,
    },
    /// No file says how a prompt is put to the text encoder.
    #[error("{} holds no chat template", path.display())]
    NoChatTemplate {
        /// The tokenizer's folder.
        path: PathBuf,
    },
    /// A job has more input images than the model reads.
    #[error("{found} input images, the model reads {most} at most")]
    InputImages {
        /// What the job has.
        found: usize,
        /// What the model reads.
        most: usize,
    },
    /// The tokenizer could not split a text.
    #[error("the text cannot be tokenised")]
    Tokenize,
    /// An index names a file outside the model's own folder.
    #[error("{} names a file outside its folder", path.display())]
    StrayShard {
        /// The index.
        path: PathBuf,
    },
    /// An index names more files than any model has.
    #[error("{} names more than {limit} files", path.display())]
    TooManyShards {
        /// The index.
        path: PathBuf,
        /// The most that are read.
        limit: usize,
    },
    /// Neither an index nor a single file of weights is there.
    #[error("{} has no diffusion_pytorch_model.safetensors, no model.safetensors and no index of either{}", path.display(), Instead(instead))]
    NoWeights {
        /// The component's folder.
        path: PathBuf,
        /// Files with weights that are there, under other names or in other forms.
        instead: Vec<String>,
    },
    /// Several files could be the weights, and nothing says which are meant.
    #[error("{} holds several that could be meant: {}; keep one of them there, or pin it in the manifest", path.display(), names.join(", "))]
    AmbiguousWeights {
        /// The folder.
        path: PathBuf,
        /// The candidates, sorted.
        names: Vec<String>,
    },
    /// A weights file is shorter or longer than its header says.
    #[error("{} has {found_bytes} bytes, its header describes {expected_bytes}", path.display())]
    FileLength {
        /// The file.
        path: PathBuf,
        /// What header and tensors add up to.
        expected_bytes: u64,
        /// What is there.
        found_bytes: u64,
    },
    /// A weights file claims a header longer than the file, or than any honest one.
    #[error("{} claims a header of {header_bytes} bytes, at most {limit_bytes} are believed", path.display())]
    HeaderLength {
        /// The file.
        path: PathBuf,
        /// What it claims.
        header_bytes: u64,
        /// What would be believed.
        limit_bytes: u64,
    },
    /// A tensor's place in its file does not follow from its dtype, its shape and its neighbours.
    #[error("{}: tensor {name:?} has impossible offsets", path.display())]
    TensorOffsets {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor is far longer than any that FLUX has.
    #[error("{}: tensor {name:?} has {bytes} bytes, at most {limit_bytes} are read", path.display())]
    TensorLength {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it claims.
        bytes: u64,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// A tensor has a dtype that no part of FLUX uses.
    #[error("{}: tensor {name:?} has dtype {}, expected F32, F16 or BF16", path.display(), Quoted(dtype))]
    TensorDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The dtype.
        dtype: String,
    },
    /// A file that is read whole is far longer than it should be.
    #[error("{} has more than {limit_bytes} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// A file is needed that the manifest does not pin.
    #[error("{} is not pinned by the manifest; `obscura models pin` writes one that pins all", path.display())]
    NotPinned {
        /// The file.
        path: PathBuf,
    },
    /// A file is pinned that the model does not need: the manifest is another model's.
    #[error("{} is pinned by the manifest but not part of the model", path.display())]
    NotRead {
        /// The file.
        path: PathBuf,
    },
    /// A file has another length than the manifest says.
    #[error("{}: expected {expected_bytes} bytes, found {found_bytes}", path.display())]
    PinnedLength {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected_bytes: u64,
        /// What is there.
        found_bytes: u64,
    },
    /// A file has other bytes than the manifest says.
    #[error("{}: expected SHA-256 {expected}, found {found}", path.display())]
    PinnedDigest {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: FileDigest,
        /// What was read.
        found: FileDigest,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Two files of one component hold the same tensor.
    #[error("{component}: tensor {name:?} is there twice")]
    DuplicateTensor {
        /// The component's folder.
        component: &'static str,
        /// The tensor.
        name: String,
    },
    /// The model needs a tensor that its files do not hold.
    #[error("{component}: tensor {name} is missing")]
    MissingTensor {
        /// The component's folder.
        component: &'static str,
        /// The tensor.
        name: String,
    },
    /// The files hold tensors that the model has no place for.
    #[error("{component}: {} tensors too many, first {:?}", names.len(), names.first())]
    SurplusTensors {
        /// The component's folder.
        component: &'static str,
        /// The tensors, sorted.
        names: Vec<String>,
    },
    /// A tensor's shape is not what the configuration asks for.
    #[error("{component}: tensor {name:?} has shape {found:?}, expected {expected:?}")]
    MisshapenTensor {
        /// The component's folder.
        component: &'static str,
        /// The tensor.
        name: String,
        /// What the configuration asks for.
        expected: Vec<usize>,
        /// What the file holds.
        found: Vec<usize>,
    },
    /// A LoRA cannot be merged into the model.
    #[error("the LoRA {} cannot be merged", path.display())]
    Lora {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoraError,
    },
    /// The manifest pins which LoRAs the model is merged with, and others are given.
    #[error(
        "other LoRAs are given ({found}) than the manifest pins ({expected}, by file, weight and order)"
    )]
    PinnedLoras {
        /// How many it pins.
        expected: usize,
        /// How many are given.
        found: usize,
    },
    /// A configuration asks for something that is not FLUX.1 as this crate knows it.
    #[error("{component}: {field} = {} is not supported", Quoted(value))]
    Unsupported {
        /// The component's folder.
        component: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The weights that rest in the host's memory, and what is beside them, are larger than it.
    #[error(
        "weights, and input images while they are decoded, take about {} MB of the host's memory, and this process may have {} MB: a precision of fewer bits takes less",
        needed_bytes / 1_000_000,
        host_bytes / 1_000_000
    )]
    HostMemory {
        /// What they take, in the precision that was asked for.
        needed_bytes: u64,
        /// Of memory and swap together: the machine's, or what its control group may have.
        host_bytes: u64,
    },
    /// Reading the model met a fault in a library: the files are the likely cause.
    #[error("reading the model failed where it should not: a file of it is not what it should be")]
    Fault,
    /// The model and what it computes would take more of the device's memory than it may.
    #[error("{} MB of memory are allowed, about {} MB are needed", limit_bytes / 1_000_000, needed_bytes / 1_000_000)]
    MemoryLimit {
        /// What is allowed.
        limit_bytes: u64,
        /// What is needed, by estimate, with all that saves memory; or what an image has taken.
        needed_bytes: u64,
    },
    /// The device has no room left for what was asked.
    #[error("the device's memory is full; with a memory limit a model takes less of it")]
    OutOfMemory(#[source] candle_core::Error),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[source] candle_core::Error),
    /// A mask where none can be followed: what is kept of an image has its place in the image that is drawn.
    #[error("a mask is the first input image's, and the image is drawn as large as that is read")]
    Mask,
    /// Jobs were to be drawn together that [`crate::Job::is_batchable_with`] tells apart.
    #[error("jobs that differ in size, steps or guidance cannot be drawn together")]
    MixedBatch,
    /// The watcher asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What is wrong with a manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not UTF-8, or with characters in it that no text has.
    #[error("the manifest is not a text")]
    NotText,
    /// Not TOML, or not of a manifest's shape.
    #[error("the manifest cannot be understood")]
    Toml(#[from] toml::de::Error),
    /// A file is listed twice.
    #[error("the manifest lists {path} twice")]
    Twice {
        /// The file.
        path: String,
    },
    /// A path leaves the model directory.
    #[error("the manifest names {path:?}, which is not inside the model directory")]
    Outside {
        /// The path.
        path: String,
    },
    /// A file has no digest or no length.
    #[error("the manifest does not pin {path}; `obscura models pin` writes one that pins all")]
    Unpinned {
        /// The file.
        path: String,
    },
}

/// What lies there instead of what is looked for.
struct Instead<'a>(&'a [String]);

impl fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, "; instead there are {}", names.join(", ")),
        }
    }
}

/// A word out of a file, as it may be printed: escaped where it could steer a terminal, and cut.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 120;
        write!(f, "{}", self.0.chars().take(SHOWN).collect::<String>().escape_debug())?;
        if self.0.chars().nth(SHOWN).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let error = without_backtrace(error);
        // What the driver says comes through candle as text alone.
        if error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY") {
            Self::OutOfMemory(error)
        } else {
            Self::Tensor(error)
        }
    }
}

/// The error itself: frames of a library say nothing to whoever reads the message.
fn without_backtrace(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(*inner),
        candle_core::Error::Context { inner, context } => {
            candle_core::Error::Context { inner: Box::new(without_backtrace(*inner)), context }
        }
        candle_core::Error::WithPath { inner, path } => {
            candle_core::Error::WithPath { inner: Box::new(without_backtrace(*inner)), path }
        }
        other => other,
    }
}

/// This crate's result.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
