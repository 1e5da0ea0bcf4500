//! The range of every number in a configuration: wide enough for any model of this kind, and small enough
//! that what is computed from it cannot overflow.

use std::ops::RangeInclusive;

use super::{AutoEncoderConfig, ClipConfig, SchedulerConfig, T5Config, TransformerConfig, check};
use crate::Result;

/// Rows of an embedding, steps of a schedule, tokens of an image.
pub(super) const TOKENS: RangeInclusive<usize> = 1..=1 << 20;
/// Of a stream, of what lies between two layers, of an image in channels and in pixels.
pub(super) const WIDTH: RangeInclusive<usize> = 1..=1 << 16;
pub(super) const HEAD_WIDTH: RangeInclusive<usize> = 1..=1 << 10;
pub(super) const HEADS: RangeInclusive<usize> = 1..=1 << 8;
pub(super) const LAYERS: RangeInclusive<usize> = 0..=1 << 9;
/// Tokens of a padded prompt, and distances between them.
pub(super) const POSITIONS: RangeInclusive<usize> = 2..=1 << 12;
/// What a normalisation adds to a variance.
pub(super) const EPSILON: RangeInclusive<f64> = 1e-12..=1e-2;

/// What the transformers of all models have.
pub(super) struct TransformerSizes<'a> {
    pub(super) in_channels: usize,
    pub(super) out_channels: Option<usize>,
    pub(super) patch_size: usize,
    pub(super) num_layers: usize,
    pub(super) num_single_layers: usize,
    pub(super) attention_head_dim: usize,
    pub(super) num_attention_heads: usize,
    pub(super) joint_attention_dim: usize,
    pub(super) axes_dims_rope: &'a [usize],
}

impl TransformerSizes<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let component = "transformer";
        let within = Within(component);
        within.count("in_channels", self.in_channels, WIDTH)?;
        within.count("num_layers", self.num_layers, LAYERS)?;
        within.count("num_single_layers", self.num_single_layers, LAYERS)?;
        within.count("attention_head_dim", self.attention_head_dim, HEAD_WIDTH)?;
        within.count("num_attention_heads", self.num_attention_heads, HEADS)?;
        within.count("joint_attention_dim", self.joint_attention_dim, WIDTH)?;
        check(component, "patch_size", &self.patch_size, self.patch_size == 1)?;
        let out_channels = self.out_channels.unwrap_or(self.in_channels);
        check(component, "out_channels", &out_channels, out_channels == self.in_channels)?;
        check(component, "in_channels", &self.in_channels, self.in_channels.is_multiple_of(4))?;
        let axes = self.axes_dims_rope;
        axes.iter().try_for_each(|&dim| within.count("axes_dims_rope", dim, 0..=1 << 10))?;
        let fits = axes.iter().sum::<usize>() == self.attention_head_dim
            && axes.iter().all(|dim| dim.is_multiple_of(2));
        check(component, "axes_dims_rope", &format_args!("{axes:?}"), fits)
    }
}

/// What the autoencoders of all models have.
pub(super) struct AutoEncoderSizes<'a> {
    pub(super) latent_channels: usize,
    pub(super) out_channels: usize,
    pub(super) layers_per_block: usize,
    pub(super) norm_num_groups: usize,
    pub(super) sample_size: Option<usize>,
    /// The field, and what it says: those that the encoder has first, and as many wherever there are others.
    pub(super) channels: &'a [(&'static str, &'a [usize])],
    pub(super) act_fn: &'a str,
    pub(super) mid_block_add_attention: bool,
}

impl AutoEncoderSizes<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let component = "vae";
        let within = Within(component);
        within.count("latent_channels", self.latent_channels, 1..=1 << 12)?;
        within.count("layers_per_block", self.layers_per_block, LAYERS)?;
        within.count("norm_num_groups", self.norm_num_groups, WIDTH)?;
        within.count("sample_size", self.sample_size.unwrap_or(1), WIDTH)?;
        let count = self.channels.first().map_or(0, |(_, levels)| levels.len());
        for &(field, levels) in self.channels {
            // Sizes are multiples of 16 px: up to three halvings, then packing 2×2.
            let fits = (1..=4).contains(&levels.len()) && levels.len() == count;
            check(component, field, &format_args!("{levels:?}"), fits)?;
            levels.iter().try_for_each(|&channels| within.count(field, channels, WIDTH))?;
            let groups = self.norm_num_groups;
            let divides = levels.iter().all(|channels| channels.is_multiple_of(groups));
            check(component, "norm_num_groups", &groups, divides)?;
        }
        check(component, "out_channels", &self.out_channels, self.out_channels == 3)?;
        check(component, "act_fn", &self.act_fn, self.act_fn == "silu")?;
        let attends = self.mid_block_add_attention;
        check(component, "mid_block_add_attention", &attends, attends)
    }
}

impl TransformerConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("transformer");
        within.count("pooled_projection_dim", self.pooled_projection_dim, WIDTH)?;
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
        sizes.check()
    }
}

impl AutoEncoderConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let sizes = AutoEncoderSizes {
            latent_channels: self.latent_channels,
            out_channels: self.out_channels,
            layers_per_block: self.layers_per_block,
            norm_num_groups: self.norm_num_groups,
            sample_size: self.sample_size,
            channels: &[("block_out_channels", &self.block_out_channels)],
            act_fn: &self.act_fn,
            mid_block_add_attention: self.mid_block_add_attention,
        };
        sizes.check()?;
        let within = Within("vae");
        within.number("scaling_factor", self.scaling_factor, 1e-3..=1e3)?;
        within.number("shift_factor", self.shift_factor, -1e3..=1e3)
    }
}

impl ClipConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("text_encoder");
        within.count("vocab_size", self.vocab_size, TOKENS)?;
        within.count("hidden_size", self.hidden_size, WIDTH)?;
        within.count("intermediate_size", self.intermediate_size, WIDTH)?;
        within.count("num_hidden_layers", self.num_hidden_layers, LAYERS)?;
        within.count("num_attention_heads", self.num_attention_heads, HEADS)?;
        within.count("max_position_embeddings", self.max_position_embeddings, POSITIONS)?;
        within.number("layer_norm_eps", self.layer_norm_eps, EPSILON)
    }
}

impl T5Config {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("text_encoder_2");
        within.count("vocab_size", self.vocab_size, TOKENS)?;
        within.count("d_model", self.d_model, WIDTH)?;
        within.count("d_kv", self.d_kv, HEAD_WIDTH)?;
        within.count("d_ff", self.d_ff, WIDTH)?;
        within.count("num_layers", self.num_layers, LAYERS)?;
        within.count("num_heads", self.num_heads, HEADS)?;
        let buckets = self.relative_attention_num_buckets;
        within.count("relative_attention_num_buckets", buckets, 4..=1 << 12)?;
        let distance = self.relative_attention_max_distance;
        within.count("relative_attention_max_distance", distance, POSITIONS)?;
        within.number("layer_norm_epsilon", self.layer_norm_epsilon, EPSILON)
    }
}

impl SchedulerConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("scheduler");
        within.count("num_train_timesteps", self.num_train_timesteps, TOKENS)?;
        within.count("base_image_seq_len", self.base_image_seq_len, TOKENS)?;
        within.count("max_image_seq_len", self.max_image_seq_len, TOKENS)?;
        within.number("shift", self.shift, 1e-3..=1e3)?;
        within.number("base_shift", self.base_shift, -10.0..=10.0)?;
        within.number("max_shift", self.max_shift, -10.0..=10.0)
    }
}

/// Refuses numbers of a component that are out of their range.
pub(super) struct Within(pub(super) &'static str);

impl Within {
    pub(super) fn count(
        &self,
        field: &'static str,
        value: usize,
        range: RangeInclusive<usize>,
    ) -> Result<()> {
        check(self.0, field, &value, range.contains(&value))
    }

    pub(super) fn number(
        &self,
        field: &'static str,
        value: f64,
        range: RangeInclusive<f64>,
    ) -> Result<()> {
        check(self.0, field, &value, range.contains(&value))
    }
}
