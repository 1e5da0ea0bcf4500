//! Opens a commitment by its prompt, its input images, and what came with the image.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use base64_simd::STANDARD;
use engine::{InputFile, InputImage};
use protocol::{
    ImageProvenance, InvalidMask, MAX_INPUT_FILES_BYTES, MAX_INPUT_IMAGES, Prompt, Size,
};
use provenance::{Drawing, ProvenanceError, Salt};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest file of an `ImageProvenance`.
const MAX_BYTES: usize = 64 * 1024;
/// The longest prompt that any node takes, in bytes, and as characters.
const MAX_PROMPT_BYTES: usize = 128 * 1024;
const MAX_PROMPT_CHARS: usize = 32_000;

/// Everything that an image was drawn from, but the model.
pub(crate) struct Disclosure {
    told: ImageProvenance,
    /// As it was drawn.
    pub(crate) prompt: Prompt,
    pub(crate) size: Size,
    salt: Salt,
    inputs: Vec<Input>,
    mask: Option<Input>,
}

/// A file of `--input-image` or `--input-mask`.
struct Input {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
    digest: [u8; 32],
}

/// What is said where a commitment opens.
pub(crate) const OPENED: &str =
    "prompt, input images, seed, size and steps are those that were committed to";

/// Why a commitment does not open.
#[derive(Debug, Error)]
pub(crate) enum Mismatch {
    #[error("it was drawn from {told} input images, and --input-image names {named}")]
    Count { told: usize, named: usize },
    #[error("it was drawn from the files of --input-image in another order")]
    Order,
    #[error("{} is not input image {number}: another file, or that image encoded again", path.display())]
    Input { path: PathBuf, number: usize },
    #[error("{}", match is_told {
        true => "it was drawn under a mask: --input-mask names it",
        false => "it was drawn under no mask, and --input-mask names one",
    })]
    MaskThere { is_told: bool },
    #[error("{} is not its mask: another file, or that mask encoded again", path.display())]
    Mask { path: PathBuf },
    #[error("something else was asked for, or the salt is another")]
    Asked,
}

impl Disclosure {
    /// Reads what came with an image, the prompt, and the files of input images and of a mask.
    pub(crate) fn read(
        told: &Path,
        prompt: &Path,
        (inputs, mask): (&[PathBuf], Option<&Path>),
    ) -> anyhow::Result<Self> {
        let shown = told.display();
        let json = bounded(told, MAX_BYTES)?;
        let told: ImageProvenance = serde_json::from_slice(&json)
            .ok()
            .with_context(|| format!("{shown} is no `provenance` of an answer"))?;
        let text = bounded(prompt, MAX_PROMPT_BYTES)?;
        let shown_prompt = prompt.display();
        let text = std::str::from_utf8(&text)
            .ok()
            .with_context(|| format!("{shown_prompt} is no UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let prompt = Prompt::with_limit(text.to_owned(), MAX_PROMPT_CHARS)
            .with_context(|| format!("the prompt in {shown_prompt}"))?;
        let prompt = match told.style.as_deref() {
            None => prompt,
            Some("vivid") => prompt.vivid(),
            Some(_) => anyhow::bail!("{shown}: `style` is none that is known"),
        };
        let size = told.size.parse().with_context(|| format!("{shown}: `size`"))?;
        let salt = Salt::from_hex(&told.salt).with_context(|| format!("{shown}: `salt`"))?;
        ensure!(
            inputs.len() <= MAX_INPUT_IMAGES,
            "--input-image: {} images, at most {MAX_INPUT_IMAGES} are read",
            inputs.len()
        );
        let read = |path: &Path| {
            let bytes = bounded(path, MAX_INPUT_FILES_BYTES)?;
            let digest = Sha256::digest(&*bytes).into();
            Ok(Input { path: path.to_owned(), bytes, digest })
        };
        let inputs = inputs.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?;
        let mask = mask.map(read).transpose()?;
        Ok(Self { told, prompt, size, salt, inputs, mask })
    }

    /// The pixels of the input images, the first with its mask.
    pub(crate) fn input_images(&self) -> anyhow::Result<Vec<InputImage>> {
        let mask = self.mask.as_ref().map(|input| {
            let file = InputFile::scan(input.bytes.to_vec().into()).map_err(InvalidMask::from);
            let shown = input.path.display();
            let decoded = file.and_then(InputFile::decode_mask);
            decoded.map_err(|reason| anyhow::anyhow!("--input-mask {shown} {reason}"))
        });
        let mut mask = mask.transpose()?;
        let mut decode = |input: &Input| {
            let decoded = InputFile::scan(input.bytes.to_vec().into()).and_then(InputFile::decode);
            let shown = input.path.display();
            let decoded =
                decoded.map_err(|reason| anyhow::anyhow!("--input-image {shown} {reason}"));
            let image = decoded?.image;
            match mask.take() {
                None => Ok(image),
                Some(mask) => Ok(image.masked(mask)?),
            }
        };
        self.inputs.iter().map(&mut decode).collect()
    }

    /// COSE, where there is any.
    pub(crate) fn receipt(&self) -> Result<Vec<u8>, ProvenanceError> {
        let text = self.told.receipt.as_deref().unwrap_or_default();
        let what = "the receipt";
        match text.len() {
            0 => Err(ProvenanceError::Malformed { what }),
            _ => STANDARD.decode_to_vec(text).map_err(|_| ProvenanceError::Malformed { what }),
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.told.seed
    }

    pub(crate) fn steps(&self) -> u64 {
        self.told.steps
    }

    pub(crate) fn guidance(&self) -> Option<f32> {
        self.told.guidance
    }

    /// Whether this is what was committed to.
    pub(crate) fn opens(&self, commitment: &[u8; 32]) -> Result<(), Mismatch> {
        self.check_inputs()?;
        let inputs: Vec<_> = self.inputs.iter().map(|input| input.digest).collect();
        let drawing = Drawing {
            prompt: self.prompt.expose(),
            seed: self.told.seed,
            width_px: self.size.width_px(),
            height_px: self.size.height_px(),
            steps: self.told.steps as usize,
            guidance: self.told.guidance,
            inputs: &inputs,
            mask: self.mask.as_ref().map(|mask| &mask.digest),
        };
        match drawing.commitment(&self.salt) == *commitment {
            true => Ok(()),
            false => Err(Mismatch::Asked),
        }
    }

    /// Holds the files against what came with the image, which tells what is wrong and is believed in nothing.
    fn check_inputs(&self) -> Result<(), Mismatch> {
        let (told, named) = (&self.told.images, &self.inputs);
        if told.len() != named.len() {
            return Err(Mismatch::Count { told: told.len(), named: named.len() });
        }
        let mask_told = self.told.mask.as_ref();
        if mask_told.is_some() != self.mask.is_some() {
            return Err(Mismatch::MaskThere { is_told: mask_told.is_some() });
        }
        if let Some(mask) = &self.mask
            && mask_told != Some(&hex::encode(mask.digest))
        {
            return Err(Mismatch::Mask { path: mask.path.clone() });
        }
        let digests: Vec<_> = named.iter().map(|input| hex::encode(input.digest)).collect();
        let Some(at) = told.iter().zip(&digests).position(|(told, here)| told != here) else {
            return Ok(());
        };
        let sorted = |digests: &[String]| {
            let mut digests = digests.to_vec();
            digests.sort();
            digests
        };
        if sorted(told) == sorted(&digests) {
            return Err(Mismatch::Order);
        }
        Err(Mismatch::Input { path: named[at].path.clone(), number: at + 1 })
    }
}

/// A file of at most so many bytes.
pub(crate) fn bounded(path: &Path, max_bytes: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let shown = path.display();
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(bytes.len() <= max_bytes, "{shown} is longer than {max_bytes} bytes");
    Ok(bytes)
}
