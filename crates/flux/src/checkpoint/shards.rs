//! A component's files of weights, and how all of them are read at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
};

use candle_core::Tensor;
use serde::Deserialize;

use super::{Files, renaming::Renaming, safetensors};
use crate::{Error, FileDigest, Result};

/// How far loading is.
#[derive(Debug, Clone, Copy)]
pub struct LoadProgress {
    /// Bytes of weights that are loaded.
    pub done_bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
}

/// Files that are read side by side, where there are as many cores: FLUX.1-schnell has seven.
const READERS: usize = 16;

/// All weights of the largest model in sight, a transformer of 32 billion parameters and a text encoder of
/// 24 billion, have 225 GB in f32.
pub(super) const MAX_WEIGHTS_BYTES: u64 = 256 << 30;

pub(super) type Tensors = BTreeMap<String, Tensor>;

/// The weights files of one component.
pub(crate) struct Shards {
    pub(super) component: &'static str,
    pub(super) files: Vec<Shard>,
    /// From the names in the files to those that the model asks for: of each tensor as it arrives …
    pub(super) renaming: Option<&'static Renaming>,
    /// … and of all of them together, where only all of them tell.
    pub(super) rename: fn(Tensors) -> Result<Tensors>,
    /// Whether the model has no use for a tensor, by its name in the file: it is passed over before its type
    /// and its shape are judged.
    is_unread: fn(&str) -> bool,
}

pub(super) struct Shard {
    /// Relative to the model directory.
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl Shards {
    /// `folder` is empty or ends in a slash.
    pub(super) fn in_folder(
        component: &'static str,
        folder: &str,
        names: BTreeSet<String>,
        files: &Files,
    ) -> Result<Self> {
        let shards = names
            .into_iter()
            .map(|file| {
                let name = format!("{folder}{file}");
                let bytes = files.length(&name)?;
                // Each alone, so that the sum of them all cannot overflow.
                if bytes > MAX_WEIGHTS_BYTES {
                    let path = files.path(&name);
                    return Err(Error::TooLong { path, limit_bytes: MAX_WEIGHTS_BYTES });
                }
                Ok(Shard { name, bytes })
            })
            .collect::<Result<_>>()?;
        let (renaming, rename) = (None, Ok as fn(_) -> _);
        Ok(Self { component, files: shards, renaming, rename, is_unread: |_| false })
    }

    pub(crate) fn renamed_by(self, renaming: &'static Renaming) -> Self {
        Self { renaming: Some(renaming), ..self }
    }

    pub(crate) fn renamed(self, rename: fn(Tensors) -> Result<Tensors>) -> Self {
        Self { rename, ..self }
    }

    pub(crate) fn ignoring(self, is_unread: fn(&str) -> bool) -> Self {
        Self { is_unread, ..self }
    }

    /// Their length together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|shard| shard.bytes).sum()
    }

    /// How many values those tensors have that the model has a use for. The files' headers are read, and no more.
    ///
    /// # Errors
    /// Where a file cannot be read, or its header is not that of such a file.
    pub(super) fn count_values(&self, files: &Files) -> Result<u64> {
        let counts = self.files.iter().map(|shard| {
            let (path, file) = (files.path(&shard.name), files.open(&shard.name)?);
            safetensors::count_values(&path, file, shard.bytes, &self.is_unread)
        });
        counts.sum()
    }
}

/// `*.safetensors.index.json`.
#[derive(Deserialize)]
pub(super) struct Index {
    pub(super) weight_map: BTreeMap<String, String>,
}

/// Whom the tensors of several components are for; called on the thread that asked for them, which may own
/// a device.
pub(super) trait Sink {
    /// A tensor of the component of this number.
    fn tensor(&mut self, component: usize, name: String, tensor: Tensor) -> Result<()>;

    /// There are no more of this component.
    fn end(&mut self, component: usize) -> Result<()>;
}

/// Reads and hashes all files of these components, several at a time, each by threads of its own. Returns
/// each file's digest.
///
/// # Errors
/// The first that a reader or `sink` meets; it ends the others.
pub(super) fn read_all<'a>(
    files: &Files,
    components: &[&'a Shards],
    sink: &mut dyn Sink,
) -> Result<Vec<(&'a Shard, FileDigest)>> {
    let shards: Vec<(usize, &Shard)> = components
        .iter()
        .enumerate()
        .flat_map(|(i, component)| component.files.iter().map(move |shard| (i, shard)))
        .collect();
    let mut left: Vec<usize> = components.iter().map(|component| component.files.len()).collect();
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        // Bounded, so that no more than a few tensors wait in host memory.
        let (sender, receiver) = mpsc::sync_channel(2);
        for _ in 0..shards.len().min(READERS).min(cores) {
            let (sender, next, shards) = (sender.clone(), &next, &shards);
            scope.spawn(move || {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some((component, shard)) = shards.get(place) else { return };
                    let of = (*component, components[*component].is_unread);
                    let read = match read_shard(files, shard, of, &sender) {
                        Ok(digest) => Read::File { place, digest },
                        Err(error) => Read::Failed(error),
                    };
                    // Nobody listens where another reader has failed: its error is the one that is told.
                    if sender.send(read).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for component in (0..left.len()).filter(|&component| left[component] == 0) {
            sink.end(component)?;
        }
        let mut digests = Vec::with_capacity(shards.len());
        // Where this loop fails, the receiver is dropped, which ends the readers.
        for read in receiver {
            match read {
                Read::Tensor { component, name, tensor } => sink.tensor(component, name, tensor)?,
                Read::File { place, digest } => {
                    let (component, shard) = shards[place];
                    digests.push((shard, digest));
                    left[component] -= 1;
                    if left[component] == 0 {
                        sink.end(component)?;
                    }
                }
                Read::Failed(error) => return Err(error),
            }
        }
        Ok(digests)
    })
}

/// What a reader has to tell.
enum Read {
    Tensor {
        component: usize,
        name: String,
        tensor: Tensor,
    },
    /// The file in this place, to its end.
    File {
        place: usize,
        digest: FileDigest,
    },
    Failed(Error),
}

fn read_shard(
    files: &Files,
    shard: &Shard,
    (component, is_unread): (usize, fn(&str) -> bool),
    sender: &SyncSender<Read>,
) -> Result<FileDigest> {
    let path = files.path(&shard.name);
    let file = files.open(&shard.name)?;
    let done = safetensors::read(&path, file, shard.bytes, &is_unread, &mut |name, tensor| {
        sender.send(Read::Tensor { component, name, tensor }).map_err(|_| Error::Cancelled)
    })?;
    Ok(FileDigest(done.sha256))
}
