//! Reads a LoRA's file.

use std::{collections::BTreeMap, io::Read, path::Path};

use candle_core::{DType, Tensor};

use super::{
    Lora, LoraError, is_finite,
    metadata::Alphas,
    names::{Kind, parse},
};
use crate::{
    Error, FileDigest, ManifestLora, Result,
    checkpoint::{
        renaming::{Renaming, unfused},
        safetensors,
    },
    regular_file::{open_regular, regular_file_bytes},
};

/// The longest that is read: one of rank 256 for every layer of FLUX.1 has 2.4 GB in 16 bits.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// How a layer's weight changes.
pub(super) struct Update {
    /// The layer as the file names it.
    pub(super) layer: String,
    /// A: (rank, in), f32.
    pub(super) down: Tensor,
    /// B: (out, rank), f32.
    pub(super) up: Tensor,
    /// weight · alpha / rank
    pub(super) scale: f64,
}

/// Updates by the layer's name in diffusers' layout; queries, keys and values each by itself.
pub(super) type Updates = BTreeMap<String, Update>;

/// The updates of a LoRA, and what a manifest says of its file.
///
/// # Errors
/// Where it is no LoRA for such a model, or not the file that is meant.
pub(super) fn read(lora: &Lora, renaming: &Renaming) -> Result<(Updates, ManifestLora)> {
    let mut pairs =
        Pairs { path: &lora.file, renaming, layers: BTreeMap::new(), unknown: Vec::new() };
    let (entry, adapter) = read_tensors(lora, &mut |key, tensor| pairs.take(key, tensor))?;
    let alphas = adapter.as_deref().map(Alphas::parse).transpose();
    let alphas = alphas.map_err(|source| pairs.refuse(source))?.flatten();
    Ok((pairs.finish(lora.weight.get(), alphas.as_ref())?, entry))
}

impl ManifestLora {
    /// Reads and hashes a LoRA's file, whatever model it is for.
    ///
    /// # Errors
    /// Where it is no safetensors file, or not the one that is meant.
    pub fn of(lora: &Lora) -> Result<Self, Error> {
        read_tensors(lora, &mut |_, _| Ok(())).map(|(entry, _)| entry)
    }
}

/// Reads a LoRA's bytes, for fuzzing.
pub(crate) fn read_bytes(file: &[u8], renaming: &Renaming) -> Result<()> {
    let path = Path::new("fuzz");
    let mut pairs = Pairs { path, renaming, layers: BTreeMap::new(), unknown: Vec::new() };
    let mut take = |key, tensor: Tensor| pairs.take(key, tensor.to_dtype(DType::F32)?);
    let done = safetensors::read(path, file, file.len() as u64, &|_| false, &mut take)?;
    let alphas = done.adapter.as_deref().map(Alphas::parse).transpose();
    let alphas = alphas.map_err(|source| pairs.refuse(source))?.flatten();
    pairs.finish(1.0, alphas.as_ref()).map(|_| ())
}

/// All tensors, in f32; then what a manifest says of the file, and what its metadata say of an adapter.
fn read_tensors(
    lora: &Lora,
    sink: &mut dyn FnMut(String, Tensor) -> Result<()>,
) -> Result<(ManifestLora, Option<String>)> {
    let path = &lora.file;
    let bytes = regular_file_bytes(path)?;
    if bytes > MAX_FILE_BYTES {
        return Err(Error::TooLong { path: path.clone(), limit_bytes: MAX_FILE_BYTES });
    }
    let file = open_regular(path)?;
    let mut in_f32 = |key, tensor: Tensor| sink(key, tensor.to_dtype(DType::F32)?);
    let done = safetensors::read(path, file, bytes, &|_| false, &mut in_f32);
    let done = done.map_err(|error| match error {
        // What a pickle begins with is no length of a header.
        Error::HeaderLength { .. } if begins_as_pickle(path) => {
            Error::Lora { path: path.clone(), source: LoraError::Pickle }
        }
        other => other,
    })?;
    let found = FileDigest(done.sha256);
    match lora.sha256 {
        Some(expected) if expected != found => {
            Err(Error::PinnedDigest { path: path.clone(), expected, found })
        }
        _ => Ok((ManifestLora { sha256: found, bytes, weight: lora.weight }, done.adapter)),
    }
}

/// Whether a file begins as an archive or a pickle does: torch writes both.
fn begins_as_pickle(path: &Path) -> bool {
    let mut head = [0; 2];
    let read = open_regular(path).ok().and_then(|mut file| file.read_exact(&mut head).ok());
    read.is_some() && (head == *b"PK" || head[0] == 0x80)
}

/// The tensors that have come, by layer.
struct Pairs<'a> {
    path: &'a Path,
    renaming: &'a Renaming,
    layers: BTreeMap<String, Pair>,
    unknown: Vec<String>,
}

/// Of one layer, each with its name in the file.
#[derive(Default)]
struct Pair {
    down: Option<(String, Tensor)>,
    up: Option<(String, Tensor)>,
    alpha: Option<(String, Tensor)>,
}

impl Pairs<'_> {
    fn refuse(&self, source: LoraError) -> Error {
        Error::Lora { path: self.path.to_owned(), source }
    }

    fn take(&mut self, key: String, tensor: Tensor) -> Result<()> {
        let parsed = parse(&key, self.renaming).map_err(|source| self.refuse(source))?;
        let Some((layer, kind)) = parsed else {
            self.unknown.push(key);
            return Ok(());
        };
        if !is_finite(&tensor)? {
            return Err(self.refuse(LoraError::NotFinite { key }));
        }
        if kind == Kind::Alpha && tensor.elem_count() != 1 {
            let shape = tensor.dims().to_vec();
            return Err(self.refuse(LoraError::Alpha { key, shape }));
        }
        let pair = self.layers.entry(layer).or_default();
        let part = match kind {
            Kind::Down => &mut pair.down,
            Kind::Up => &mut pair.up,
            Kind::Alpha => &mut pair.alpha,
        };
        match part.replace((key.clone(), tensor)) {
            Some((first, _)) => Err(self.refuse(LoraError::Duplicate { first, second: key })),
            None => Ok(()),
        }
    }

    fn finish(mut self, weight: f64, alphas: Option<&Alphas>) -> Result<Updates> {
        if !self.unknown.is_empty() {
            self.unknown.sort_unstable();
            let keys = std::mem::take(&mut self.unknown);
            return Err(self.refuse(LoraError::UnknownKeys { keys }));
        }
        let mut updates = Updates::new();
        for (layer, pair) in std::mem::take(&mut self.layers) {
            let (down, up, scale) = self.judged(&layer, pair, alphas)?;
            // A publisher's layer may be several of diffusers', whose rows stand one above the other.
            for (name, up) in self.renaming.rename(format!("{layer}.weight"), up)? {
                let name = name.strip_suffix(".weight").unwrap_or(&name);
                for (name, up) in of_each(name, up)? {
                    let scale = weight * scale;
                    let update = Update { layer: layer.clone(), down: down.clone(), up, scale };
                    if let Some(before) = updates.insert(name, update) {
                        let (first, second) = (before.layer, layer);
                        return Err(self.refuse(LoraError::Duplicate { first, second }));
                    }
                }
            }
        }
        if updates.is_empty() {
            return Err(self.refuse(LoraError::Empty));
        }
        Ok(updates)
    }

    /// A, B, and alpha / rank.
    fn judged(
        &self,
        layer: &str,
        pair: Pair,
        alphas: Option<&Alphas>,
    ) -> Result<(Tensor, Tensor, f64)> {
        let lacks =
            |missing| self.refuse(LoraError::Incomplete { layer: layer.to_owned(), missing });
        let (_, down) = pair.down.ok_or_else(|| lacks("half that reads (lora_A, lora_down)"))?;
        let (_, up) = pair.up.ok_or_else(|| lacks("half that writes (lora_B, lora_up)"))?;
        let rank = match (down.dims(), up.dims()) {
            (&[rank, _], &[_, of_up]) if rank == of_up => rank as f64,
            (of_down, of_up) => {
                let (down, up) = (of_down.to_vec(), of_up.to_vec());
                return Err(self.refuse(LoraError::Rank { layer: layer.to_owned(), down, up }));
            }
        };
        let alpha = match (pair.alpha, alphas) {
            (Some((key, _)), Some(_)) => {
                let what = format!("they tell alphas, and so does {key:?}");
                return Err(self.refuse(LoraError::Metadata { what }));
            }
            (Some((_, alpha)), None) => f64::from(alpha.flatten_all()?.to_vec1::<f32>()?[0]),
            (None, Some(alphas)) => alphas.of(layer),
            // As diffusers has it.
            (None, None) => rank,
        };
        Ok((down, up, alpha / rank))
    }
}

/// A layer, or the three that it is the queries, keys and values of; with the rows of each.
fn of_each(layer: &str, up: Tensor) -> Result<Vec<(String, Tensor)>> {
    let rows = up.dim(0)?;
    match unfused(layer) {
        // What cannot be divided fits no layer of a model, and is refused as it is merged.
        Some(parts) if rows.is_multiple_of(parts.len()) => {
            let each = rows / parts.len();
            let cut = parts.into_iter().enumerate();
            cut.map(|(i, part)| Ok((part, up.narrow(0, i * each, each)?))).collect()
        }
        _ => Ok(vec![(layer.to_owned(), up)]),
    }
}
