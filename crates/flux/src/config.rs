//! The `config.json` of every component, as diffusers and transformers write them.
//!
//! Fields that change the computation are read; of those that this crate fixes (activation names,
//! for instance) the one supported value is asserted by [`check`]. Numbers have [`ranges`].

mod defaults;
pub(crate) mod flux2;
mod identity;
mod model;
mod ranges;

use std::collections::BTreeMap;

use kernels::Activation;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use identity::{CLIP, Claims, FLUX1, Identity, ModelIndex, T5};
pub(crate) use model::Configs;

use crate::{Error, Result};

/// `transformer/config.json` (`FluxTransformer2DModel`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TransformerConfig {
    #[serde(flatten)]
    claims: Claims,
    /// Channels of a packed latent token: 4 × the autoencoder's latent channels.
    pub(crate) in_channels: usize,
    /// Channels of a predicted token, where they differ from `in_channels`.
    #[serde(default)]
    pub(crate) out_channels: Option<usize>,
    /// Side of the patch that `proj_out` predicts; 1, since latents come packed.
    #[serde(default = "defaults::one")]
    pub(crate) patch_size: usize,
    /// Double-stream blocks.
    pub(crate) num_layers: usize,
    /// Single-stream blocks.
    pub(crate) num_single_layers: usize,
    /// Width of one attention head.
    pub(crate) attention_head_dim: usize,
    /// Attention heads.
    pub(crate) num_attention_heads: usize,
    /// Width of the T5 states.
    pub(crate) joint_attention_dim: usize,
    /// Width of CLIP's pooled vector.
    pub(crate) pooled_projection_dim: usize,
    /// Whether a guidance scale is embedded (FLUX.1-dev) or not (FLUX.1-schnell).
    #[serde(default)]
    pub(crate) guidance_embeds: bool,
    /// How a head's width is divided among the rotary axes (text, row, column).
    #[serde(default = "defaults::flux_axes")]
    pub(crate) axes_dims_rope: [usize; 3],
}

impl TransformerConfig {
    /// Width of the residual stream.
    pub(crate) fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Width of the feed-forward layers.
    pub(crate) fn mlp_width(&self) -> usize {
        4 * self.width()
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&identity::TRANSFORMER)?;
        self.check_ranges()
    }
}

/// `vae/config.json` (`AutoencoderKL`); only the decoder's half matters here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AutoEncoderConfig {
    #[serde(flatten)]
    claims: Claims,
    /// Channels of the latents.
    pub(crate) latent_channels: usize,
    /// Channels of the image.
    #[serde(default = "defaults::three")]
    pub(crate) out_channels: usize,
    /// Channels at each resolution, from the image's to the latents'.
    pub(crate) block_out_channels: Vec<usize>,
    /// Residual blocks at each resolution (the decoder has one more).
    pub(crate) layers_per_block: usize,
    /// Groups of every group normalisation.
    #[serde(default = "defaults::thirty_two")]
    pub(crate) norm_num_groups: usize,
    /// Latents are divided by this before they are decoded …
    pub(crate) scaling_factor: f64,
    /// … and then moved by this.
    pub(crate) shift_factor: f64,
    /// Side of the images it was trained on, in pixels.
    #[serde(default)]
    pub(crate) sample_size: Option<usize>,
    #[serde(default = "defaults::yes")]
    pub(crate) mid_block_add_attention: bool,
    #[serde(default = "defaults::yes")]
    pub(crate) use_post_quant_conv: bool,
    #[serde(default = "defaults::silu")]
    pub(crate) act_fn: String,
    /// Statistics of latents' channels, of other autoencoders in the same class.
    #[serde(default)]
    pub(crate) latents_mean: Option<Vec<f64>>,
    #[serde(default)]
    pub(crate) latents_std: Option<Vec<f64>>,
}

impl AutoEncoderConfig {
    /// How many times smaller than the image the latents are, each way.
    pub(crate) fn downscale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&identity::AUTOENCODER)?;
        self.check_ranges()?;
        let has_statistics = self.latents_mean.is_some() || self.latents_std.is_some();
        check("vae", "latents_mean", &has_statistics, !has_statistics)
    }
}

/// `text_encoder/config.json` (`CLIPTextModel`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ClipConfig {
    #[serde(flatten)]
    claims: Claims,
    /// Tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream and of the pooled vector.
    pub(crate) hidden_size: usize,
    /// Width of the feed-forward layers.
    pub(crate) intermediate_size: usize,
    /// Layers.
    pub(crate) num_hidden_layers: usize,
    /// Attention heads.
    pub(crate) num_attention_heads: usize,
    /// Tokens of a padded prompt.
    #[serde(default = "defaults::clip_positions")]
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "defaults::clip_eps")]
    pub(crate) layer_norm_eps: f64,
    /// The token whose state is pooled. 2 is a historical mistake that stands for "the highest id".
    #[serde(default = "defaults::clip_eos")]
    pub(crate) eos_token_id: u32,
    #[serde(default = "defaults::quick_gelu")]
    pub(crate) hidden_act: String,
}

impl ClipConfig {
    pub(crate) fn activation(&self) -> Result<Activation> {
        let (component, value) = ("text_encoder", self.hidden_act.clone());
        match self.hidden_act.as_str() {
            "quick_gelu" => Ok(Activation::QuickGelu),
            "gelu" => Ok(Activation::GeluErf),
            _ => Err(Error::Unsupported { component, field: "hidden_act", value }),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&identity::CLIP)?;
        self.check_ranges()?;
        let component = "text_encoder";
        self.activation()?;
        let heads = self.num_attention_heads;
        let divides = heads > 0 && self.hidden_size.is_multiple_of(heads);
        check(component, "num_attention_heads", &heads, divides)
    }
}

/// `text_encoder_2/config.json` (`T5EncoderModel`, version 1.1).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct T5Config {
    #[serde(flatten)]
    claims: Claims,
    /// Tokens in the vocabulary.
    pub(crate) vocab_size: usize,
    /// Width of the residual stream and of the states.
    pub(crate) d_model: usize,
    /// Width of one attention head.
    pub(crate) d_kv: usize,
    /// Width of the feed-forward layers.
    pub(crate) d_ff: usize,
    /// Layers.
    pub(crate) num_layers: usize,
    /// Attention heads.
    pub(crate) num_heads: usize,
    /// Buckets that distances between tokens fall into.
    #[serde(default = "defaults::thirty_two")]
    pub(crate) relative_attention_num_buckets: usize,
    /// From this distance on, all fall into the last bucket.
    #[serde(default = "defaults::t5_max_distance")]
    pub(crate) relative_attention_max_distance: usize,
    #[serde(default = "defaults::t5_eps")]
    pub(crate) layer_norm_epsilon: f64,
    #[serde(default = "defaults::relu")]
    pub(crate) feed_forward_proj: String,
}

/// T5's feed-forward layers: version 1.1 gates, version 1.0 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum T5FeedForward {
    GatedGelu,
    Relu,
}

impl T5Config {
    pub(crate) fn feed_forward(&self) -> Result<T5FeedForward> {
        let (component, value) = ("text_encoder_2", self.feed_forward_proj.clone());
        match self.feed_forward_proj.as_str() {
            "gated-gelu" => Ok(T5FeedForward::GatedGelu),
            "relu" => Ok(T5FeedForward::Relu),
            _ => Err(Error::Unsupported { component, field: "feed_forward_proj", value }),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&identity::T5)?;
        self.check_ranges()?;
        let component = "text_encoder_2";
        self.feed_forward()?;
        let buckets = self.relative_attention_num_buckets;
        // Half the buckets are for each direction, half of those for exact distances.
        let divides = buckets.is_multiple_of(4);
        check(component, "relative_attention_num_buckets", &buckets, divides)?;
        // Beyond the exact ones there are ranges, which grow to the greatest distance.
        let distance = self.relative_attention_max_distance;
        check(component, "relative_attention_max_distance", &distance, distance > buckets / 4)
    }
}

/// `scheduler/scheduler_config.json` (`FlowMatchEulerDiscreteScheduler`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SchedulerConfig {
    #[serde(flatten)]
    claims: Claims,
    /// What a σ of 1 is called as a time step.
    #[serde(default = "defaults::thousand")]
    pub(crate) num_train_timesteps: usize,
    /// Static shift of the σs; 1 leaves them as they are (FLUX.1-schnell).
    #[serde(default = "defaults::unit")]
    pub(crate) shift: f64,
    /// Whether the shift depends on the number of image tokens (FLUX.1-dev).
    #[serde(default)]
    pub(crate) use_dynamic_shifting: bool,
    /// Dynamic shift at `base_image_seq_len` tokens.
    #[serde(default = "defaults::base_shift")]
    pub(crate) base_shift: f64,
    /// Dynamic shift at `max_image_seq_len` tokens.
    #[serde(default = "defaults::max_shift")]
    pub(crate) max_shift: f64,
    /// See `base_shift`.
    #[serde(default = "defaults::base_image_seq_len")]
    pub(crate) base_image_seq_len: usize,
    /// See `max_shift`.
    #[serde(default = "defaults::max_image_seq_len")]
    pub(crate) max_image_seq_len: usize,
    #[serde(default)]
    pub(crate) shift_terminal: Option<f64>,
    #[serde(default)]
    pub(crate) invert_sigmas: bool,
    #[serde(default)]
    pub(crate) use_karras_sigmas: Option<bool>,
    #[serde(default)]
    pub(crate) use_exponential_sigmas: Option<bool>,
    #[serde(default)]
    pub(crate) use_beta_sigmas: Option<bool>,
    #[serde(default)]
    pub(crate) stochastic_sampling: Option<bool>,
    #[serde(default)]
    pub(crate) use_flow_sigmas: Option<bool>,
    #[serde(default = "defaults::exponential")]
    pub(crate) time_shift_type: String,
    /// Whatever else there is: nothing in a scheduler leaves the images as they are.
    #[serde(flatten)]
    pub(crate) unread: BTreeMap<String, Value>,
}

impl SchedulerConfig {
    pub(crate) fn check(&self) -> Result<()> {
        self.claims.check(&identity::SCHEDULER)?;
        let says_something = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let unread = self.unread.iter().find(|(name, value)| {
            // Such as `_diffusers_version`.
            !name.starts_with('_') && says_something(value)
        });
        if let Some((name, _)) = unread {
            let (component, field) = ("scheduler", "a field that is not known here");
            return Err(Error::Unsupported { component, field, value: name.clone() });
        }
        let unsupported = [
            ("invert_sigmas", self.invert_sigmas),
            ("shift_terminal", self.shift_terminal.is_some_and(|sigma| sigma != 0.0)),
            ("use_karras_sigmas", self.use_karras_sigmas == Some(true)),
            ("use_exponential_sigmas", self.use_exponential_sigmas == Some(true)),
            ("use_beta_sigmas", self.use_beta_sigmas == Some(true)),
            ("stochastic_sampling", self.stochastic_sampling == Some(true)),
            ("use_flow_sigmas", self.use_flow_sigmas == Some(true)),
        ];
        for (field, is_set) in unsupported {
            check("scheduler", field, &is_set, !is_set)?;
        }
        self.check_ranges()?;
        let kind = &self.time_shift_type;
        check("scheduler", "time_shift_type", kind, kind == "exponential")?;
        let (base, max) = (self.base_image_seq_len, self.max_image_seq_len);
        check("scheduler", "max_image_seq_len", &max, max > base)
    }
}

/// Refuses a configuration value that this crate does not implement.
fn check(
    component: &'static str,
    field: &'static str,
    value: &dyn std::fmt::Display,
    is_supported: bool,
) -> Result<()> {
    if is_supported {
        Ok(())
    } else {
        Err(Error::Unsupported { component, field, value: value.to_string() })
    }
}
