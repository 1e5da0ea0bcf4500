//! Input images: files of this machine, read within bounds before a model or a node is asked anything.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use engine::{InputFile, InputImage};
use protocol::{
    InputReference, InvalidInputImage, MAX_INPUT_FILES_BYTES, MAX_INPUT_IMAGES, SecretBytes,
};
use sha2::{Digest, Sha256};

/// The files of `--image`, scanned.
pub(super) struct Inputs(Vec<Input>);

struct Input {
    path: PathBuf,
    file: InputFile,
}

impl Inputs {
    pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        ensure!(
            paths.len() <= MAX_INPUT_IMAGES,
            "--image: {} images, at most {MAX_INPUT_IMAGES} are read",
            paths.len()
        );
        let mut room = MAX_INPUT_FILES_BYTES;
        let read = |path: &PathBuf| {
            let bytes = bytes(path, room).with_context(|| shown(path))?;
            room -= bytes.len();
            let file = InputFile::scan(bytes).map_err(|reason| named(path, reason))?;
            Ok(Input { path: path.clone(), file })
        };
        paths.iter().map(read).collect::<anyhow::Result<_>>().map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Width and height of the first, as it is read.
    pub(super) fn first_px(&self) -> Option<[u32; 2]> {
        self.0.first().map(|input| input.file.read_px())
    }

    /// Their pixels, and whether some of them were transparent.
    pub(super) fn decode(self) -> anyhow::Result<(Vec<InputImage>, bool)> {
        let mut was_transparent = false;
        let decode = |Input { path, file }| {
            let decoded = file.decode().map_err(|reason| named(&path, reason))?;
            was_transparent |= decoded.was_transparent;
            Ok(decoded.image)
        };
        let images = self.0.into_iter().map(decode).collect::<anyhow::Result<_>>()?;
        Ok((images, was_transparent))
    }

    /// SHA-256 of each file, in their order.
    pub(super) fn digests(&self) -> Vec<[u8; 32]> {
        self.0.iter().map(|input| Sha256::digest(input.file.bytes()).into()).collect()
    }

    /// The same files, as they go to a node. None where there are none, which makes no edit.
    pub(super) fn references(&self) -> Option<Vec<InputReference>> {
        let reference = |input: &Input| InputReference::file(input.file.bytes().to_vec().into());
        (!self.0.is_empty()).then(|| self.0.iter().map(reference).collect())
    }
}

/// All of a file, which is a regular one of at most so many bytes.
fn bytes(path: &Path, max_bytes: usize) -> anyhow::Result<SecretBytes> {
    // Not opened unless it is one: a pipe would be waited for.
    let metadata = path.metadata().context("cannot be read")?;
    ensure!(metadata.is_file(), "is no regular file");
    let too_long = || format!("all images together have more than {MAX_INPUT_FILES_BYTES} bytes");
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    ensure!(length <= max_bytes, too_long());
    let file = File::open(path).context("cannot be read")?;
    // With room for one more, so that a file that grows is noticed and the buffer does not move.
    let mut bytes = SecretBytes::with_capacity(length + 1);
    file.take(length as u64 + 1).read_to_end(&mut bytes).context("cannot be read")?;
    ensure!(bytes.len() <= max_bytes, too_long());
    Ok(bytes)
}

fn shown(path: &Path) -> String {
    format!("--image {}", path.display())
}

fn named(path: &Path, reason: InvalidInputImage) -> anyhow::Error {
    anyhow::anyhow!("{} {reason}", shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_named() {
        let refused = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            format!("{:#}", Inputs::read(&paths).err().expect("must be refused"))
        };
        let text = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
        assert!(refused(&[&text]).ends_with("Cargo.toml is neither PNG, JPEG nor WebP"));
        assert!(refused(&["/dev/zero"]).contains("is no regular file"));
        assert!(refused(&[env!("CARGO_MANIFEST_DIR")]).contains("is no regular file"));
        assert!(refused(&["/no/such/file"]).contains("cannot be read"));
        assert!(refused(&["a"; 5]).contains("5 images, at most 4"));
        assert_eq!(Inputs::read(&[]).unwrap().len(), 0);
    }
}
