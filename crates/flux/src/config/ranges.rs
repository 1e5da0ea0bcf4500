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

impl TransformerConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("transformer");
        within.count("in_channels", self.in_channels, WIDTH)?;
        within.count("num_layers", self.num_layers, LAYERS)?;
        within.count("num_single_layers", self.num_single_layers, LAYERS)?;
        within.count("attention_head_dim", self.attention_head_dim, HEAD_WIDTH)?;
        within.count("num_attention_heads", self.num_attention_heads, HEADS)?;
        within.count("joint_attention_dim", self.joint_attention_dim, WIDTH)?;
        within.count("pooled_projection_dim", self.pooled_projection_dim, WIDTH)?;
        let axes = self.axes_dims_rope.iter();
        axes.copied().try_for_each(|dim| within.count("axes_dims_rope", dim, 0..=1 << 10))
    }
}

impl AutoEncoderConfig {
    pub(super) fn check_ranges(&self) -> Result<()> {
        let within = Within("vae");
        within.count("latent_channels", self.latent_channels, WIDTH)?;
        within.count("layers_per_block", self.layers_per_block, LAYERS)?;
        within.count("sample_size", self.sample_size.unwrap_or(1), WIDTH)?;
        // Sizes are multiples of 16 px: up to three halvings, then packing 2×2.
        within.count("block_out_channels", self.block_out_channels.len(), 1..=4)?;
        for &channels in &self.block_out_channels {
            within.count("block_out_channels", channels, WIDTH)?;
        }
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
