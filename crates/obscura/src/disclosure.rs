//! Opens a commitment by its prompt and by what came with the image.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, ensure};
use base64_simd::STANDARD;
use protocol::{ImageProvenance, Prompt, Size};
use provenance::{Drawing, ProvenanceError, Salt};
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
}

impl Disclosure {
    /// Reads what came with an image, and the prompt.
    pub(crate) fn read(told: &Path, prompt: &Path) -> anyhow::Result<Self> {
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
        Ok(Self { told, prompt, size, salt })
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
    pub(crate) fn opens(&self, commitment: &[u8; 32]) -> bool {
        let drawing = Drawing {
            prompt: self.prompt.expose(),
            seed: self.told.seed,
            width_px: self.size.width_px(),
            height_px: self.size.height_px(),
            steps: self.told.steps as usize,
            guidance: self.told.guidance,
        };
        drawing.commitment(&self.salt) == *commitment
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
