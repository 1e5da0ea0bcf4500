//! A model directory, read file by file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Component, Path, PathBuf},
    sync::mpsc,
    thread,
};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Files, Weights, safetensors};
use crate::{Error, FileDigest, Manifest, ManifestFile, Pins, Result};

/// The longest file that is read whole: T5's `tokenizer.json` has 2.4 MB, an index 0.1 MB.
const MAX_SMALL_FILE_BYTES: u64 = 64 << 20;

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
    device: &'a Device,
    dtype: DType,
    progress: &'a mut dyn FnMut(LoadProgress<'_>),
    done_bytes: u64,
    total_bytes: u64,
}

impl<'a> Pace<'a> {
    /// From nothing to all of `shards`.
    pub(crate) fn over(
        shards: &[Shards],
        device: &'a Device,
        dtype: DType,
        progress: &'a mut dyn FnMut(LoadProgress<'_>),
    ) -> Self {
        let total_bytes = shards.iter().map(Shards::bytes).sum();
        Self { device, dtype, progress, done_bytes: 0, total_bytes }
    }
}

/// A model directory, what was read from it so far, and what it is held against.
pub(crate) struct Directory {
    files: Files,
    manifest: Manifest,
    pins: Pins,
}

impl Directory {
    pub(crate) fn new(files: Files, pins: Pins) -> Self {
        Self { files, manifest: Manifest::default(), pins }
    }

    /// Everything that was read. Only bytes that were also parsed are in it: no file is read a
    /// second time, so what it names is what computes.
    ///
    /// # Errors
    /// Where a file was pinned and not read: the manifest is then that of another model.
    pub(crate) fn finish(mut self) -> Result<Manifest> {
        if let Pins::Exactly(pinned) = &self.pins
            && let Some(file) =
                pinned.files.iter().find(|file| self.manifest.file(&file.path).is_none())
        {
            return Err(Error::NotRead { path: self.path(&file.path) });
        }
        self.manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(self.manifest)
    }

    /// The path behind a name relative to the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// Whether a file is there. Only for files that may be left out.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    /// A file of the directory itself; see [`Files::first_like`].
    pub(crate) fn first_like(&self, stem: &str, ending: &str) -> Option<String> {
        self.files.first_like(stem, ending)
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
        let read = |source| Error::Read { path: path.clone(), source };
        let file = self.files.open(name).map_err(read)?;
        let mut bytes = Vec::new();
        file.take(MAX_SMALL_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > MAX_SMALL_FILE_BYTES {
            return Err(Error::TooLong { path, limit_bytes: MAX_SMALL_FILE_BYTES });
        }
        self.check_length(name, bytes.len() as u64)?;
        self.record(name, bytes.len() as u64, FileDigest(Sha256::digest(&bytes).into()))?;
        Ok(bytes)
    }

    /// Before a file is read: whether it is pinned, and has the pinned length.
    fn check_length(&self, name: &str, found_bytes: u64) -> Result<()> {
        let Some(file) = self.pinned(name)? else { return Ok(()) };
        match file.bytes {
            Some(expected_bytes) if expected_bytes != found_bytes => {
                Err(Error::PinnedLength { path: self.path(name), expected_bytes, found_bytes })
            }
            _ => Ok(()),
        }
    }

    /// After a file was read: whether it has the pinned digest. Then notes it.
    fn record(&mut self, name: &str, bytes: u64, found: FileDigest) -> Result<()> {
        if let Some(file) = self.pinned(name)? {
            let path = self.path(name);
            match file.sha256 {
                Some(expected) if expected == found => {}
                Some(expected) => return Err(Error::PinnedDigest { path, expected, found }),
                None => return Err(Error::NotPinned { path }),
            }
        }
        self.manifest.files.push(ManifestFile {
            path: name.to_owned(),
            bytes: Some(bytes),
            sha256: Some(found),
        });
        Ok(())
    }

    fn pinned(&self, name: &str) -> Result<Option<&ManifestFile>> {
        match &self.pins {
            Pins::None => Ok(None),
            Pins::Exactly(manifest) => match manifest.file(name) {
                Some(file) => Ok(Some(file)),
                None => Err(Error::NotPinned { path: self.path(name) }),
            },
        }
    }

    /// The weights files of a component: all shards of its index, or its single file.
    pub(crate) fn shards(&mut self, component: &'static str) -> Result<Shards> {
        let folder = format!("{component}/");
        for stem in ["diffusion_pytorch_model", "model"] {
            let index = format!("{component}/{stem}.safetensors.index.json");
            if self.has(&index) {
                let names: Index = self.json(&index)?;
                let files: BTreeSet<String> = names.weight_map.into_values().collect();
                if files.iter().any(|file| !is_plain_name(file)) {
                    return Err(Error::StrayShard { path: self.path(&index) });
                }
                return Shards::in_folder(component, &folder, files, &self.files);
            }
            let single = format!("{stem}.safetensors");
            if self.has(&format!("{component}/{single}")) {
                let files = BTreeSet::from([single]);
                return Shards::in_folder(component, &folder, files, &self.files);
            }
        }
        Err(Error::NoWeights { path: self.path(component) })
    }

    /// A component that is one file of the directory itself.
    pub(crate) fn single(&mut self, component: &'static str, file: &str) -> Result<Shards> {
        Shards::in_folder(component, "", BTreeSet::from([file.to_owned()]), &self.files)
    }

    /// Reads all tensors of a component.
    pub(crate) fn weights(&mut self, shards: Shards, pace: &mut Pace<'_>) -> Result<Weights> {
        let (component, device, dtype) = (shards.component, pace.device, pace.dtype);
        let mut tensors = Tensors::new();
        self.read(&shards, pace, &mut |name, tensor| {
            let tensor = tensor.to_device(device)?.to_dtype(dtype)?;
            match tensors.insert(name.clone(), tensor) {
                Some(_) => Err(Error::DuplicateTensor { component, name }),
                None => Ok(()),
            }
        })?;
        Ok(Weights::new(component, (shards.rename)(tensors)?))
    }

    /// Reads all tensors of a component and keeps none: for their digests.
    pub(crate) fn hash(&mut self, shards: Shards, pace: &mut Pace<'_>) -> Result<()> {
        self.read(&shards, pace, &mut |_, _| Ok(()))
    }

    /// Shards are read and hashed side by side, each by its own thread; `sink` is called on the
    /// calling thread, which may own the device.
    fn read(
        &mut self,
        shards: &Shards,
        pace: &mut Pace<'_>,
        sink: &mut dyn FnMut(String, Tensor) -> Result<()>,
    ) -> Result<()> {
        for shard in &shards.files {
            self.check_length(&shard.name, shard.bytes)?;
        }
        let digests = thread::scope(|scope| {
            // Bounded, so that no more than a few tensors wait in host memory.
            let (sender, receiver) = mpsc::sync_channel::<(String, Tensor)>(2);
            let readers: Vec<_> = shards
                .files
                .iter()
                .map(|shard| {
                    let sender = sender.clone();
                    let files = &self.files;
                    scope.spawn(move || read_shard(files, shard, &sender))
                })
                .collect();
            drop(sender);
            // Where this loop fails, the receiver is dropped, which ends the readers.
            while let Ok((name, tensor)) = receiver.recv() {
                pace.done_bytes += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
                sink(name, tensor)?;
                (pace.progress)(LoadProgress {
                    component: shards.component,
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
        for (shard, digest) in shards.files.iter().zip(digests) {
            self.record(&shard.name, shard.bytes, digest)?;
        }
        Ok(())
    }
}

type Tensors = BTreeMap<String, Tensor>;

/// The weights files of one component.
pub(crate) struct Shards {
    component: &'static str,
    files: Vec<Shard>,
    /// From the names in the files to those that the model asks for.
    rename: fn(Tensors) -> Result<Tensors>,
}

struct Shard {
    /// Relative to the model directory.
    name: String,
    bytes: u64,
}

impl Shards {
    /// `folder` is empty or ends in a slash.
    fn in_folder(
        component: &'static str,
        folder: &str,
        names: BTreeSet<String>,
        files: &Files,
    ) -> Result<Self> {
        let shards = names
            .into_iter()
            .map(|file| {
                let name = format!("{folder}{file}");
                let bytes = files
                    .length(&name)
                    .map_err(|source| Error::Read { path: files.path(&name), source })?;
                Ok(Shard { name, bytes })
            })
            .collect::<Result<_>>()?;
        Ok(Self { component, files: shards, rename: Ok })
    }

    pub(crate) fn renamed(self, rename: fn(Tensors) -> Result<Tensors>) -> Self {
        Self { rename, ..self }
    }

    /// Their length together.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|shard| shard.bytes).sum()
    }
}

/// `*.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn read_shard(
    files: &Files,
    shard: &Shard,
    sender: &mpsc::SyncSender<(String, Tensor)>,
) -> Result<FileDigest> {
    let path = files.path(&shard.name);
    let file =
        files.open(&shard.name).map_err(|source| Error::Read { path: path.clone(), source })?;
    let sha256 = safetensors::read(&path, file, shard.bytes, &mut |name, tensor| {
        // The receiver is gone when another shard has failed; its error is the one that is told.
        sender.send((name, tensor)).map_err(|_| Error::Cancelled)
    })?;
    Ok(FileDigest(sha256))
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
