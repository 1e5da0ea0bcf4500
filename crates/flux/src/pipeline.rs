//! The pipeline: encode the prompt, prepare the latents, step, decode.

use std::{num::NonZeroUsize, path::Path, rc::Rc};

use candle_core::{DType, Device, DeviceLocation, Tensor};
use kernels::Precision;
use protocol::{Prompt, SecretBytes, Seed, Size};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    Error, InputImage, Job, LargestBatch, LoadOptions, LoadProgress, MemoryNeeds, PromptTokens,
    Result,
    checkpoint::Files,
    denoise::{DenoiseContext, Given, InputLatents, Settings},
    latents::Grid,
    model::Model,
    transformer::{Conditions, References},
    wiped::{Wiped, concat_rows},
};

/// A FLUX model with its tokenizers. Works on one job at a time; keep it on one thread.
pub struct Pipeline {
    pub(crate) model: Model,
    /// Images that are drawn together at most, where somebody said.
    max_batch: Option<NonZeroUsize>,
}

/// Tokens of one image of 1024×1024 and its prompt, which are thought to fill an H200: not measured.
pub(crate) const TOKENS_OF_FULL_GPU: usize = 4096 + 256;

impl Pipeline {
    /// Loads a model directory: diffusers' layout (`model_index.json`, a folder a component), or
    /// Black Forest Labs' (`flux1-*.safetensors`, `ae.safetensors`, the text encoders' folders).
    ///
    /// Weights are safetensors, sharded or not, in f32, f16 or bf16. Every file is read once: what is hashed for
    /// [`Pipeline::digest`] is what computes.
    ///
    /// # Errors
    /// Where a file is missing, malformed or not what is pinned, a tensor is missing, left over or misshapen (all named),
    /// or a configuration asks for what this crate does not implement.
    pub fn load(directory: &Path, options: LoadOptions) -> Result<Self, Error> {
        Self::load_watched(directory, options, &mut |_| {})
    }

    /// [`Pipeline::load`], telling `progress` after each tensor.
    ///
    /// # Errors
    /// As [`Pipeline::load`].
    pub fn load_watched(
        directory: &Path,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, Error> {
        let files = Files::Folder(directory.to_owned());
        Ok(Self::of(Model::load(files, options, progress)?))
    }

    /// What a model directory would take of memory, for drawing such a batch: for planning over several.
    /// No weights are read, but their files' headers; `options.memory_limit` does not matter.
    ///
    /// # Errors
    /// As [`Pipeline::load`], as far as it is seen without them.
    pub fn needs(
        directory: &Path,
        options: LoadOptions,
        batch: LargestBatch,
    ) -> Result<MemoryNeeds, Error> {
        Model::needs(Files::Folder(directory.to_owned()), options, batch)
    }

    pub(crate) fn of(model: Model) -> Self {
        Self { model, max_batch: None }
    }

    /// From now on, draws so many images together, whatever their size and the device. Those that are made from input
    /// images are fewer where so many would more than fill a GPU.
    pub fn set_max_batch(&mut self, images: NonZeroUsize) {
        self.max_batch = Some(images);
    }

    /// How many images of a size are drawn together from a prompt alone: what [`Pipeline::set_max_batch`] said;
    /// otherwise as many as fill a GPU, and one on a CPU, where the first would wait long for the others.
    #[must_use]
    pub fn batch_size(&self, size: Size) -> NonZeroUsize {
        self.batch_size_with(size, 0)
    }

    /// The same for what a job asks for: its input images take room beside each of its images.
    #[must_use]
    pub fn batch_size_of(&self, job: &Job<'_>) -> NonZeroUsize {
        self.batch_size_with(job.size, self.input_tokens(job))
    }

    /// Tokens of a job's input images.
    pub(crate) fn input_tokens(&self, job: &Job<'_>) -> usize {
        job.images.iter().map(|image| self.tokens_px(image.read_px())).sum()
    }

    /// The same beside so many tokens of input images each. The memory plan has room for one image's, or for as many
    /// tokens as fill a GPU: whoever said how many images are drawn together did not say with how many others.
    pub(crate) fn batch_size_with(&self, size: Size, input_tokens: usize) -> NonZeroUsize {
        let tokens = self.grid(size).tokens() + self.model.dimensions.text_tokens + input_tokens;
        let fills = NonZeroUsize::new(TOKENS_OF_FULL_GPU / tokens).unwrap_or(NonZeroUsize::MIN);
        match self.max_batch {
            Some(images) if input_tokens == 0 => images,
            Some(images) => images.min(fills),
            None if self.device().is_cpu() => NonZeroUsize::MIN,
            None => fills,
        }
    }

    /// The size that the model was made for.
    #[must_use]
    pub fn native_size(&self) -> Size {
        let multiple = Size::MULTIPLE_PX as usize;
        let side = self.model.dimensions.native_side_px;
        let side = side.next_multiple_of(multiple).clamp(multiple, Size::MAX_SIDE_PX as usize);
        Size::new(side as u32, side as u32).expect("a multiple of 16 in range")
    }

    /// SHA-256 of [`Pipeline::listing`].
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.model.listing).into()
    }

    /// Name, length and SHA-256 of every file that the model was loaded from, one line each, sorted:
    /// `{sha256 in hex}  {bytes}  {name}\n`.
    #[must_use]
    pub fn listing(&self) -> &[u8] {
        &self.model.listing
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.model.device
    }

    /// How much of a GPU's memory tensors have taken at most, weights included. `None` on a CPU, and
    /// where the driver does not answer.
    #[must_use]
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        #[cfg(feature = "cuda")]
        if self.device().is_cuda() {
            return Some(kernels::cuda::memory_use(self.device()).ok()?.peak_bytes);
        }
        None
    }

    /// How long a prompt is.
    ///
    /// # Errors
    /// Where the tokenizer fails on it.
    pub fn prompt_tokens(&self, prompt: &Prompt) -> Result<PromptTokens, Error> {
        self.model.text.prompt_tokens(prompt.expose())
    }

    /// Whether the model was trained with a guidance scale.
    #[must_use]
    pub fn reads_guidance(&self) -> bool {
        self.model.dimensions.reads_guidance
    }

    /// The most input images that the model draws one image from; 0 where it reads none.
    #[must_use]
    pub fn max_input_images(&self) -> usize {
        self.model.dimensions.max_input_images
    }

    /// Where it computes, and in which type: `cpu f32`, `cpu bf16 (AMX)`, `cpu int8 (AVX-512 VNNI)`, `cuda:0 bf16`.
    #[must_use]
    pub fn place(&self) -> String {
        let device = match self.model.device.location() {
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        };
        let text =
            if self.model.memory.text_on_host() { ", text encoders on the host" } else { "" };
        let how = match self.model.precision {
            Precision::Bf16 if self.device().is_cpu() => {
                kernels::cpu::level().ok().map(kernels::cpu::Level::description)
            }
            Precision::Int8 => Some(kernels::cpu::int8_description()),
            _ => None,
        };
        let how = how.map_or(String::new(), |how| format!(" ({how})"));
        format!("{device} {}{how}{text}", precision_name(self.model.precision))
    }
}

impl Pipeline {
    /// # Errors
    /// [`Error::InputImages`] where there are more input images than the model reads; [`Error::Mask`] where one has a
    /// mask that cannot be followed in an image of this size.
    pub(crate) fn encode(&self, text: &str, images: &[InputImage], size: Size) -> Result<Given> {
        let most = self.max_input_images();
        if images.len() > most {
            return Err(Error::InputImages { found: images.len(), most });
        }
        let size_px = [size.width_px() as usize, size.height_px() as usize];
        let can_be_followed = |(place, image): (usize, &InputImage)| {
            image.mask().is_none() || place == 0 && image.read_px() == size_px
        };
        if !images.iter().enumerate().all(can_be_followed) {
            return Err(Error::Mask);
        }
        let prompt = self.model.text.encode(text)?;
        Ok(Given { prompt, inputs: self.encode_images(images)? })
    }

    fn encode_images(&self, images: &[InputImage]) -> Result<Option<InputLatents>> {
        let (mut tokens, mut grids) = (Vec::new(), Vec::new());
        for image in images {
            let pixels = image.pixels()?;
            let on_device = Wiped(pixels.0.to_device(&self.model.device)?.force_contiguous()?);
            let Some(latents) = self.model.autoencoder.encode(&on_device.0)? else {
                return Err(Error::InputImages { found: images.len(), most: 0 });
            };
            let [width, height] = image.read_px();
            grids.push(self.model.grid_px([width, height]));
            tokens.push(Rc::new(Wiped(latents)));
        }
        if tokens.is_empty() {
            return Ok(None);
        }
        let mask = images.first().and_then(InputImage::mask).zip(grids.first());
        let shares = mask.map(|(mask, grid)| {
            let shares = mask.shares([grid.rows, grid.columns]);
            Ok::<_, Error>(Wiped(Tensor::from_vec(shares, (grid.tokens(), 1), self.device())?))
        });
        Ok(Some(InputLatents {
            tokens: concat_rows(tokens.iter())?,
            grids,
            shares: shares.transpose()?,
        }))
    }

    pub(crate) fn grid(&self, size: Size) -> Grid {
        self.model.grid_px([size.width_px() as usize, size.height_px() as usize])
    }

    /// Tokens of an image of so many pixels, width and height.
    pub(crate) fn tokens_px(&self, sides_px: [usize; 2]) -> usize {
        self.model.grid_px(sides_px).tokens()
    }

    /// A seed's noise: (tokens, 4·c), f32.
    pub(crate) fn noise(&self, grid: Grid, seed: Seed, device: &Device) -> Result<Tensor> {
        grid.noise(self.model.dimensions.noise, seed, device)
    }

    /// Prepares images of these prompts; as many as there are prompts, at least one. All have as many input images
    /// of the same sizes.
    pub(crate) fn start(&self, given: &[&Given], settings: &Settings) -> Result<DenoiseContext> {
        let grid = self.grid(settings.size);
        let schedule = self.model.config.schedule(settings.steps.get(), grid.tokens());
        let states = concat_rows(given.iter().map(|given| &given.prompt.states))?;
        let pooled: Option<Vec<&Rc<Wiped>>> =
            given.iter().map(|given| given.prompt.pooled.as_ref()).collect();
        let pooled = pooled.map(|all| concat_rows(all.into_iter())).transpose()?;
        let inputs: Option<Vec<&InputLatents>> =
            given.iter().map(|given| given.inputs.as_ref()).collect();
        let tokens = inputs
            .as_ref()
            .map(|all| concat_rows(all.iter().map(|inputs| &inputs.tokens)))
            .transpose()?;
        let grids = inputs.as_ref().and_then(|all| Some(&all.first()?.grids[..]));
        let references = tokens.as_ref().zip(grids);
        let prepared = self.model.transformer.prepare(&Conditions {
            images: given.len(),
            states: &states.0,
            pooled: pooled.as_ref().map(|pooled| &pooled.0),
            timesteps: &schedule.timesteps(),
            guidance: settings.guidance,
            grid,
            references: references.map(|(tokens, grids)| References { tokens: &tokens.0, grids }),
        })?;
        Ok(DenoiseContext { grid, schedule, prepared, inpainting: None })
    }

    /// latents (tokens, c), f32 → after one step.
    pub(crate) fn step(
        &self,
        context: &DenoiseContext,
        step: usize,
        latents: &Tensor,
    ) -> Result<Tensor> {
        context.step(step, latents, &self.velocity(context, step, latents)?)
    }

    /// latents (n·tokens, c), f32 → velocity (n·tokens, c), f32.
    pub(crate) fn velocity(
        &self,
        context: &DenoiseContext,
        step: usize,
        latents: &Tensor,
    ) -> Result<Tensor> {
        let model = &self.model;
        let velocity = model.transformer.velocity(
            &latents.to_dtype(model.precision.dtype())?,
            &context.prepared,
            step,
        )?;
        Ok(velocity.to_dtype(DType::F32)?)
    }

    /// latents (tokens, c), f32 → image (h, w, 3), f32, about −1 to 1, on the host.
    pub(crate) fn decode(&self, context: &DenoiseContext, latents: &Tensor) -> Result<Wiped> {
        let image = self.decode_on_device(context, latents)?;
        Ok(Wiped(image.to_dtype(DType::F32)?.to_device(&Device::Cpu)?))
    }

    /// latents (tokens, c), f32 → image (h, w, 3), 8 bits. Where the device can, it converts: a
    /// quarter of the bytes travel.
    pub(crate) fn rgb(&self, context: &DenoiseContext, latents: &Tensor) -> Result<SecretBytes> {
        let image = Wiped(self.decode_on_device(context, latents)?);
        if let Some(bytes) = kernels::to_bytes(&image.0)? {
            let bytes = Wiped(bytes);
            return Ok(bytes.0.flatten_all()?.to_vec1::<u8>()?.into());
        }
        to_rgb(&Wiped(image.0.to_dtype(DType::F32)?.to_device(&Device::Cpu)?).0)
    }

    fn decode_on_device(&self, context: &DenoiseContext, latents: &Tensor) -> Result<Tensor> {
        let model = &self.model;
        let in_tiles =
            model.memory.in_tiles(&model.dimensions, context.grid, model.precision.dtype());
        model.autoencoder.decode(latents, context.grid, in_tiles)
    }
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Fp8 => "fp8",
        Precision::Int8 => "int8",
    }
}

/// (h, w, 3) in −1 to 1 → 8 bits, rounded half to even, as diffusers' image processor does.
pub(crate) fn to_rgb(image: &Tensor) -> Result<SecretBytes> {
    let values = Zeroizing::new(image.flatten_all()?.to_vec1::<f32>()?);
    let mut rgb = SecretBytes::with_capacity(values.len());
    rgb.extend(
        values
            .iter()
            .map(|value| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8),
    );
    Ok(rgb)
}
