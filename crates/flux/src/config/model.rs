//! The configurations of FLUX.1's components together.

use super::{AutoEncoderConfig, ClipConfig, SchedulerConfig, T5Config, TransformerConfig};
use crate::{Error, Result};

/// The configuration of every component of FLUX.1.
#[derive(Debug, Clone)]
pub(crate) struct Configs {
    pub(crate) clip: ClipConfig,
    pub(crate) t5: T5Config,
    pub(crate) transformer: TransformerConfig,
    pub(crate) autoencoder: AutoEncoderConfig,
    pub(crate) scheduler: SchedulerConfig,
}

impl Configs {
    /// Tokens that T5's prompts are padded to: FLUX.1-schnell was distilled with 256, FLUX.1-dev,
    /// which is the one with a guidance embedding, with 512.
    pub(crate) fn text_tokens(&self) -> usize {
        if self.transformer.guidance_embeds { 512 } else { 256 }
    }

    /// Each by itself, then whether they fit together.
    pub(crate) fn check(&self) -> Result<()> {
        self.clip.check()?;
        self.t5.check()?;
        self.transformer.check()?;
        self.autoencoder.check()?;
        self.scheduler.check()?;
        let transformer = &self.transformer;
        let fits = [
            ("joint_attention_dim", transformer.joint_attention_dim, self.t5.d_model),
            ("pooled_projection_dim", transformer.pooled_projection_dim, self.clip.hidden_size),
            ("in_channels", transformer.in_channels, 4 * self.autoencoder.latent_channels),
        ];
        for (field, value, expected) in fits {
            if value != expected {
                let value = value.to_string();
                return Err(Error::Unsupported { component: "transformer", field, value });
            }
        }
        Ok(())
    }
}
