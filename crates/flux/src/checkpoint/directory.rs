//! A model directory, read file by file.

use std::{collections::BTreeSet, io::Read, mem, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Files, LoadProgress, Weights,
    shards::{Index, Shards, Sink, Tensors, is_plain_name, read_all},
};
use crate::{Error, FileDigest, Manifest, ManifestFile, Pins, Result};

/// The longest file that is read whole: T5's `tokenizer.json` has 2.4 MB, an index 0.1 MB.
const MAX_SMALL_FILE_BYTES: u64 = 64 << 20;

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

    /// Reads all tensors of these components, and has each built, by its number, as soon as the last of its
    /// tensors is there.
    pub(crate) fn weights(
        &mut self,
        components: &[Component<'_>],
        dtype: DType,
        build: &mut dyn FnMut(usize, Weights) -> Result<()>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let shards: Vec<&Shards> = components.iter().map(|component| component.shards).collect();
        let tensors = vec![Tensors::new(); components.len()];
        let bytes = Bytes::of(&shards, progress);
        self.read(&shards, &mut Building { components, dtype, build, tensors, bytes })
    }

    /// Reads all tensors of these components and keeps none: for their digests.
    pub(crate) fn hash(
        &mut self,
        components: &[Shards; 4],
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let shards = components.each_ref();
        let bytes = Bytes::of(&shards, progress);
        self.read(&shards, &mut Hashing { bytes })
    }

    fn read(&mut self, components: &[&Shards], sink: &mut dyn Sink) -> Result<()> {
        for shard in components.iter().flat_map(|shards| &shards.files) {
            self.check_length(&shard.name, shard.bytes)?;
        }
        for (shard, digest) in read_all(&self.files, components, sink)? {
            self.record(&shard.name, shard.bytes, digest)?;
        }
        Ok(())
    }
}

/// A component that is to be read and built.
pub(crate) struct Component<'a> {
    pub(crate) shards: &'a Shards,
    /// Where its weights rest.
    pub(crate) device: &'a Device,
    /// What becomes of each tensor on the device, and under which names it is kept.
    pub(crate) keep: Keep,
}

/// From a tensor's name in its file to what is kept.
pub(crate) type Keep = fn(String, Tensor) -> Result<Kept>;

/// Tensors under the names that the model's parts ask for.
pub(crate) type Kept = Vec<(String, Tensor)>;

/// Keeps a tensor as it was read.
pub(crate) fn as_read(name: String, tensor: Tensor) -> Result<Kept> {
    Ok(vec![(name, tensor)])
}

/// How many have come.
struct Bytes<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(LoadProgress),
}

impl<'a> Bytes<'a> {
    fn of(components: &[&Shards], progress: &'a mut dyn FnMut(LoadProgress)) -> Self {
        Self { done: 0, total: components.iter().map(|shards| shards.bytes()).sum(), progress }
    }

    fn add(&mut self, tensor: &Tensor) {
        self.done += (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64;
        (self.progress)(LoadProgress { done_bytes: self.done, total_bytes: self.total });
    }
}

struct Building<'a, 'c> {
    components: &'a [Component<'c>],
    dtype: DType,
    build: &'a mut dyn FnMut(usize, Weights) -> Result<()>,
    /// Of each component, those that have come.
    tensors: Vec<Tensors>,
    bytes: Bytes<'a>,
}

impl Sink for Building<'_, '_> {
    fn tensor(&mut self, component: usize, name: String, tensor: Tensor) -> Result<()> {
        let Component { shards, device, keep } = &self.components[component];
        self.bytes.add(&tensor);
        let tensor = tensor.to_device(device)?.to_dtype(self.dtype)?;
        for (name, tensor) in keep(name, tensor)? {
            if self.tensors[component].insert(name.clone(), tensor).is_some() {
                return Err(Error::DuplicateTensor { component: shards.component, name });
            }
        }
        Ok(())
    }

    fn end(&mut self, component: usize) -> Result<()> {
        let Component { shards, .. } = &self.components[component];
        let tensors = (shards.rename)(mem::take(&mut self.tensors[component]))?;
        (self.build)(component, Weights::new(shards.component, tensors))
    }
}

struct Hashing<'a> {
    bytes: Bytes<'a>,
}

impl Sink for Hashing<'_> {
    fn tensor(&mut self, _: usize, _: String, tensor: Tensor) -> Result<()> {
        self.bytes.add(&tensor);
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<()> {
        Ok(())
    }
}
