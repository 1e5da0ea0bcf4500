//! A model directory in the diffusers layout.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Component, Path, PathBuf},
    sync::mpsc,
    thread,
};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Manifest, Weights, digest::FileDigest, safetensors};
use crate::{Error, Result};

/// How far loading is.
#[derive(Debug, Clone, Copy)]
pub struct LoadProgress<'a> {
    /// The component that is being read.
    pub component: &'a str,
    /// Bytes of weights that are loaded, over all components.
    pub done_bytes: u64,
    /// Bytes of weights in all.
    pub total_bytes: u64,
}

/// Where weights go, and whom to tell.
pub(crate) struct Pace<'a> {
    pub(crate) device: &'a Device,
    pub(crate) dtype: DType,
    pub(crate) progress: &'a mut dyn FnMut(LoadProgress<'_>),
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
}

/// A model directory, and the digests of what was read from it so far.
pub(crate) struct Directory {
    root: PathBuf,
    manifest: Manifest,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), manifest: Manifest::default() }
    }

    /// The digest of everything read so far.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.manifest.digest()
    }

    /// The path behind a name relative to the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether a file is there. Only for files that may be left out.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    /// Reads, hashes and parses a JSON file.
    pub(crate) fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes)
            .map_err(|source| Error::Json { path: self.path(name), source })
    }

    /// Reads and hashes a small file.
    pub(crate) fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        let bytes = fs::read(&path).map_err(|source| Error::Read { path, source })?;
        let sha256 = Sha256::digest(&bytes).into();
        self.manifest.add(FileDigest { name: name.to_owned(), bytes: bytes.len() as u64, sha256 });
        Ok(bytes)
    }

    /// The weights files of a component: all shards of its index, or its single file.
    pub(crate) fn shards(&mut self, component: &'static str) -> Result<Shards> {
        for stem in ["diffusion_pytorch_model", "model"] {
            let index = format!("{component}/{stem}.safetensors.index.json");
            if self.has(&index) {
                let names: Index = self.json(&index)?;
                let files: BTreeSet<String> = names.weight_map.into_values().collect();
                if files.iter().any(|file| !is_plain_name(file)) {
                    return Err(Error::StrayShard { path: self.path(&index) });
                }
                return Shards::new(component, files, &self.root);
            }
            let single = format!("{stem}.safetensors");
            if self.has(&format!("{component}/{single}")) {
                return Shards::new(component, BTreeSet::from([single]), &self.root);
            }
        }
        Err(Error::NoWeights { path: self.path(component) })
    }

    /// Reads all tensors of a component. Shards are read and hashed side by side, each by its own
    /// thread; conversion and upload stay on the calling thread, which may own the device.
    pub(crate) fn weights(&mut self, shards: Shards, pace: &mut Pace<'_>) -> Result<Weights> {
        let component = shards.component;
        let mut tensors = BTreeMap::new();
        let digests = thread::scope(|scope| {
            // Bounded, so that no more than a few tensors wait in host memory.
            let (sender, receiver) = mpsc::sync_channel::<(String, Tensor)>(2);
            let readers: Vec<_> = shards
                .files
                .iter()
                .map(|shard| {
                    let sender = sender.clone();
                    let root = &self.root;
                    scope.spawn(move || read_shard(root, shard, &sender))
                })
                .collect();
            drop(sender);
            // Where this loop fails, the receiver is dropped, which ends the readers.
            while let Ok((name, tensor)) = receiver.recv() {
                pace.done_bytes += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
                let tensor = tensor.to_device(pace.device)?.to_dtype(pace.dtype)?;
                if tensors.insert(name.clone(), tensor).is_some() {
                    return Err(Error::DuplicateTensor { component, name });
                }
                (pace.progress)(LoadProgress {
                    component,
                    done_bytes: pace.done_bytes,
                    total_bytes: pace.total_bytes,
                });
            }
            readers
                .into_iter()
                .map(|reader| match reader.join() {
                    Ok(digest) => digest,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect::<Result<Vec<_>>>()
        })?;
        for digest in digests {
            self.manifest.add(digest);
        }
        Ok(Weights::new(component, tensors))
    }
}

/// The weights files of one component.
pub(crate) struct Shards {
    component: &'static str,
    files: Vec<Shard>,
}

struct Shard {
    /// Relative to the model directory.
    name: String,
    bytes: u64,
}

impl Shards {
    fn new(component: &'static str, files: BTreeSet<String>, root: &Path) -> Result<Self> {
        let files = files
            .into_iter()
            .map(|file| {
                let name = format!("{component}/{file}");
                let path = root.join(&name);
                let bytes =
                    fs::metadata(&path).map_err(|source| Error::Read { path, source })?.len();
                Ok(Shard { name, bytes })
            })
            .collect::<Result<_>>()?;
        Ok(Self { component, files })
    }

    /// Their length together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|shard| shard.bytes).sum()
    }
}

/// `*.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn read_shard(
    root: &Path,
    shard: &Shard,
    sender: &mpsc::SyncSender<(String, Tensor)>,
) -> Result<FileDigest> {
    let path = root.join(&shard.name);
    let file = File::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let sha256 = safetensors::read(&path, file, shard.bytes, &mut |name, tensor| {
        // The receiver is gone when another shard has failed; its error is the one that is told.
        sender.send((name, tensor)).map_err(|_| Error::Cancelled)
    })?;
    Ok(FileDigest { name: shard.name.clone(), bytes: shard.bytes, sha256 })
}

/// Whether a file name stays in its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_stay_in_their_folder() {
        assert!(is_plain_name("diffusion_pytorch_model-00001-of-00003.safetensors"));
        for name in ["../x", "/etc/passwd", "a/b", "", ".", ".."] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
