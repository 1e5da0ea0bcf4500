//! FLUX.1: two text encoders, CLIP and T5; diffusers' `FluxPipeline`.

use std::rc::Rc;

use candle_core::Device;
use protocol::Size;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, PromptTokens, Result,
    architecture::{Architecture, Blueprint, ModelConfig, Parts, Sources},
    autoencoder::AutoEncoder,
    checkpoint::{Directory, Layout, Part, Weights, bfl},
    config::{CLIP, ClipConfig, Configs, FLUX1, ModelIndex, T5, T5Config},
    dimensions::Dimensions,
    latents::NoiseOrder,
    role::Role,
    sampler::{Schedule, Shift},
    text::{Clip, ClipTokenizer, PromptEmbeds, T5, T5Tokenizer, TextEncoder, Tokens},
    transformer::Transformer,
    wiped::Wiped,
    work::Work,
};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    pipeline: FLUX1.pipeline,
    single_file: "flux1",
    renaming: &bfl::TRANSFORMER,
    read,
};

fn read(directory: &mut Directory, index: Option<&ModelIndex>) -> Result<Sources> {
    let layout = Layout::find(directory, index)?;
    let configs = Configs {
        clip: directory.config("text_encoder/config.json", &CLIP)?,
        t5: directory.config("text_encoder_2/config.json", &T5)?,
        transformer: layout.config(Part::Transformer, directory)?,
        autoencoder: layout.config(Part::AutoEncoder, directory)?,
        scheduler: layout.scheduler(directory)?,
    };
    configs.check()?;
    let clip_tokens = clip_tokenizer(directory, &configs.clip)?;
    let t5_tokens = t5_tokenizer(directory, &configs.t5, configs.text_tokens())?;
    let shards = vec![
        directory.shards("text_encoder")?.ignoring(is_unread_of_clip),
        directory.shards("text_encoder_2")?.ignoring(is_unread_of_t5),
        layout.shards(Part::Transformer, directory)?,
        layout.shards(Part::AutoEncoder, directory)?.ignoring(is_unread_of_autoencoder),
    ];
    let blueprint = Box::new(Flux1::new(configs, clip_tokens, t5_tokens));
    Ok(Sources { blueprint, shards })
}

/// Position ids are a constant that older files carry; the projection is for comparing with images.
pub(crate) fn is_unread_of_clip(name: &str) -> bool {
    const PREFIXES: [&str; 6] = [
        "text_model.embeddings.position_ids",
        "embeddings.position_ids",
        "text_projection.",
        "logit_scale",
        "vision_model.",
        "visual_projection.",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Only the encoder's half is used.
pub(crate) fn is_unread_of_t5(name: &str) -> bool {
    name.starts_with("decoder.") || name.starts_with("lm_head.")
}

/// Images are only decoded here.
pub(crate) fn is_unread_of_autoencoder(name: &str) -> bool {
    name.starts_with("encoder.") || name.starts_with("quant_conv.")
}

/// A FLUX.1 that is being built.
pub(crate) struct Flux1 {
    configs: Configs,
    clip_tokens: ClipTokenizer,
    t5_tokens: T5Tokenizer,
    clip: Option<Clip>,
    t5: Option<T5>,
    transformer: Option<Transformer>,
    autoencoder: Option<AutoEncoder>,
}

impl Flux1 {
    pub(crate) fn new(
        configs: Configs,
        clip_tokens: ClipTokenizer,
        t5_tokens: T5Tokenizer,
    ) -> Self {
        let (clip, t5, transformer, autoencoder) = (None, None, None, None);
        Self { configs, clip_tokens, t5_tokens, clip, t5, transformer, autoencoder }
    }
}

impl Blueprint for Flux1 {
    fn config(&self) -> Box<dyn ModelConfig> {
        Box::new(self.configs.clone())
    }

    fn components(&self) -> &'static [(&'static str, Role)] {
        &[
            ("text_encoder", Role::TextEncoder),
            ("text_encoder_2", Role::TextEncoder),
            ("transformer", Role::Transformer),
            ("vae", Role::AutoEncoder),
        ]
    }

    fn build(&mut self, component: usize, weights: Weights, device: &Device) -> Result<()> {
        let configs = &self.configs;
        match component {
            0 => self.clip = Some(weights.build(|vb| Clip::load(&configs.clip, device, vb))?),
            1 => {
                // The embedding may be there under both of its names.
                let weights = weights.ignore(&["encoder.embed_tokens.weight"]);
                let tokens = configs.text_tokens();
                self.t5 = Some(weights.build(|vb| T5::load(&configs.t5, tokens, device, vb))?);
            }
            2 => {
                let built = weights.build(|vb| Transformer::flux1(&configs.transformer, vb))?;
                self.transformer = Some(built);
            }
            _ => {
                let built = weights.build(|vb| AutoEncoder::flux1(&configs.autoencoder, vb))?;
                self.autoencoder = Some(built);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Option<Parts> {
        let Self { clip_tokens, t5_tokens, .. } = *self;
        let text = Text { clip_tokens, t5_tokens, clip: self.clip?, t5: self.t5? };
        Some(Parts {
            text: Box::new(text),
            transformer: self.transformer?,
            autoencoder: self.autoencoder?,
        })
    }
}

impl ModelConfig for Configs {
    fn dimensions(&self) -> Dimensions {
        let (transformer, autoencoder) = (&self.transformer, &self.autoencoder);
        let width = transformer.width() as u64;
        let blocks = (2 * transformer.num_layers + transformer.num_single_layers) as u64;
        Dimensions {
            text_tokens: self.text_tokens(),
            width: transformer.width(),
            // Of each stream of a double block and of each single block queries, keys, values, the way out,
            // and a feed-forward of four times the width.
            block_values: blocks.saturating_mul(12 * width * width),
            embedding_values: (self.t5.vocab_size as u64)
                .saturating_mul(self.t5.d_model as u64)
                .saturating_add(
                    (self.clip.vocab_size as u64).saturating_mul(self.clip.hidden_size as u64),
                ),
            latent_channels: autoencoder.latent_channels,
            decoder_channels: autoencoder.block_out_channels.clone(),
            native_side_px: autoencoder.sample_size.unwrap_or(1024),
            noise: NoiseOrder::Pixels,
            reads_guidance: transformer.guidance_embeds,
            max_input_images: 0,
        }
    }

    fn schedule(&self, steps: usize, image_tokens: usize) -> Schedule {
        Schedule::new(&self.scheduler, steps, Shift::linear(&self.scheduler, image_tokens))
    }

    fn work(&self, size: Size, steps: usize) -> Work {
        Work::of_flux1(self, &self.dimensions(), size, steps)
    }
}

/// CLIP and T5.
struct Text {
    clip_tokens: ClipTokenizer,
    t5_tokens: T5Tokenizer,
    clip: Clip,
    t5: T5,
}

impl TextEncoder for Text {
    fn encode(&self, text: &str) -> Result<PromptEmbeds> {
        let clip_tokens = self.clip_tokens.encode(text)?;
        let t5_tokens = self.t5_tokens.encode(text)?;
        Ok(PromptEmbeds {
            pooled: Some(Rc::new(Wiped(self.clip.pooled(&clip_tokens.ids)?))),
            states: Rc::new(Wiped(self.t5.states(&t5_tokens.ids)?)),
            tokens: t5_tokens.counted(),
        })
    }

    fn prompt_tokens(&self, text: &str) -> Result<PromptTokens> {
        Ok(self.t5_tokens.encode(text)?.counted())
    }

    fn ids(&self, text: &str) -> Result<Vec<Tokens>> {
        Ok(vec![self.clip_tokens.encode(text)?, self.t5_tokens.encode(text)?])
    }

    fn rest_on(&mut self, device: &Device) -> Result<()> {
        self.clip = self.clip.resting_on(device)?;
        self.t5 = self.t5.resting_on(device)?;
        Ok(())
    }
}

/// The parts of `tokenizer_config.json` that matter here.
#[derive(Deserialize, Default)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<f64>,
    /// A string, or an object with the string as its `content`.
    #[serde(default)]
    pad_token: Value,
}

/// From `vocab.json` and `merges.txt`, as FLUX.1 is published, or from `tokenizer.json`, as newer
/// releases of transformers write it.
pub(crate) fn clip_tokenizer(
    directory: &mut Directory,
    config: &ClipConfig,
) -> Result<ClipTokenizer> {
    let settings: TokenizerConfig = if directory.has("tokenizer/tokenizer_config.json") {
        directory.json("tokenizer/tokenizer_config.json")?
    } else {
        TokenizerConfig::default()
    };
    let path = directory.path("tokenizer");
    let tokenizer = if directory.has("tokenizer/vocab.json") {
        let vocabulary = directory.tokenizer_bytes("tokenizer/vocab.json")?;
        let merges = directory.tokenizer_bytes("tokenizer/merges.txt")?;
        let merges = String::from_utf8_lossy(&merges);
        ClipTokenizer::from_vocabulary(&path, &vocabulary, &merges, config.vocab_size)?
    } else {
        let json = directory.tokenizer_bytes("tokenizer/tokenizer.json")?;
        ClipTokenizer::from_json(&path, &json, config.vocab_size)?
    };
    let positions = config.max_position_embeddings;
    // Where a tokenizer knows no limit, transformers writes one of about 1e30.
    let length = settings.model_max_length.map_or(positions, |most| positions.min(most as usize));
    // Room for where a text starts and ends.
    if length < 2 {
        let (component, field, value) = ("tokenizer", "model_max_length", length.to_string());
        return Err(Error::Unsupported { component, field, value });
    }
    let padding = settings.pad_token.get("content").unwrap_or(&settings.pad_token).as_str();
    Ok(tokenizer.padded(length, padding))
}

/// Padding every text to `length` tokens.
pub(crate) fn t5_tokenizer(
    directory: &mut Directory,
    config: &T5Config,
    length: usize,
) -> Result<T5Tokenizer> {
    let json = directory.tokenizer_bytes("tokenizer_2/tokenizer.json")?;
    let path = directory.path("tokenizer_2/tokenizer.json");
    T5Tokenizer::from_json(&path, &json, config.vocab_size, length)
}
