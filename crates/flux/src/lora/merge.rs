//! Merges LoRAs into weights.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf};

use candle_core::{DType, Tensor};

use super::{
    Lora, LoraError,
    file::{self, Update},
    is_finite,
};
use crate::{
    Error, ManifestLora, Result,
    checkpoint::renaming::{IMAGE_QKV, Renaming, TEXT_QKV, unfused},
};

/// LoRAs that one model is merged with at most.
const MOST: usize = 16;

/// All LoRAs of a model, until its weights have come.
pub(crate) struct Adapters {
    /// By layer in diffusers' layout, each with its file, in the order of the files.
    updates: RefCell<BTreeMap<String, Vec<(PathBuf, Update)>>>,
    files: Vec<ManifestLora>,
    /// Of the updates.
    bytes: u64,
    /// What merging the largest layer takes besides.
    merging_bytes: u64,
}

impl Adapters {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one is not there, no LoRA, or one for another kind of model.
    pub(crate) fn read(loras: &[Lora], renaming: &Renaming) -> Result<Self> {
        let mut adapters =
            Self { updates: RefCell::default(), files: Vec::new(), bytes: 0, merging_bytes: 0 };
        for (number, lora) in loras.iter().enumerate() {
            if number == MOST {
                let (path, source) = (lora.file.clone(), LoraError::TooMany { limit: MOST });
                return Err(Error::Lora { path, source });
            }
            let (updates, entry) = file::read(lora, renaming)?;
            adapters.files.push(entry);
            for (layer, update) in updates {
                adapters.count(&layer, &update);
                let mut all = adapters.updates.borrow_mut();
                all.entry(layer).or_default().push((lora.file.clone(), update));
            }
        }
        Ok(adapters)
    }

    /// What a manifest says of them.
    pub(crate) fn files(&self) -> &[ManifestLora] {
        &self.files
    }

    /// What they take in the host's memory while weights are read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is taken besides where weights are merged.
    pub(crate) fn merging_bytes(&self) -> u64 {
        self.merging_bytes
    }

    fn count(&mut self, layer: &str, Update { up, down, .. }: &Update) {
        const VALUE_BYTES: u64 = size_of::<f32>() as u64;
        let values = |tensor: &Tensor| tensor.elem_count() as u64;
        self.bytes += VALUE_BYTES * (values(up) + values(down));
        // The three parts of a fused weight are merged at once.
        let parts = [IMAGE_QKV, TEXT_QKV].map(|qkv| qkv.parts).concat();
        let is_qkv = layer.rsplit('.').next().is_some_and(|last| parts.contains(&last));
        let rows = up.dims()[0] as u64 * if is_qkv { 3 } else { 1 };
        // The weight, what is added to it, and the sum.
        let merging = 3 * VALUE_BYTES * rows.saturating_mul(down.dims()[1] as u64);
        self.merging_bytes = self.merging_bytes.max(merging);
    }

    /// A tensor of the transformer, by its name in diffusers' layout, with what updates it; in f32 where anything
    /// does, as it is otherwise.
    ///
    /// # Errors
    /// Where an update does not fit, or leads to values that are no numbers.
    pub(crate) fn merge(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let Some(layer) = name.strip_suffix(".weight") else { return Ok(tensor) };
        let parts = match unfused(layer) {
            Some(parts) => parts.to_vec(),
            None => vec![layer.to_owned()],
        };
        let mut all = self.updates.borrow_mut();
        // What was merged is forgotten; what is left in the end has met no layer.
        let updates = parts.iter().map(|part| all.remove(part).unwrap_or_default());
        let updates: Vec<Vec<(PathBuf, Update)>> = updates.collect();
        if updates.iter().all(Vec::is_empty) {
            return Ok(tensor);
        }
        let tensor = tensor.to_dtype(DType::F32)?;
        let rows = tensor.dims().first().map_or(0, |rows| rows / parts.len());
        let merged = updates.iter().enumerate().map(|(i, updates)| {
            // (out, in) or, of three parts, (out/3, in)
            let mut part = tensor.narrow(0, i * rows, rows)?;
            for (path, update) in updates {
                let refuse = |source| Error::Lora { path: path.clone(), source };
                part = update.onto(&part)?.map_err(refuse)?;
            }
            Ok(part)
        });
        let merged = merged.collect::<Result<Vec<_>>>()?;
        match &merged[..] {
            [whole] => Ok(whole.clone()),
            parts => Ok(Tensor::cat(parts, 0)?),
        }
    }

    /// Refuses what has met no layer, once all of them have come.
    pub(crate) fn check_all_merged(&self) -> Result<()> {
        let left = self.updates.borrow();
        let Some((path, _)) = left.values().flatten().next() else { return Ok(()) };
        let of_file = |updates: &&Vec<(PathBuf, Update)>| updates.iter().any(|(of, _)| of == path);
        let layers = left.iter().filter(|(_, updates)| of_file(updates));
        let layers = layers.map(|(layer, _)| layer.clone()).collect();
        Err(Error::Lora { path: path.clone(), source: LoraError::OtherModel { layers } })
    }
}

impl Update {
    /// weight (out, in), f32 → the same + scale · B·A, where the weight is.
    fn onto(&self, weight: &Tensor) -> Result<Result<Tensor, LoraError>> {
        let shape = [self.up.dims()[0], self.down.dims()[1]];
        if weight.dims() != shape {
            let (layer, expected) = (self.layer.clone(), weight.dims().to_vec());
            return Ok(Err(LoraError::Shape { layer, expected, found: shape.to_vec() }));
        }
        let [up, down] = [&self.up, &self.down].map(|half| half.to_device(weight.device()));
        let difference = up?.contiguous()?.matmul(&down?)?.affine(self.scale, 0.0)?;
        let merged = (weight + difference)?;
        if !is_finite(&merged)? {
            return Ok(Err(LoraError::NotFinite { key: self.layer.clone() }));
        }
        Ok(Ok(merged))
    }
}
