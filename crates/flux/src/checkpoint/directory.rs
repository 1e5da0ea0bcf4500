//! A model directory, read file by file.

use std::{collections::BTreeSet, mem, path::PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    Files, LoadProgress, Weights,
    files::is_plain_name,
    json,
    renaming::NamedTensors,
    shards::{Index, MAX_WEIGHTS_BYTES, Shards, Sink, Tensors, read_all},
};
use crate::{
    Error, FileDigest, Manifest, ManifestFile, ManifestLora, Pins, Result,
    config::{Claims, Identity},
    regular_file::read_within,
};

/// The longest configuration or index that is read: an index of a thousand tensors has 0.1 MB.
const MAX_JSON_BYTES: u64 = 4 << 20;

/// The longest file of a tokenizer that is read: T5's has 2.4 MB, the largest in use 17 MB.
const MAX_TOKENIZER_BYTES: u64 = 32 << 20;

/// What names of safetensors files end in: Black Forest Labs call them `.sft` as well.
const ENDINGS: [&str; 2] = [".safetensors", ".sft"];

/// What names of files with weights end in, read or not.
const OTHER_ENDINGS: [&str; 7] =
    [".safetensors", ".safetensors.index.json", ".sft", ".bin", ".ckpt", ".pt", ".gguf"];

/// Files that the weights of one component may be in.
const MAX_SHARDS: usize = 1024;

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

    /// Everything that was read, and what it was merged with. Only bytes that were also parsed are in it, so what it names
    /// is what computes: no file is read a second time, but for headers of weights, which were counted first.
    ///
    /// # Errors
    /// Where a file was pinned and not read: the manifest is then that of another model.
    pub(crate) fn finish(mut self, loras: &[ManifestLora]) -> Result<Manifest> {
        if let Pins::Exactly(pinned) = &self.pins
            && let Some(file) =
                pinned.files.iter().find(|file| self.manifest.file(&file.path).is_none())
        {
            return Err(Error::NotRead { path: self.path(&file.path) });
        }
        self.manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.manifest.loras = loras.to_vec();
        Ok(self.manifest)
    }

    /// Refuses other LoRAs than the manifest pins, where it pins any.
    pub(crate) fn check_loras(&self, found: &[ManifestLora]) -> Result<()> {
        match &self.pins {
            Pins::None => Ok(()),
            Pins::Exactly(pinned) => pinned.check_loras(found),
        }
    }

    /// The path behind a name relative to the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// Whether a file is there. Only for files that may be left out.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    /// The file of weights in the directory itself that such names are for. Of several, the one that the
    /// manifest pins, or whose name is exactly one of these.
    ///
    /// # Errors
    /// Where several could be meant: to guess would be to draw from another model than somebody thinks.
    pub(crate) fn only_like(
        &self,
        is_like: impl Fn(&str) -> bool,
        exactly: &[&str],
    ) -> Result<Option<String>> {
        let is_weights = |name: &String| ENDINGS.iter().any(|ending| name.ends_with(ending));
        let names = self.files.names("").into_iter();
        let mut names: Vec<String> =
            names.filter(|name| is_weights(name) && is_like(name)).collect();
        let is_pinned = |name: &String| match &self.pins {
            Pins::None => false,
            Pins::Exactly(manifest) => manifest.file(name).is_some(),
        };
        for is_meant in [&is_pinned as &dyn Fn(&String) -> bool, &|name| exactly.contains(&&**name)]
        {
            if names.len() > 1 && names.iter().any(is_meant) {
                names.retain(is_meant);
            }
        }
        match names.len() {
            0 | 1 => Ok(names.pop()),
            _ => Err(Error::AmbiguousWeights { path: self.path(""), names }),
        }
    }

    /// Whether a file of weights whose name begins so is in the directory itself.
    pub(crate) fn has_weights_like(&self, prefix: &str) -> bool {
        let is_weights = |name: &String| ENDINGS.iter().any(|ending| name.ends_with(ending));
        self.files.names("").iter().any(|name| name.starts_with(prefix) && is_weights(name))
    }

    /// Reads, hashes and parses a JSON file.
    pub(crate) fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let bytes = self.small_file(name, MAX_JSON_BYTES)?;
        json::read(&bytes).map_err(|source| Error::Json { path: self.path(name), source })
    }

    /// The same of a configuration, which says first what it is for: one of another model has none of the fields, and
    /// is refused by its own name.
    pub(crate) fn config<T: DeserializeOwned>(&mut self, name: &str, of: &Identity) -> Result<T> {
        let bytes = self.small_file(name, MAX_JSON_BYTES)?;
        let malformed = |source| Error::Json { path: self.path(name), source };
        let value = json::value(&bytes).map_err(malformed)?;
        Claims::deserialize(&value).map_err(malformed)?.check(of)?;
        serde_json::from_value(value).map_err(malformed)
    }

    /// Reads and hashes a tokenizer's file.
    pub(crate) fn tokenizer_bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        self.small_file(name, MAX_TOKENIZER_BYTES)
    }

    /// Reads and hashes a file that is read whole.
    fn small_file(&mut self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        let bytes = read_within(self.files.open(name)?, &self.path(name), limit_bytes)?;
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
        let there = self.files.names(component);
        let meant = ["diffusion_pytorch_model", "model"]
            .map(|stem| [format!("{stem}.safetensors.index.json"), format!("{stem}.safetensors")]);
        let names: Vec<String> =
            meant.concat().into_iter().filter(|it| there.contains(it)).collect();
        if names.len() > 1 {
            return Err(Error::AmbiguousWeights { path: self.path(component), names });
        }
        for stem in ["diffusion_pytorch_model", "model"] {
            let index = format!("{component}/{stem}.safetensors.index.json");
            if self.has(&index) {
                let names: Index = self.json(&index)?;
                let files: BTreeSet<String> = names.weight_map.into_values().collect();
                if files.len() > MAX_SHARDS {
                    let (path, limit) = (self.path(&index), MAX_SHARDS);
                    return Err(Error::TooManyShards { path, limit });
                }
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
        // A variant (`model.fp16.safetensors`) is another model, whose name says so: it is not taken for this one.
        let is_weights = |name: &String| OTHER_ENDINGS.iter().any(|ending| name.ends_with(ending));
        let instead = there.into_iter().filter(is_weights).collect();
        Err(Error::NoWeights { path: self.path(component), instead })
    }

    /// A component that is one file of the directory itself.
    pub(crate) fn single(&mut self, component: &'static str, file: &str) -> Result<Shards> {
        Shards::in_folder(component, "", BTreeSet::from([file.to_owned()]), &self.files)
    }

    /// How many values each of these components has, by the headers of its files: for planning, before any is read.
    ///
    /// # Errors
    /// Where a file is missing, has another length than is pinned, or a header that is none.
    pub(crate) fn count_values(&self, components: &[Shards]) -> Result<Vec<u64>> {
        self.check_lengths(&components.iter().collect::<Vec<_>>())?;
        components.iter().map(|shards| shards.count_values(&self.files)).collect()
    }

    /// Reads all tensors of these components, and has each built, by its number, as soon as the last of its
    /// tensors is there. Whether there is room for them is the caller's to ask first.
    pub(crate) fn weights(
        &mut self,
        components: &[Component<'_>],
        build: &mut dyn FnMut(usize, Weights) -> Result<()>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let shards: Vec<&Shards> = components.iter().map(|component| component.shards).collect();
        let tensors = vec![Tensors::new(); components.len()];
        let bytes = Bytes::of(&shards, progress);
        self.read(&shards, &mut Building { components, build, tensors, bytes })
    }

    /// Reads all tensors of these components and keeps none: for their digests.
    pub(crate) fn hash(
        &mut self,
        components: &[Shards],
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<()> {
        let shards: Vec<&Shards> = components.iter().collect();
        let bytes = Bytes::of(&shards, progress);
        self.read(&shards, &mut Hashing { bytes })
    }

    fn read(&mut self, components: &[&Shards], sink: &mut dyn Sink) -> Result<()> {
        self.check_lengths(components)?;
        for (shard, digest) in read_all(&self.files, components, sink)? {
            self.record(&shard.name, shard.bytes, digest)?;
        }
        Ok(())
    }

    /// Whether their files are no longer than is read, and as long as is pinned.
    fn check_lengths(&self, components: &[&Shards]) -> Result<()> {
        if components.iter().map(|shards| shards.bytes()).sum::<u64>() > MAX_WEIGHTS_BYTES {
            return Err(Error::TooLong { path: self.path(""), limit_bytes: MAX_WEIGHTS_BYTES });
        }
        for shard in components.iter().flat_map(|shards| &shards.files) {
            self.check_length(&shard.name, shard.bytes)?;
        }
        Ok(())
    }
}

/// A component that is to be read and built.
pub(crate) struct Component<'a> {
    pub(crate) shards: &'a Shards,
    /// Where its weights rest.
    pub(crate) device: &'a Device,
    /// What becomes of each tensor on the device, in its file's type, and under which names it is kept.
    pub(crate) keep: &'a Convert<'a>,
}

/// From a tensor, by the name that the model's parts ask for, to what is kept.
pub(crate) type Convert<'a> = dyn Fn(String, Tensor) -> Result<NamedTensors> + 'a;

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
    build: &'a mut dyn FnMut(usize, Weights) -> Result<()>,
    /// Of each component, those that have come.
    tensors: Vec<Tensors>,
    bytes: Bytes<'a>,
}

impl Sink for Building<'_, '_> {
    fn tensor(&mut self, component: usize, name: String, tensor: Tensor) -> Result<()> {
        let Component { shards, device, keep } = &self.components[component];
        self.bytes.add(&tensor);
        let tensor = tensor.to_device(device)?;
        let renamed = match shards.renaming {
            Some(renaming) => renaming.rename(name, tensor)?,
            None => vec![(name, tensor)],
        };
        for (name, tensor) in renamed {
            for (name, tensor) in keep(name, tensor)? {
                if self.tensors[component].insert(name.clone(), tensor).is_some() {
                    return Err(Error::DuplicateTensor { component: shards.component, name });
                }
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
