//! What a request is billed by: the `Usage` schema, every field always present.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens read and made. Travels in clear text beside the ciphertext, for the proxy's billing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Text tokens that were computed: the encoder's length, whatever the prompt's. How long the
    /// prompt was is told inside of the ciphertext alone ([`ImageUsage`]).
    pub prompt_tokens: u32,
    /// Latent patches made: n × (width/16) × (height/16).
    pub completion_tokens: u32,
    /// The sum.
    pub total_tokens: u32,
    /// All zero: images have no such parts.
    pub completion_tokens_details: CompletionTokensDetails,
    /// All zero: nothing is cached.
    pub prompt_tokens_details: PromptTokensDetails,
}

impl Usage {
    /// Usage of a request that read and made so many tokens.
    #[must_use]
    pub fn new(prompt_tokens: u32, completion_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            completion_tokens_details: CompletionTokensDetails::default(),
            prompt_tokens_details: PromptTokensDetails::default(),
        }
    }
}

/// Details that text models fill in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens of an accepted prediction.
    pub accepted_prediction_tokens: u32,
    /// Audio tokens.
    pub audio_tokens: u32,
    /// Reasoning tokens.
    pub reasoning_tokens: u32,
    /// Tokens of a rejected prediction.
    pub rejected_prediction_tokens: u32,
}

/// Details that text models fill in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Audio tokens.
    pub audio_tokens: u32,
    /// Tokens that came from a cache.
    pub cached_tokens: u32,
}

/// The same, as OpenAI's image API spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageUsage {
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// What they were.
    pub input_tokens_details: InputTokensDetails,
    /// Latent patches made.
    pub output_tokens: u32,
    /// The sum.
    pub total_tokens: u32,
}

impl ImageUsage {
    /// Usage of a request that read and made so many tokens.
    #[must_use]
    pub fn new(input_tokens: u32, output_tokens: u32) -> Self {
        Self {
            input_tokens,
            input_tokens_details: InputTokensDetails { text_tokens: input_tokens, image_tokens: 0 },
            output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
        }
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputTokensDetails {
    /// Of text: all of them.
    pub text_tokens: u32,
    /// Of images: none.
    pub image_tokens: u32,
}
