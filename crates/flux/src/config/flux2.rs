//! The configurations of FLUX.2-klein's components.

use serde::Deserialize;
use serde_json::Value;

use super::{
    SchedulerConfig, check, defaults,
    identity::{Claims, Family, Identity, SCHEDULER},
    ranges::{
        AutoEncoderSizes, EPSILON, HEAD_WIDTH, HEADS, LAYERS, TOKENS, TransformerSizes, WIDTH,
        Within,
    },
};
use crate::{Error, Result};

/// Tokens that prompts are padded to.
pub(crate) const TEXT_TOKENS: usize = 512;

/// The layers of the text encoder behind which its states are taken.
pub(crate) const TAPS: [usize; 3] = [9, 18, 27];

/// The pipeline that its directories name, and its parts.
pub(crate) const FAMILY: Family = Family {
    pipeline: "Flux2KleinPipeline",
    parts: &[&TRANSFORMER, &AUTOENCODER, &QWEN3, &SCHEDULER, &TOKENIZER],
};

pub(crate) const TRANSFORMER: Identity =
    Identity { component: "transformer", classes: &["Flux2Transformer2DModel"], model_types: &[] };

pub(crate) const AUTOENCODER: Identity =
    Identity { component: "vae", classes: &["AutoencoderKLFlux2"], model_types: &[] };

pub(crate) const QWEN3: Identity = Identity {
    component: "text_encoder",
    classes: &["Qwen3ForCausalLM", "Qwen3Model"],
    model_types: &["qwen3"],
};

const TOKENIZER: Identity = Identity {
    component: "tokenizer",
    classes: &["Qwen2Tokenizer", "Qwen2TokenizerFast"],
    model_types: &[],
};

/// The configuration of every component.
#[derive(Debug, Clone)]
pub(crate) struct Configs {
    pub(crate) text: Qwen3Config,
    pub(crate) transformer: TransformerConfig,
    pub(crate) autoencoder: AutoEncoderConfig,
    pub(crate) scheduler: SchedulerConfig,
}

impl Configs {
    /// Each by itself, then whether they fit together.
    pub(crate) fn check(&self) -> Result<()> {
        self.text.check()?;
        self.transformer.check()?;
        self.autoencoder.check()?;
        self.scheduler.check()?;
        let transformer = &self.transformer;
        let states = TAPS.len() * self.text.hidden_size;
        for (field, value, expected) in [
            ("joint_attention_dim", transformer.joint_attention_dim, states),
            ("in_channels", transformer.in_channels, 4 * self.autoencoder.latent_channels),
        ] {
            check("transformer", field, &value, value == expected)?;
        }
        Ok(())
    }
}

/// `transformer/config.json` (`Flux2Transformer2DModel`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TransformerConfig {
    #[serde(flatten)]
    claims: Claims,
    /// Channels of a packed latent token: 4 × the autoencoder's latent channels.
    pub(crate) in_channels: usize,
    #[serde(default)]
    out_channels: Option<usize>,
    #[serde(default = "defaults::one")]
    patch_size: usize,
    /// Double-stream blocks.
    pub(crate) num_layers: usize,
    /// Single-stream blocks.
    pub(crate) num_single_layers: usize,
    /// Width of one attention head.
    pub(crate) attention_head_dim: usize,
    /// Attention heads.
    pub(crate) num_attention_heads: usize,
    /// Width of the text encoder's states, side by side.
    pub(crate) joint_attention_dim: usize,
    #[serde(default = "defaults::sinusoids")]
    timestep_guidance_channels: usize,
    /// How many times as wide as the stream the feed-forward is.
    #[serde(default = "defaults::flux2_mlp_ratio")]
    mlp_ratio: f64,
    /// How a head's width is divided among the rotary axes (time, row, column, place in the text).
    #[serde(default = "defaults::flux2_axes")]
    pub(crate) axes_dims_rope: [usize; 4],
    /// Base of the rotary frequencies.
    #[serde(default = "defaults::flux2_theta")]
    pub(crate) rope_theta: f64,
    #[serde(default = "defaults::norm_eps")]
    eps: f64,
    #[serde(default = "defaults::yes")]
    guidance_embeds: bool,
}

impl TransformerConfig {
    /// Width of the residual stream.
    pub(crate) fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Width of the feed-forward behind its gate.
    pub(crate) fn mlp_width(&self) -> usize {
        (self.width() as f64 * self.mlp_ratio) as usize
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&TRANSFORMER)?;
        let component = "transformer";
        let sizes = TransformerSizes {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            patch_size: self.patch_size,
            num_layers: self.num_layers,
            num_single_layers: self.num_single_layers,
            attention_head_dim: self.attention_head_dim,
            num_attention_heads: self.num_attention_heads,
            joint_attention_dim: self.joint_attention_dim,
            axes_dims_rope: &self.axes_dims_rope,
        };
        sizes.check()?;
        let within = Within(component);
        within.number("mlp_ratio", self.mlp_ratio, 0.01..=64.0)?;
        within.number("rope_theta", self.rope_theta, 1.0..=1e9)?;
        check(component, "mlp_ratio", &self.mlp_ratio, self.mlp_width() > 0)?;
        check(component, "eps", &self.eps, self.eps == defaults::norm_eps())?;
        let sinusoids = self.timestep_guidance_channels;
        let fits = sinusoids == defaults::sinusoids();
        check(component, "timestep_guidance_channels", &sinusoids, fits)?;
        // Its guidance scale would be a condition that klein does not have.
        check(component, "guidance_embeds", &self.guidance_embeds, !self.guidance_embeds)
    }
}

/// `vae/config.json` (`AutoencoderKLFlux2`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AutoEncoderConfig {
    #[serde(flatten)]
    claims: Claims,
    /// Channels of the latents.
    pub(crate) latent_channels: usize,
    #[serde(default = "defaults::three")]
    in_channels: usize,
    /// Channels of the image.
    #[serde(default = "defaults::three")]
    pub(crate) out_channels: usize,
    /// Channels at each resolution, from the image's to the latents'.
    pub(crate) block_out_channels: Vec<usize>,
    /// The decoder's, where they differ.
    #[serde(default)]
    decoder_block_out_channels: Option<Vec<usize>>,
    /// Residual blocks at each resolution (the decoder has one more).
    pub(crate) layers_per_block: usize,
    /// Groups of every group normalisation.
    #[serde(default = "defaults::thirty_two")]
    pub(crate) norm_num_groups: usize,
    /// Side of the images it was trained on, in pixels.
    #[serde(default)]
    pub(crate) sample_size: Option<usize>,
    #[serde(default = "defaults::yes")]
    mid_block_add_attention: bool,
    #[serde(default = "defaults::yes")]
    pub(crate) use_quant_conv: bool,
    #[serde(default = "defaults::yes")]
    pub(crate) use_post_quant_conv: bool,
    #[serde(default = "defaults::silu")]
    act_fn: String,
    /// Added to the variance of the latents' statistics.
    #[serde(default = "defaults::batch_norm_eps")]
    pub(crate) batch_norm_eps: f64,
    #[serde(default = "defaults::two_by_two")]
    patch_size: [usize; 2],
}

impl AutoEncoderConfig {
    /// How many times smaller than the image the latents are, each way.
    pub(crate) fn downscale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    /// The decoder's channels at each resolution, from the image's to the latents'.
    pub(crate) fn decoder_channels(&self) -> &[usize] {
        self.decoder_block_out_channels.as_ref().unwrap_or(&self.block_out_channels)
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&AUTOENCODER)?;
        let component = "vae";
        let sizes = AutoEncoderSizes {
            latent_channels: self.latent_channels,
            out_channels: self.out_channels,
            layers_per_block: self.layers_per_block,
            norm_num_groups: self.norm_num_groups,
            sample_size: self.sample_size,
            channels: &[
                ("block_out_channels", &self.block_out_channels),
                ("decoder_block_out_channels", self.decoder_channels()),
            ],
            act_fn: &self.act_fn,
            mid_block_add_attention: self.mid_block_add_attention,
        };
        sizes.check()?;
        Within(component).number("batch_norm_eps", self.batch_norm_eps, EPSILON)?;
        check(component, "in_channels", &self.in_channels, self.in_channels == 3)?;
        let patch = self.patch_size;
        check(component, "patch_size", &format_args!("{patch:?}"), patch == [2, 2])
    }
}

/// `text_encoder/config.json` (`Qwen3ForCausalLM`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Qwen3Config {
    #[serde(flatten)]
    claims: Claims,
    /// Tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream and of the states.
    pub(crate) hidden_size: usize,
    /// Width of the feed-forward behind its gate.
    pub(crate) intermediate_size: usize,
    /// Layers, those behind the last tap as well.
    pub(crate) num_hidden_layers: usize,
    /// Heads of queries.
    pub(crate) num_attention_heads: usize,
    /// Heads of keys and of values: each is for several of queries.
    pub(crate) num_key_value_heads: usize,
    /// Width of one head.
    #[serde(default = "defaults::qwen3_head")]
    pub(crate) head_dim: usize,
    #[serde(default = "defaults::norm_eps")]
    pub(crate) rms_norm_eps: f64,
    #[serde(default = "defaults::silu")]
    hidden_act: String,
    max_position_embeddings: usize,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    /// As transformers 4 writes it.
    #[serde(default)]
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_scaling: Option<Value>,
    /// As transformers 5 does.
    #[serde(default)]
    rope_parameters: Option<RopeParameters>,
}

#[derive(Debug, Clone, Deserialize)]
struct RopeParameters {
    rope_theta: f64,
    #[serde(default)]
    rope_type: Option<String>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, Value>,
}

impl Qwen3Config {
    /// Base of the rotary frequencies.
    pub(crate) fn theta(&self) -> Result<f64> {
        let stated = self.rope_parameters.as_ref().map(|rope| rope.rope_theta);
        match (stated, self.rope_theta) {
            (Some(one), Some(other)) if one != other => self.refuse("rope_theta", &other),
            (Some(theta), _) | (None, Some(theta)) => Ok(theta),
            (None, None) => self.refuse("rope_theta", &"nothing"),
        }
    }

    fn refuse<T>(&self, field: &'static str, value: &dyn std::fmt::Display) -> Result<T> {
        Err(Error::Unsupported { component: "text_encoder", field, value: value.to_string() })
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&QWEN3)?;
        let component = "text_encoder";
        let within = Within(component);
        within.count("vocab_size", self.vocab_size, TOKENS)?;
        within.count("hidden_size", self.hidden_size, 1..=1 << 14)?;
        within.count("intermediate_size", self.intermediate_size, WIDTH)?;
        within.count("num_hidden_layers", self.num_hidden_layers, LAYERS)?;
        within.count("num_attention_heads", self.num_attention_heads, HEADS)?;
        within.count("num_key_value_heads", self.num_key_value_heads, HEADS)?;
        within.count("head_dim", self.head_dim, HEAD_WIDTH)?;
        within.number("rms_norm_eps", self.rms_norm_eps, EPSILON)?;
        within.number("rope_theta", self.theta()?, 1.0..=1e9)?;
        within.count(
            "max_position_embeddings",
            self.max_position_embeddings,
            TEXT_TOKENS..=1 << 24,
        )?;
        // The state behind the very last layer would be normalised, which those in between are not.
        let layers = self.num_hidden_layers;
        check(component, "num_hidden_layers", &layers, layers > TAPS[TAPS.len() - 1])?;
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        check(component, "num_key_value_heads", &groups, heads.is_multiple_of(groups))?;
        check(component, "head_dim", &self.head_dim, self.head_dim.is_multiple_of(2))?;
        check(component, "hidden_act", &self.hidden_act, self.hidden_act == "silu")?;
        check(component, "attention_bias", &self.attention_bias, !self.attention_bias)?;
        let slides = self.use_sliding_window;
        check(component, "use_sliding_window", &slides, !slides)?;
        for kind in self.layer_types.iter().flatten() {
            check(component, "layer_types", kind, kind == "full_attention")?;
        }
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
            return self.refuse("rope_scaling", scaling);
        }
        if let Some(rope) = &self.rope_parameters {
            let kind = rope.rope_type.as_deref().unwrap_or("default");
            check(component, "rope_type", &kind, kind == "default")?;
            if let Some((_, value)) = rope.others.iter().find(|(_, value)| !value.is_null()) {
                return self.refuse("rope_parameters", value);
            }
        }
        Ok(())
    }
}
