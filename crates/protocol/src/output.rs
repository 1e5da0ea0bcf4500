//! Output: the file format, and the form in which an image is sent.

use crate::InvalidParameter;

/// An image's file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lossless.
    Png,
    /// Lossy.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
    /// Lossless.
    WebP,
}

impl Format {
    /// A JPEG where no quality is given.
    pub const JPEG: Self = Self::Jpeg { quality: 92 };

    /// What `output_format` and `output_compression` ask for.
    ///
    /// # Errors
    /// Where the format is unknown, or a compression is asked of a lossless one.
    pub(crate) fn parse(
        format: Option<&str>,
        compression: Option<i64>,
    ) -> Result<Self, InvalidParameter> {
        const LOSSLESS: i64 = 100;
        let param = "output_compression";
        let compression = compression
            .map(|percent| crate::range::in_range(percent, 0, LOSSLESS))
            .transpose()
            .map_err(|range| InvalidParameter::OutOfRange { param, range })?;
        match (format.unwrap_or("png"), compression) {
            ("jpeg" | "jpg", None) => Ok(Self::JPEG),
            ("jpeg" | "jpg", Some(percent)) => Ok(Self::Jpeg { quality: percent.max(1) as u8 }),
            ("png", None | Some(LOSSLESS)) => Ok(Self::Png),
            ("webp", None | Some(LOSSLESS)) => Ok(Self::WebP),
            ("png" | "webp", Some(_)) => Err(InvalidParameter::Lossless),
            _ => {
                Err(InvalidParameter::Choice { param: "output_format", choices: "png, jpeg, webp" })
            }
        }
    }

    /// The format that a file's extension names, if one does.
    #[must_use]
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::JPEG),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }

    /// Its name in `output_format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg { .. } => "jpeg",
            Self::WebP => "webp",
        }
    }

    /// What the names of its files end with.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg { .. } => "jpg",
            Self::WebP => "webp",
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg { .. } => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

/// How images are told back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFormat {
    /// The client did not say: whatever the route's clients read.
    Unsaid,
    /// As a URL.
    Url,
    /// As base64, and as a data URL.
    B64Json,
}

/// How much work goes into an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// `low`: 2 steps.
    Low,
    /// `medium`, `standard`, `auto`: 4 steps, what FLUX.1-schnell is distilled for.
    Medium,
    /// `high`, `hd`: 8 steps.
    High,
}

impl Quality {
    pub(crate) fn parse(quality: Option<&str>) -> Result<Self, InvalidParameter> {
        match quality {
            None | Some("auto" | "standard" | "medium") => Ok(Self::Medium),
            Some("low") => Ok(Self::Low),
            Some("hd" | "high") => Ok(Self::High),
            Some(_) => Err(InvalidParameter::Choice {
                param: "quality",
                choices: "auto, low, medium, high, standard, hd",
            }),
        }
    }

    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Whether images come all at once, or as events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One answer.
    Whole,
    /// Events.
    Stream {
        /// Images on the way, of each image: 0 to 3.
        partial_images: usize,
        /// Our extension: an event a step.
        progress: bool,
    },
}

impl Delivery {
    /// The most images on the way.
    pub const MAX_PARTIAL_IMAGES: i64 = 3;

    pub(crate) fn parse(
        stream: Option<bool>,
        partial_images: Option<i64>,
        progress: Option<bool>,
        response_format: ResponseFormat,
    ) -> Result<Self, InvalidParameter> {
        let param = "partial_images";
        let partial_images =
            crate::range::in_range(partial_images.unwrap_or(0), 0, Self::MAX_PARTIAL_IMAGES)
                .map_err(|range| InvalidParameter::OutOfRange { param, range })?;
        let progress = progress.unwrap_or(false);
        match (stream.unwrap_or(false), partial_images, progress) {
            // Events carry images, as OpenAI's do.
            (true, ..) if response_format == ResponseFormat::Url => {
                Err(InvalidParameter::NotStreaming { param: "response_format" })
            }
            (true, partial_images, progress) => {
                Ok(Self::Stream { partial_images: partial_images as usize, progress })
            }
            (false, 0, false) => Ok(Self::Whole),
            (false, 0, true) => Err(InvalidParameter::OnlyStreaming { param: "progress" }),
            (false, ..) => Err(InvalidParameter::OnlyStreaming { param }),
        }
    }
}
