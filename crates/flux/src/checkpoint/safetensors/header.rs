//! What a header may say: each tensor's dtype, shape and place, within bounds, and nothing between them.

use std::{borrow::Cow, collections::HashSet, fmt, path::Path};

use candle_core::DType;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::{Error, Result};

/// Tensors of one file: FLUX's largest has 780.
const MAX_TENSORS: usize = 65_536;

/// A tensor's name: FLUX's longest has 69.
const MAX_NAME_BYTES: usize = 256;

/// Axes of a tensor: convolutions have four.
const MAX_RANK: usize = 8;

/// FLUX's largest tensor, T5's embedding in f32, has 0.5 GB; that of a text encoder with 131,072 tokens
/// has 2.7.
pub(super) const MAX_TENSOR_BYTES: u64 = 4 << 30;

/// The tensors of a header, each name once, in its order, and where their bytes begin.
pub(super) struct Header {
    pub(super) entries: Vec<(String, HeaderEntry)>,
    /// Where the tensors' bytes begin.
    pub(super) data_start: u64,
    pub(super) adapter: Option<String>,
}

/// One tensor of the header.
#[derive(Deserialize)]
pub(super) struct HeaderEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// One tensor, in the order of the file.
pub(super) struct Planned {
    pub(super) name: String,
    /// `None`: it is ignored.
    pub(super) dtype: Option<DType>,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: usize,
}

/// Orders the tensors by offset and checks that they fill the file without gap or overlap.
pub(super) fn plan(
    path: &Path,
    header: Header,
    file_bytes: u64,
    is_ignored: &dyn Fn(&str) -> bool,
) -> Result<Vec<Planned>> {
    let mut entries = header.entries;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut end = 0;
    let mut planned = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let dtype = match entry.dtype.as_str() {
            _ if is_ignored(&name) => None,
            "F32" => Some(DType::F32),
            "F16" => Some(DType::F16),
            "BF16" => Some(DType::BF16),
            _ => {
                let (path, dtype) = (path.to_owned(), entry.dtype);
                return Err(Error::TensorDtype { path, name, dtype });
            }
        };
        // A tensor without elements has no bytes whatever its other axes say, and no part asks for one.
        let is_shape = entry.shape.len() <= MAX_RANK && !entry.shape.contains(&0);
        let [from, to] = entry.data_offsets;
        let bytes = match dtype {
            Some(dtype) => is_shape.then_some(dtype.size_in_bytes() as u64).and_then(|element| {
                entry.shape.iter().try_fold(element, |size, &dim| size.checked_mul(dim as u64))
            }),
            None => to.checked_sub(from),
        };
        if from != end || to.checked_sub(from) != bytes || bytes.is_none() {
            return Err(Error::TensorOffsets { path: path.to_owned(), name });
        }
        if to - from > MAX_TENSOR_BYTES {
            let (path, limit_bytes) = (path.to_owned(), MAX_TENSOR_BYTES);
            return Err(Error::TensorLength { path, name, bytes: to - from, limit_bytes });
        }
        end = to;
        let bytes = (to - from) as usize;
        planned.push(Planned { name, dtype, shape: entry.shape, bytes });
    }
    let expected_bytes = header.data_start.saturating_add(end);
    if expected_bytes != file_bytes {
        let path = path.to_owned();
        return Err(Error::FileLength { path, expected_bytes, found_bytes: file_bytes });
    }
    Ok(planned)
}

/// The tensors of a header, each name once, in its order.
pub(super) struct Entries {
    pub(super) entries: Vec<(String, HeaderEntry)>,
    pub(super) adapter: Option<String>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let (mut entries, mut names, mut adapter) = (Vec::new(), HashSet::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                adapter = map.next_value::<Metadata>()?.adapter;
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(A::Error::custom(format_args!(
                    "a tensor's name has more than {MAX_NAME_BYTES} bytes"
                )));
            }
            if entries.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("more than {MAX_TENSORS} tensors")));
            }
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("tensor {name:?} is there twice")));
            }
            entries.push((name, map.next_value()?));
        }
        Ok(Entries { entries, adapter })
    }
}

/// `__metadata__`: texts by name, of which one matters.
struct Metadata {
    adapter: Option<String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut adapter = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            // As diffusers writes it: v0.42.1, loaders/lora_base.py, LORA_ADAPTER_METADATA_KEY.
            if name != "lora_adapter_metadata" {
                map.next_value::<IgnoredAny>()?;
            } else if adapter.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("its metadata describe an adapter twice"));
            }
        }
        Ok(Metadata { adapter })
    }
}
