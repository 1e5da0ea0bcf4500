//! Reads one `.safetensors` file front to back: every byte is hashed, every tensor handed on.
//!
//! Format: header length (u64, little-endian), header (JSON: name → dtype, shape, offsets), then the
//! tensors' bytes without gaps. The header is bounded before it is believed, and the offsets must
//! tile the rest of the file exactly, so nothing in it escapes hash or model. A sparse file holds
//! nothing and may claim any length, so what a tensor may ask for is bounded as well.
//!
//! Files are read, not mapped: a mapped file can change between hash and use, and the disk belongs
//! to whoever runs the machine.

mod header;

use std::{
    io::{self, Read},
    path::Path,
    thread,
};

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};

use self::header::{Entries, Header, Planned, plan};
use super::digest::{BLOCK_BYTES, Digester};
use crate::{Error, Result};

/// FLUX's longest header has 0.2 MB.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Reads a whole file of `file_bytes` bytes, giving each tensor to `sink` on the CPU, in its own
/// dtype, and returns what is known then. Those that are ignored are hashed like all others, and may be
/// of any type and shape.
///
/// # Errors
/// Where the file is not exactly what its header describes, or where `sink` refuses.
pub(crate) fn read(
    path: &Path,
    mut file: impl Read,
    file_bytes: u64,
    is_ignored: &dyn Fn(&str) -> bool,
    sink: &mut dyn FnMut(String, Tensor) -> Result<()>,
) -> Result<Done> {
    thread::scope(|scope| {
        let mut source =
            Source { path, file: &mut file, digester: Digester::start(scope, file_bytes) };
        let header = read_header(path, file_bytes, &mut |bytes| source.take(bytes))?;
        let adapter = header.adapter.clone();
        for entry in plan(path, header, file_bytes, is_ignored)? {
            let tensor = match entry.dtype {
                Some(DType::F32) => source.tensor(&entry, f32::from_le_bytes)?,
                Some(DType::F16) => source.tensor(&entry, f16::from_le_bytes)?,
                Some(_) => source.tensor(&entry, bf16::from_le_bytes)?,
                None => {
                    source.blocks(entry.bytes, |_| ())?;
                    continue;
                }
            };
            sink(entry.name, tensor)?;
        }
        Ok(Done { sha256: source.digester.finish(), adapter })
    })
}

/// How many values the tensors of a file have that are not ignored: from its header, which is all that is read. Whoever
/// reads the file meets the header again, and hashes it then.
///
/// # Errors
/// As [`read`], as far as the header tells.
pub(crate) fn count_values(
    path: &Path,
    mut file: impl Read,
    file_bytes: u64,
    is_ignored: &dyn Fn(&str) -> bool,
) -> Result<u64> {
    let mut take = |bytes| {
        let mut all = room(path, bytes)?;
        all.resize(bytes, 0);
        file.read_exact(&mut all)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(all)
    };
    let header = read_header(path, file_bytes, &mut take)?;
    let planned = plan(path, header, file_bytes, is_ignored)?;
    let values = |entry: &Planned| Some((entry.bytes / entry.dtype?.size_in_bytes()) as u64);
    Ok(planned.iter().filter_map(values).sum())
}

/// What is known of a file that was read to its end.
pub(crate) struct Done {
    /// Of all bytes.
    pub(crate) sha256: [u8; 32],
    /// What a LoRA's metadata say of how it was trained, as JSON.
    pub(crate) adapter: Option<String>,
}

/// From the beginning of a file, of which `take` gives the next so many bytes.
fn read_header(
    path: &Path,
    file_bytes: u64,
    take: &mut dyn FnMut(usize) -> Result<Vec<u8>>,
) -> Result<Header> {
    if file_bytes < 8 {
        let path = path.to_owned();
        return Err(Error::FileLength { path, expected_bytes: 8, found_bytes: file_bytes });
    }
    let mut length = [0; 8];
    length.copy_from_slice(&take(8)?);
    let header_bytes = u64::from_le_bytes(length);
    let limit_bytes = MAX_HEADER_BYTES.min(file_bytes - 8);
    if header_bytes > limit_bytes {
        return Err(Error::HeaderLength { path: path.to_owned(), header_bytes, limit_bytes });
    }
    let json = take(header_bytes as usize)?;
    let Entries { entries, adapter } = serde_json::from_slice(&json)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    Ok(Header { entries, data_start: 8 + header_bytes, adapter })
}

/// A file whose bytes are hashed as they pass.
struct Source<'a, 'scope> {
    path: &'a Path,
    file: &'a mut dyn Read,
    digester: Digester<'scope>,
}

impl Source<'_, '_> {
    /// The next `bytes` bytes; the caller has checked that the file claims to have as many.
    fn take(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut all = room(self.path, bytes)?;
        self.blocks(bytes, |block| all.extend_from_slice(block))?;
        Ok(all)
    }

    /// The next tensor, block by block, so that its bytes never stand beside its elements.
    fn tensor<T: WithDType, const SIZE: usize>(
        &mut self,
        entry: &Planned,
        decode: impl Fn([u8; SIZE]) -> T,
    ) -> Result<Tensor> {
        let mut elements = room(self.path, entry.bytes / SIZE)?;
        self.blocks(entry.bytes, |block| {
            elements.extend(block.as_chunks().0.iter().map(|&bytes| decode(bytes)));
        })?;
        Ok(Tensor::from_vec(elements, entry.shape.as_slice(), &Device::Cpu)?)
    }

    fn blocks(&mut self, bytes: usize, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let length = left.min(BLOCK_BYTES);
            let block = self
                .digester
                .next(length, |block| self.file.read_exact(block))
                .map_err(|source| Error::Read { path: self.path.to_owned(), source })?;
            each(&block);
            left -= length;
        }
        Ok(())
    }
}

/// Room for so many, or an error where the machine has none; running out would end the process.
fn room<T>(path: &Path, elements: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(elements).map_err(|_| Error::Read {
        path: path.to_owned(),
        source: io::ErrorKind::OutOfMemory.into(),
    })?;
    Ok(room)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::{header::MAX_TENSOR_BYTES, *};

    fn bytes_of(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    type Tensors = Vec<(String, Tensor)>;

    fn read_bytes(bytes: &[u8]) -> Result<(Tensors, [u8; 32])> {
        let mut tensors = Vec::new();
        let done = read(
            Path::new("x.safetensors"),
            bytes,
            bytes.len() as u64,
            &|name| name.starts_with("ignored."),
            &mut |n, t| {
                tensors.push((n, t));
                Ok(())
            },
        )?;
        Ok((tensors, done.sha256))
    }

    const TWO: &str = r#"{"__metadata__":{"format":"pt"},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},
        "a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}"#;

    #[test]
    fn reads_and_hashes_every_byte() {
        let bytes = bytes_of(TWO, &[0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40]);
        let (tensors, digest) = read_bytes(&bytes).unwrap();
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(tensors[0].0, "a");
        assert_eq!(tensors[0].1.dtype(), DType::BF16);
        assert_eq!(tensors[1].1.to_vec1::<f32>().unwrap(), [2.0, 3.0]);
    }

    /// Which are hashed beside.
    #[test]
    fn reads_and_hashes_files_of_many_blocks() {
        let data: Vec<u8> = (0..5 * BLOCK_BYTES + 4).map(|i| (i / 3) as u8).collect();
        let end = data.len();
        let header =
            format!(r#"{{"a":{{"dtype":"BF16","shape":[{}],"data_offsets":[0,{end}]}}}}"#, end / 2);
        let bytes = bytes_of(&header, &data);
        let (tensors, digest) = read_bytes(&bytes).unwrap();
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let last = tensors[0].1.to_vec1::<bf16>().unwrap().pop().unwrap();
        assert_eq!(last.to_le_bytes(), data[end - 2..]);
    }

    fn count(bytes: &[u8], file_bytes: u64) -> Result<u64> {
        let path = Path::new("x.safetensors");
        count_values(path, bytes, file_bytes, &|name| name.starts_with("ignored."))
    }

    #[test]
    fn values_are_counted_by_their_types_from_the_header_alone() {
        // One value of two bytes, two of four.
        let header = bytes_of(TWO, &[]);
        assert_eq!(count(&header, header.len() as u64 + 10).unwrap(), 3);
        let header = bytes_of(&TWO.replace(r#""b""#, r#""ignored.b""#), &[]);
        assert_eq!(count(&header, header.len() as u64 + 10).unwrap(), 1);
    }

    #[test]
    fn what_would_not_be_read_is_not_counted_either() {
        let bytes = bytes_of(TWO, &[0; 10]);
        for length in [0, 7, 8, 40, bytes.len() as u64 - 1, bytes.len() as u64 + 1] {
            let error = count(&bytes, length).unwrap_err();
            let named = matches!(error, Error::FileLength { .. } | Error::HeaderLength { .. });
            assert!(named, "{length}: {error}");
        }
        // The file ends before the length that it had.
        let error = count(&bytes[..40], bytes.len() as u64).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        let other = bytes_of(&TWO.replace("BF16", "I16"), &[0; 10]);
        let error = count(&other, other.len() as u64).unwrap_err();
        assert!(matches!(error, Error::TensorDtype { .. }), "{error}");
    }

    #[test]
    fn refuses_truncated_files() {
        let bytes = bytes_of(TWO, &[0; 10]);
        for length in [0, 7, 8, 40, bytes.len() - 1] {
            let error = read_bytes(&bytes[..length]).unwrap_err();
            let named = matches!(error, Error::FileLength { .. } | Error::HeaderLength { .. });
            assert!(named, "{length}: {error}");
        }
        let longer = [bytes, vec![0]].concat();
        assert!(matches!(read_bytes(&longer), Err(Error::FileLength { .. })));
    }

    #[test]
    fn does_not_believe_an_absurd_header_length() {
        let mut bytes = bytes_of("{}", &[]);
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = read_bytes(&bytes).unwrap_err();
        assert!(matches!(
            error,
            Error::HeaderLength { header_bytes: u64::MAX, limit_bytes: 2, .. }
        ));
    }

    #[test]
    fn refuses_offsets_that_do_not_tile_the_file() {
        let entry = |shape: &str, from: u64, to: u64| {
            format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
        };
        let headers = [
            format!(r#"{{"a":{}}}"#, entry("[2]", 4, 12)), // gap
            format!(r#"{{"a":{},"b":{}}}"#, entry("[2]", 0, 8), entry("[2]", 4, 12)), // overlap
            format!(r#"{{"a":{}}}"#, entry("[3]", 0, 8)),  // shape and length differ
            format!(r#"{{"a":{}}}"#, entry("[2]", 8, 0)),  // backwards
            format!(r#"{{"a":{}}}"#, entry("[4611686018427387905]", 0, 4)), // overflow
            format!(r#"{{"a":{}}}"#, entry("[0,4294967296,4294967296]", 0, 0)), // of no bytes
            format!(r#"{{"a":{}}}"#, entry("[1,1,1,1,1,1,1,1,3]", 0, 12)), // nine axes
        ];
        for header in headers {
            let error = read_bytes(&bytes_of(&header, &[0; 12])).unwrap_err();
            assert!(matches!(error, Error::TensorOffsets { .. }), "{header}: {error}");
        }
    }

    #[test]
    fn refuses_dtypes_that_no_part_uses() {
        let header = r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#;
        let error = read_bytes(&bytes_of(header, &[0; 8])).unwrap_err();
        assert!(matches!(error, Error::TensorDtype { dtype, .. } if dtype == "I64"));
    }

    #[test]
    fn what_is_ignored_may_be_anything_that_has_its_bytes() {
        let header = r#"{"ignored.a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},
            "ignored.b":{"dtype":"BOOL","shape":[0],"data_offsets":[8,9]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[9,11]}}"#;
        let bytes = bytes_of(header, &[0; 11]);
        let (tensors, digest) = read_bytes(&bytes).unwrap();
        assert_eq!(tensors.len(), 1);
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&bytes)));
        let beyond = header.replace("[8,9]", "[8,7]");
        assert!(read_bytes(&bytes_of(&beyond, &[0; 11])).is_err());
    }

    #[test]
    fn refuses_names_that_are_there_twice() {
        let entry = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        for second in ["a", r"\u0061"] {
            let header = format!(r#"{{"a":{entry},"{second}":{}}}"#, entry.replace("0,4", "4,8"));
            let error = read_bytes(&bytes_of(&header, &[0; 8])).unwrap_err();
            let Error::Json { source, .. } = &error else { panic!("{error}") };
            assert!(source.to_string().contains(r#"tensor "a" is there twice"#), "{source}");
        }
    }

    #[test]
    fn an_absurd_tensor_is_refused_before_there_is_room_for_it() {
        let bytes = MAX_TENSOR_BYTES + 4;
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{bytes}]}}}}"#,
            bytes / 4
        );
        let file = bytes_of(&header, &[]);
        // As a sparse file has it: the length is there, the bytes are not.
        let claimed = file.len() as u64 + bytes;
        let error =
            read(Path::new("x"), &*file, claimed, &|_| false, &mut |_, _| Ok(())).err().unwrap();
        assert!(matches!(&error, Error::TensorLength { name, .. } if name == "a"), "{error}");
    }
}
