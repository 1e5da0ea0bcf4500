//! What diffusers and transformers assume where a field is left out.

pub(super) fn one() -> usize {
    1
}

pub(super) fn three() -> usize {
    3
}

pub(super) fn thirty_two() -> usize {
    32
}

pub(super) fn thousand() -> usize {
    1000
}

pub(super) fn unit() -> f64 {
    1.0
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn flux_axes() -> [usize; 3] {
    [16, 56, 56]
}

pub(super) fn flux2_axes() -> [usize; 4] {
    [32; 4]
}

pub(super) fn flux2_theta() -> f64 {
    2000.0
}

pub(super) fn flux2_mlp_ratio() -> f64 {
    3.0
}

/// Channels of an embedded noise level.
pub(super) fn sinusoids() -> usize {
    256
}

pub(super) fn batch_norm_eps() -> f64 {
    1e-4
}

pub(super) fn two_by_two() -> [usize; 2] {
    [2, 2]
}

pub(super) fn norm_eps() -> f64 {
    1e-6
}

pub(super) fn qwen3_head() -> usize {
    128
}

pub(super) fn silu() -> String {
    "silu".to_owned()
}

pub(super) fn quick_gelu() -> String {
    "quick_gelu".to_owned()
}

pub(super) fn relu() -> String {
    "relu".to_owned()
}

pub(super) fn exponential() -> String {
    "exponential".to_owned()
}

pub(super) fn clip_positions() -> usize {
    77
}

pub(super) fn clip_eps() -> f64 {
    1e-5
}

pub(super) fn clip_eos() -> u32 {
    49407
}

pub(super) fn t5_max_distance() -> usize {
    128
}

pub(super) fn t5_eps() -> f64 {
    1e-6
}

pub(super) fn base_shift() -> f64 {
    0.5
}

pub(super) fn max_shift() -> f64 {
    1.15
}

pub(super) fn base_image_seq_len() -> usize {
    256
}

pub(super) fn max_image_seq_len() -> usize {
    4096
}
