//! Tensors for tests: the same in every run.

use candle_core::{Device, Tensor};

/// About normally distributed, f32, another for every seed.
pub(super) fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    // xorshift64: J. Stat. Softw. 8(14), 2003.
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let values = 0..shape.iter().product::<usize>();
    // The sum of twelve uniforms has variance 1.
    let values: Vec<f32> = values.map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
