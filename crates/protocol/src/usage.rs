//! Usage, for billing: the `Usage` schema, every field always present.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens read and made. Travels in clear text beside the ciphertext, for the proxy's billing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Text tokens that were computed: the encoder's length, whatever the prompt's; and, of an edit, the
    /// tokens of its input images in steps of 1024. How long the prompt was, and
    /// how large the images, is told inside of the ciphertext alone ([`ImageUsage`]).
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
    /// A quarter of the largest input image's tokens.
    pub const IMAGE_TOKENS_STEP: u32 = 1024;

    /// Tokens of input images, as they are told in clear text: the next step.
    #[must_use]
    pub fn coarse_image_tokens(image_tokens: u32) -> u32 {
        image_tokens.div_ceil(Self::IMAGE_TOKENS_STEP).saturating_mul(Self::IMAGE_TOKENS_STEP)
    }

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
    /// Tokens of the prompt and of the input images.
    pub input_tokens: u32,
    /// What they were.
    pub input_tokens_details: InputTokensDetails,
    /// Latent patches made.
    pub output_tokens: u32,
    /// The sum.
    pub total_tokens: u32,
}

impl ImageUsage {
    /// Usage of a request that read these and made so many tokens.
    #[must_use]
    pub fn new(read: InputTokensDetails, output_tokens: u32) -> Self {
        let input_tokens = read.text_tokens.saturating_add(read.image_tokens);
        Self {
            input_tokens,
            input_tokens_details: read,
            output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
        }
    }
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputTokensDetails {
    /// How many tokens the prompt has.
    pub text_tokens: u32,
    /// Of input images: (width/16) × (height/16) of each, as it is read.
    pub image_tokens: u32,
}
