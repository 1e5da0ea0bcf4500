//! The noise levels of each step, and the step itself: Euler's method on a rectified flow.
//!
//! Source: the behaviour of diffusers' `FlowMatchEulerDiscreteScheduler` as `FluxPipeline` calls it.

use candle_core::Tensor;

use crate::{Result, config::SchedulerConfig};

/// Noise levels σ from 1 down to 0, one more than there are steps.
pub(crate) struct Schedule {
    sigmas: Vec<f32>,
    train_timesteps: f32,
}

impl Schedule {
    /// `steps` levels from 1 to 1/steps, evenly spaced and then shifted towards noise, and a last 0.
    ///
    /// Static shift s: σ ← sσ / (1 + (s − 1)σ). Dynamic shift, for `image_tokens` tokens:
    /// σ ← eᵘ / (eᵘ + 1/σ − 1), with µ linear in the number of tokens.
    pub(crate) fn new(config: &SchedulerConfig, steps: usize, image_tokens: usize) -> Self {
        let mut sigmas: Vec<f32> = (0..steps)
            .map(|i| (1.0 - i as f64 / steps as f64) as f32)
            .map(|sigma| {
                if config.use_dynamic_shifting {
                    let power = dynamic_shift(config, image_tokens).exp() as f32;
                    power / (power + (1.0 / sigma - 1.0))
                } else {
                    let shift = config.shift as f32;
                    shift * sigma / (1.0 + (shift - 1.0) * sigma)
                }
            })
            .collect();
        sigmas.push(0.0);
        Self { sigmas, train_timesteps: config.num_train_timesteps as f32 }
    }

    /// All noise levels, (steps + 1,).
    pub(crate) fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    pub(crate) fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// What the transformer is told at each step: σ in thousandths, f32.
    ///
    /// diffusers divides the scheduler's time step by 1000 and multiplies it again; so does this, for
    /// the same last bit.
    pub(crate) fn timesteps(&self) -> Vec<f32> {
        let levels = &self.sigmas[..self.steps()];
        levels.iter().map(|sigma| sigma * self.train_timesteps / 1000.0 * 1000.0).collect()
    }

    /// x ← x + (σᵢ₊₁ − σᵢ) · velocity, on latents (l, c), f32.
    pub(crate) fn step(&self, i: usize, latents: &Tensor, velocity: &Tensor) -> Result<Tensor> {
        let change = f64::from(self.sigmas[i + 1] - self.sigmas[i]);
        Ok((latents + (velocity * change)?)?)
    }

    /// x₀ = x − σᵢ · velocity: where the flow of step `i` would end, on latents (l, c), f32.
    pub(crate) fn clean(&self, i: usize, latents: &Tensor, velocity: &Tensor) -> Result<Tensor> {
        Ok((latents - (velocity * f64::from(self.sigmas[i]))?)?)
    }
}

/// µ: linear between `base_shift` at `base_image_seq_len` tokens and `max_shift` at
/// `max_image_seq_len`, and beyond.
fn dynamic_shift(config: &SchedulerConfig, image_tokens: usize) -> f64 {
    let (base, max) = (config.base_image_seq_len as f64, config.max_image_seq_len as f64);
    let slope = (config.max_shift - config.base_shift) / (max - base);
    config.base_shift + slope * (image_tokens as f64 - base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> SchedulerConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn schnell_is_evenly_spaced() {
        let schedule = Schedule::new(&config(r#"{"shift": 1.0}"#), 4, 4096);
        assert_eq!(schedule.sigmas, [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(schedule.timesteps(), [1000.0, 750.0, 500.0, 250.0]);
    }

    #[test]
    fn static_shift_moves_towards_noise() {
        let schedule = Schedule::new(&config(r#"{"shift": 3.0}"#), 2, 4096);
        assert_eq!(schedule.sigmas, [1.0, 0.75, 0.0]);
    }

    /// `FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3)` of diffusers 0.42, for
    /// 4096 and 1024 tokens.
    #[test]
    fn dev_shifts_with_the_number_of_tokens() {
        let dev = config(r#"{"shift": 3.0, "use_dynamic_shifting": true}"#);
        for (tokens, expected) in DYNAMIC {
            let schedule = Schedule::new(&dev, 4, tokens);
            for (found, expected) in schedule.sigmas.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    const DYNAMIC: [(usize, [f32; 5]); 2] = [
        (4096, [1.0, 0.904_530_76, 0.759_510_9, 0.512_844_15, 0.0]),
        (1024, [1.0, 0.849_234_8, 0.652_489_4, 0.384_944_74, 0.0]),
    ];
}
