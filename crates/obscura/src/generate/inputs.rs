//! Input images: files of this machine, read within bounds before a model or a node is asked anything.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use engine::{InputFile, InputImage};
use protocol::{
    InputReference, InvalidMask, MAX_INPUT_FILES_BYTES, MAX_INPUT_IMAGES, SecretBytes, Size,
};
use sha2::{Digest, Sha256};

/// The files of `--image` and `--mask`, scanned.
pub(super) struct Inputs {
    images: Vec<Input>,
    /// The first one's; none where there are no images.
    mask: Option<Input>,
}

struct Input {
    path: PathBuf,
    file: InputFile,
}

impl Inputs {
    pub(super) fn read(paths: &[PathBuf], mask: Option<&Path>) -> anyhow::Result<Self> {
        ensure!(
            paths.len() <= MAX_INPUT_IMAGES,
            "--image: {} images, at most {MAX_INPUT_IMAGES} are read",
            paths.len()
        );
        let mut room = MAX_INPUT_FILES_BYTES;
        let mut read = |flag: &str, path: &Path| {
            let bytes = bytes(path, room).with_context(|| shown(flag, path))?;
            room -= bytes.len();
            let file = InputFile::scan(bytes).map_err(|reason| named(flag, path, reason))?;
            Ok(Input { path: path.to_owned(), file })
        };
        let images =
            paths.iter().map(|path| read(IMAGE, path)).collect::<anyhow::Result<Vec<_>>>()?;
        let mask = mask.map(|path| read(MASK, path)).transpose()?;
        if let (Some(mask), Some(first)) = (&mask, images.first()) {
            let masks = mask.file.check_masks(&first.file);
            masks.map_err(|reason| named(MASK, &mask.path, reason))?;
        }
        Ok(Self { images, mask })
    }

    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    /// Width and height of the first, as it is read.
    pub(super) fn first_px(&self) -> Option<[u32; 2]> {
        self.images.first().map(|input| input.file.read_px())
    }

    /// The only size that can be drawn under a mask.
    pub(super) fn masked_size(&self) -> anyhow::Result<Option<Size>> {
        let first = self.mask.as_ref().and(self.first_px());
        let size = first.map(|[width_px, height_px]| Size::new(width_px, height_px));
        size.transpose().context("the first image")
    }

    /// Their pixels, and whether some of them were transparent.
    pub(super) fn decode(self) -> anyhow::Result<(Vec<InputImage>, bool)> {
        let mut was_transparent = false;
        let mask = self.mask.map(|Input { path, file }| {
            file.decode_mask().map_err(|reason| named(MASK, &path, reason))
        });
        let mut mask = mask.transpose()?;
        let decode = |Input { path, file }: Input| {
            let decoded = file.decode().map_err(|reason| named(IMAGE, &path, reason))?;
            was_transparent |= decoded.was_transparent;
            match mask.take() {
                None => Ok(decoded.image),
                Some(mask) => Ok(decoded.image.masked(mask)?),
            }
        };
        let images = self.images.into_iter().map(decode).collect::<anyhow::Result<_>>()?;
        Ok((images, was_transparent))
    }

    /// SHA-256 of each file, in their order.
    pub(super) fn digests(&self) -> Vec<[u8; 32]> {
        self.images.iter().map(digest).collect()
    }

    /// SHA-256 of the mask's file.
    pub(super) fn mask_digest(&self) -> Option<[u8; 32]> {
        self.mask.as_ref().map(digest)
    }

    /// The same files, as they go to a node. None where there are none, which makes no edit.
    pub(super) fn references(&self) -> Option<Vec<InputReference>> {
        (!self.images.is_empty()).then(|| self.images.iter().map(reference).collect())
    }

    /// The mask, as it goes to a node.
    pub(super) fn mask_reference(&self) -> Option<InputReference> {
        self.mask.as_ref().map(reference)
    }
}

const IMAGE: &str = "--image";
const MASK: &str = "--mask";

fn digest(input: &Input) -> [u8; 32] {
    Sha256::digest(input.file.bytes()).into()
}

fn reference(input: &Input) -> InputReference {
    InputReference::file(input.file.bytes().to_vec().into())
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

fn shown(flag: &str, path: &Path) -> String {
    format!("{flag} {}", path.display())
}

fn named(flag: &str, path: &Path, reason: impl Into<InvalidMask>) -> anyhow::Error {
    anyhow::anyhow!("{} {}", shown(flag, path), reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_named() {
        let refused = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            format!("{:#}", Inputs::read(&paths, None).err().expect("must be refused"))
        };
        let text = env!("CARGO_MANIFEST_DIR").to_owned() + "/Cargo.toml";
        assert!(refused(&[&text]).ends_with("Cargo.toml is neither PNG, JPEG nor WebP"));
        assert!(refused(&["/dev/zero"]).contains("is no regular file"));
        assert!(refused(&[env!("CARGO_MANIFEST_DIR")]).contains("is no regular file"));
        assert!(refused(&["/no/such/file"]).contains("cannot be read"));
        assert!(refused(&["a"; 5]).contains("5 images, at most 4"));
        assert_eq!(Inputs::read(&[], None).unwrap().len(), 0);
    }
}
