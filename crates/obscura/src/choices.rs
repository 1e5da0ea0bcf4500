//! What can be chosen by a name.

use clap::ValueEnum;
use protocol::{Format, Quality, Style};

/// A file format, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatChoice {
    Png,
    #[value(alias = "jpg")]
    Jpeg,
    Webp,
}

impl From<FormatChoice> for Format {
    fn from(choice: FormatChoice) -> Self {
        match choice {
            FormatChoice::Png => Self::Png,
            FormatChoice::Jpeg => Self::JPEG,
            FormatChoice::Webp => Self::WebP,
        }
    }
}

/// OpenAI's names, and what they mean here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QualityChoice {
    /// 2 steps
    Low,
    /// 4 steps, what FLUX.1-schnell is made for
    #[value(aliases = ["auto", "standard"])]
    Medium,
    /// 8 steps
    #[value(alias = "hd")]
    High,
}

impl From<QualityChoice> for Quality {
    fn from(choice: QualityChoice) -> Self {
        match choice {
            QualityChoice::Low => Self::Low,
            QualityChoice::Medium => Self::Medium,
            QualityChoice::High => Self::High,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StyleChoice {
    /// The prompt as it is
    Natural,
    /// The prompt, and words for strong colours behind it
    Vivid,
}

impl From<StyleChoice> for Style {
    fn from(choice: StyleChoice) -> Self {
        match choice {
            StyleChoice::Natural => Self::Natural,
            StyleChoice::Vivid => Self::Vivid,
        }
    }
}
