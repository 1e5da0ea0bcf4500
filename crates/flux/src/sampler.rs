//! The noise levels of each step, and the step itself: Euler's method on a rectified flow.
//!
//! Source: the behaviour of diffusers' `FlowMatchEulerDiscreteScheduler` as `FluxPipeline` calls it.

use candle_core::Tensor;

use crate::{Result, config::SchedulerConfig};

/// µ, where noise levels are shifted by how many tokens an image has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shift(f64);

impl Shift {
    /// µ linear between `base_shift` at `base_image_seq_len` tokens and `max_shift` at `max_image_seq_len`, and
    /// beyond: FLUX.1's.
    pub(crate) fn linear(config: &SchedulerConfig, image_tokens: usize) -> Self {
        let (base, max) = (config.base_image_seq_len as f64, config.max_image_seq_len as f64);
        let slope = (config.max_shift - config.base_shift) / (max - base);
        Self(config.base_shift + slope * (image_tokens as f64 - base))
    }

    /// FLUX.2's, from measurements: of 10 and of 200 steps a line each over the tokens, between them a line over
    /// the steps; above 4300 tokens that of 200 steps alone.
    ///
    /// Constants: diffusers v0.42.1, `pipeline_flux2_klein.py`, `compute_empirical_mu`.
    pub(crate) fn empirical(image_tokens: usize, steps: usize) -> Self {
        let tokens = image_tokens as f64;
        let of_200_steps = 0.000_169_27 * tokens + 0.456_666_66;
        if image_tokens > 4300 {
            return Self(of_200_steps);
        }
        let of_10_steps = 8.738_095_24e-5 * tokens + 1.898_333_33;
        let slope = (of_200_steps - of_10_steps) / 190.0;
        let at_0_steps = of_200_steps - 200.0 * slope;
        Self(slope * steps as f64 + at_0_steps)
    }
}

/// Noise levels σ from 1 down to 0, one more than there are steps.
pub(crate) struct Schedule {
    sigmas: Vec<f32>,
    train_timesteps: f32,
}

impl Schedule {
    /// `steps` levels from 1 to 1/steps, evenly spaced and then shifted towards noise, and a last 0.
    ///
    /// Static shift s: σ ← sσ / (1 + (s − 1)σ). Where the configuration asks for a dynamic one:
    /// σ ← eᵘ / (eᵘ + 1/σ − 1).
    pub(crate) fn new(config: &SchedulerConfig, steps: usize, Shift(mu): Shift) -> Self {
        let mut sigmas: Vec<f32> = (0..steps)
            .map(|i| (1.0 - i as f64 / steps as f64) as f32)
            .map(|sigma| {
                if config.use_dynamic_shifting {
                    let power = mu.exp() as f32;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> SchedulerConfig {
        serde_json::from_str(json).unwrap()
    }

    fn of(config: &SchedulerConfig, steps: usize, tokens: usize) -> Schedule {
        Schedule::new(config, steps, Shift::linear(config, tokens))
    }

    /// `compute_empirical_mu` of diffusers 0.42.1.
    #[test]
    fn empirical_shifts_are_those_of_diffusers() {
        for (tokens, steps, expected) in EMPIRICAL {
            let Shift(found) = Shift::empirical(tokens, steps);
            assert!((found - expected).abs() < 1e-12, "{tokens} {steps}: {found} {expected}");
        }
    }

    #[test]
    fn schnell_is_evenly_spaced() {
        let schedule = of(&config(r#"{"shift": 1.0}"#), 4, 4096);
        assert_eq!(schedule.sigmas, [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(schedule.timesteps(), [1000.0, 750.0, 500.0, 250.0]);
    }

    #[test]
    fn static_shift_moves_towards_noise() {
        let schedule = of(&config(r#"{"shift": 3.0}"#), 2, 4096);
        assert_eq!(schedule.sigmas, [1.0, 0.75, 0.0]);
    }

    /// `FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3)` of diffusers 0.42, for
    /// 4096 and 1024 tokens.
    #[test]
    fn dev_shifts_with_the_number_of_tokens() {
        let dev = config(r#"{"shift": 3.0, "use_dynamic_shifting": true}"#);
        for (tokens, expected) in DYNAMIC {
            let schedule = of(&dev, 4, tokens);
            for (found, expected) in schedule.sigmas.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }

    const EMPIRICAL: [(usize, usize, f64); 6] = [
        (4096, 4, 2.291179894115571),
        (1024, 4, 2.0306897079499455),
        (12, 4, 1.9448771856844465),
        (4300, 50, 2.0446937905157894),
        (4301, 4, 1.18469693),
        (16384, 8, 3.22998634),
    ];
    const DYNAMIC: [(usize, [f32; 5]); 2] = [
        (4096, [1.0, 0.904_530_76, 0.759_510_9, 0.512_844_15, 0.0]),
        (1024, [1.0, 0.849_234_8, 0.652_489_4, 0.384_944_74, 0.0]),
    ];
}
