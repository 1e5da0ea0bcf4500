//! FLUX.2-klein: Qwen3 as the text encoder, input images; diffusers' `Flux2KleinPipeline`.

use std::rc::Rc;

use candle_core::Device;
use protocol::Size;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error, PromptTokens, Result,
    architecture::{Architecture, Blueprint, ModelConfig, Parts, Sources},
    autoencoder::AutoEncoder,
    checkpoint::{Directory, Shards, Weights, bfl2},
    config::{
        ModelIndex,
        flux2::{self, Configs, FAMILY, Qwen3Config, TEXT_TOKENS},
    },
    dimensions::Dimensions,
    input::MAX_INPUT_IMAGES,
    latents::NoiseOrder,
    role::Role,
    sampler::{Schedule, Shift},
    text::{ChatTokenizer, PromptEmbeds, Qwen3, TextEncoder, Tokens},
    transformer::Transformer,
    wiped::Wiped,
    work::Work,
};

pub(crate) const ARCHITECTURE: Architecture = Architecture {
    pipeline: FAMILY.pipeline,
    single_file: SINGLE_FILE,
    renaming: &bfl2::TRANSFORMER,
    read,
};

/// What the name of the file that Black Forest Labs publish begins with: `flux-2-klein-4b.safetensors`.
const SINGLE_FILE: &str = "flux-2-klein";

fn read(directory: &mut Directory, index: Option<&ModelIndex>) -> Result<Sources> {
    // The index says whether the model is distilled, which no other file does.
    let read;
    let index = match index {
        Some(index) => index,
        None => {
            read = directory.json("model_index.json")?;
            &read
        }
    };
    index.check(&FAMILY)?;
    let is_distilled = index.field("is_distilled").and_then(Value::as_bool).unwrap_or_default();
    if !is_distilled {
        // It would be drawn twice a step, with and without the prompt.
        let (component, field) = ("model_index.json", "is_distilled");
        return Err(Error::Unsupported { component, field, value: "false".to_owned() });
    }
    let configs = Configs {
        text: directory.config("text_encoder/config.json", &flux2::QWEN3)?,
        transformer: directory.config("transformer/config.json", &flux2::TRANSFORMER)?,
        autoencoder: directory.config("vae/config.json", &flux2::AUTOENCODER)?,
        scheduler: directory.json("scheduler/scheduler_config.json")?,
    };
    configs.check()?;
    let tokens = tokenizer(directory, &configs.text)?;
    let shards = vec![
        directory.shards("text_encoder")?.ignoring(Qwen3::is_unread),
        transformer_shards(directory)?,
        directory.shards("vae")?.ignoring(is_unread_of_autoencoder),
    ];
    Ok(Sources { blueprint: Box::new(Flux2::new(configs, tokens)), shards })
}

/// diffusers' folder, or the single file where that is empty.
fn transformer_shards(directory: &mut Directory) -> Result<Shards> {
    const FOLDER: &str = "transformer";
    let single =
        directory.only_like(|name| name.starts_with(SINGLE_FILE), &["flux-2-klein-4b.safetensors"]);
    match (directory.shards(FOLDER), single) {
        (Ok(shards), _) => Ok(shards),
        (Err(Error::NoWeights { .. }), Ok(Some(file))) => {
            Ok(directory.single(FOLDER, &file)?.renamed_by(&bfl2::TRANSFORMER))
        }
        (Err(Error::NoWeights { .. }), Err(ambiguous)) => Err(ambiguous),
        (Err(error), _) => Err(error),
    }
}

/// How many batches the statistics were made of: an integer, which nothing computes with.
fn is_unread_of_autoencoder(name: &str) -> bool {
    name == "bn.num_batches_tracked"
}

/// A FLUX.2-klein that is being built.
pub(crate) struct Flux2 {
    configs: Configs,
    tokens: ChatTokenizer,
    text: Option<Qwen3>,
    transformer: Option<Transformer>,
    autoencoder: Option<AutoEncoder>,
}

impl Flux2 {
    pub(crate) fn new(configs: Configs, tokens: ChatTokenizer) -> Self {
        Self { configs, tokens, text: None, transformer: None, autoencoder: None }
    }
}

impl Blueprint for Flux2 {
    fn config(&self) -> Box<dyn ModelConfig> {
        Box::new(self.configs.clone())
    }

    fn components(&self) -> &'static [(&'static str, Role)] {
        &[
            ("text_encoder", Role::TextEncoder),
            ("transformer", Role::Transformer),
            ("vae", Role::AutoEncoder),
        ]
    }

    fn build(&mut self, component: usize, weights: Weights, device: &Device) -> Result<()> {
        let configs = &self.configs;
        match component {
            0 => {
                let config = &configs.text;
                let built = weights.build(|vb| Qwen3::load(config, TEXT_TOKENS, device, vb))?;
                self.text = Some(built);
            }
            1 => {
                let built = weights.build(|vb| Transformer::flux2(&configs.transformer, vb))?;
                self.transformer = Some(built);
            }
            _ => {
                let built = weights.build(|vb| AutoEncoder::flux2(&configs.autoencoder, vb))?;
                self.autoencoder = Some(built);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Option<Parts> {
        Some(Parts {
            text: Box::new(Text { tokens: self.tokens, qwen3: self.text? }),
            transformer: self.transformer?,
            autoencoder: self.autoencoder?,
        })
    }
}

impl ModelConfig for Configs {
    fn dimensions(&self) -> Dimensions {
        let (transformer, autoencoder) = (&self.transformer, &self.autoencoder);
        let (width, hidden) = (transformer.width() as u64, transformer.mlp_width() as u64);
        let blocks = (2 * transformer.num_layers + transformer.num_single_layers) as u64;
        Dimensions {
            text_tokens: TEXT_TOKENS,
            width: transformer.width(),
            // Queries, keys, values and the way out; both halves of the gate, and the way back.
            block_values: blocks
                .saturating_mul((4 * width * width).saturating_add(3 * width * hidden)),
            embedding_values: (self.text.vocab_size as u64)
                .saturating_mul(self.text.hidden_size as u64),
            latent_channels: autoencoder.latent_channels,
            decoder_channels: autoencoder.decoder_channels().to_vec(),
            native_side_px: autoencoder.sample_size.unwrap_or(1024),
            noise: NoiseOrder::Tokens,
            reads_guidance: false,
            max_input_images: MAX_INPUT_IMAGES,
        }
    }

    fn schedule(&self, steps: usize, image_tokens: usize) -> Schedule {
        Schedule::new(&self.scheduler, steps, Shift::empirical(image_tokens, steps))
    }

    fn work(&self, size: Size, steps: usize) -> Work {
        Work::of_flux2(self, &self.dimensions(), size, steps)
    }
}

/// Qwen3 behind its chat template.
struct Text {
    tokens: ChatTokenizer,
    qwen3: Qwen3,
}

impl TextEncoder for Text {
    fn encode(&self, text: &str) -> Result<PromptEmbeds> {
        let tokens = self.tokens.encode(text)?;
        Ok(PromptEmbeds {
            states: Rc::new(Wiped(self.qwen3.states(&tokens.ids, tokens.used)?)),
            pooled: None,
            tokens: tokens.counted(),
        })
    }

    fn prompt_tokens(&self, text: &str) -> Result<PromptTokens> {
        Ok(self.tokens.encode(text)?.counted())
    }

    fn ids(&self, text: &str) -> Result<Vec<Tokens>> {
        Ok(vec![self.tokens.encode(text)?])
    }

    fn rest_on(&mut self, device: &Device) -> Result<()> {
        self.qwen3 = self.qwen3.resting_on(device)?;
        Ok(())
    }
}

/// The parts of `tokenizer_config.json` that matter here.
#[derive(Deserialize)]
struct TokenizerConfig {
    /// A string, or an object with the string as its `content`.
    #[serde(default)]
    pad_token: Value,
    #[serde(default)]
    padding_side: Option<String>,
    #[serde(default)]
    chat_template: Option<Value>,
    #[serde(default)]
    added_tokens_decoder: Value,
}

/// From `tokenizer.json`, or from `vocab.json` and `merges.txt`; the chat template lies in a file of its own or in
/// the tokenizer's configuration.
fn tokenizer(directory: &mut Directory, config: &Qwen3Config) -> Result<ChatTokenizer> {
    const CONFIG: &str = "tokenizer/tokenizer_config.json";
    const TEMPLATE: &str = "tokenizer/chat_template.jinja";
    let settings: TokenizerConfig = directory.json(CONFIG)?;
    let (name, template) = if directory.has(TEMPLATE) {
        let file = directory.tokenizer_bytes(TEMPLATE)?;
        (TEMPLATE, String::from_utf8_lossy(&file).into_owned())
    } else {
        let template = settings.chat_template.as_ref().and_then(Value::as_str);
        let missing = || Error::NoChatTemplate { path: directory.path("tokenizer") };
        (CONFIG, template.ok_or_else(missing)?.to_owned())
    };
    ChatTokenizer::check_template(&directory.path(name), &template)?;
    if let Some(side) = settings.padding_side.filter(|side| side != "right") {
        return Err(Error::Unsupported {
            component: "tokenizer",
            field: "padding_side",
            value: side,
        });
    }
    let padding = settings.pad_token.get("content").unwrap_or(&settings.pad_token).as_str();
    let padding = padding.unwrap_or("<|endoftext|>");
    let vocab_size = config.vocab_size;
    if directory.has("tokenizer/tokenizer.json") {
        let json = directory.tokenizer_bytes("tokenizer/tokenizer.json")?;
        let path = directory.path("tokenizer/tokenizer.json");
        return ChatTokenizer::from_json(&path, &json, vocab_size, (padding, TEXT_TOKENS));
    }
    let vocabulary = directory.tokenizer_bytes("tokenizer/vocab.json")?;
    let merges = directory.tokenizer_bytes("tokenizer/merges.txt")?;
    ChatTokenizer::from_vocabulary(
        &directory.path("tokenizer"),
        [&vocabulary, &merges],
        &settings.added_tokens_decoder,
        vocab_size,
        (padding, TEXT_TOKENS),
    )
}

#[cfg(test)]
mod tests;
