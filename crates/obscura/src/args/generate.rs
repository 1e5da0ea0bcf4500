//! What `obscura generate` can be told: what to draw, and where to.

use std::{path::PathBuf, str::FromStr};

use clap::ValueEnum;
use protocol::{InvalidSize, Size};

use super::{ModelArgs, ProvenanceChoice, TrustArgs};
use crate::{
    choices::{FormatChoice, QualityChoice, StyleChoice},
    preview::PreviewChoice,
};

#[derive(clap::Args)]
pub(crate) struct GenerateArgs {
    /// What to draw; `-` reads prompts from standard input, a line each
    #[arg(required_unless_present = "prompts")]
    pub(crate) prompt: Option<String>,
    /// Read prompts from this file, a line each; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub(crate) prompts: Option<PathBuf>,
    /// Draw from this image as well as from the prompt (FLUX.2-klein): PNG, JPEG or WebP; may be given again
    #[arg(long = "image", value_name = "FILE")]
    pub(crate) images: Vec<PathBuf>,
    /// Keep the first image where this PNG, as large as it, is opaque, and draw it anew where it is transparent
    #[arg(long, value_name = "FILE", requires = "images")]
    pub(crate) mask: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Ask the node at this URL, privately, instead of drawing in this process
    #[arg(long, value_name = "URL")]
    pub(crate) node: Option<String>,
    /// The node's name for the model [default: the only one that it has]
    #[arg(long, value_name = "NAME")]
    pub(crate) model_id: Option<String>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// The node's bearer key
    #[arg(long, value_name = "KEY", env = "OBSCURA_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// DANGEROUS: send the bearer key over plain http:// to another machine too, where everyone on the
    /// way can read it
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// The image's size [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(crate) size: Option<Size>,
    /// Sampler steps, 1 to 50 [default: those of --quality]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) steps: Option<i64>,
    /// How much work goes into an image
    #[arg(long, default_value = "medium")]
    pub(crate) quality: QualityChoice,
    /// Whether the prompt is added to
    #[arg(long, default_value = "natural")]
    pub(crate) style: StyleChoice,
    /// Seed of the first image of each prompt; drawn where absent, or -1. Image i has seed + i
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) seed: Option<SeedChoice>,
    /// Guidance scale, for models that take one (FLUX.1-dev) [default: 3.5]
    #[arg(long, allow_negative_numbers = true, value_parser = guidance)]
    pub(crate) guidance: Option<f32>,
    /// How many images of each prompt, 1 to 10
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) n: i64,
    /// Where to write: PNG, JPEG or WebP by the ending; `-` is standard output. Of several images, the
    /// second and later get a number [default: obscura.png, or the next free number]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The format where no file's ending says it [default: png]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<FormatChoice>,
    /// What the node is to say of where images are from; the receipt and what opens it are written beside
    /// each image, as FILE.provenance.json
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub(crate) provenance: ProvenanceChoice,
    /// Replace files that are there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Print an object a line: one of each image as soon as its file is there, and a summary
    #[arg(long)]
    pub(crate) json: bool,
    /// Show images, and what becomes of them on the way, in the terminal; each look on the way is as
    /// much work as decoding an image
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) preview: PreviewChoice,
    /// Print times as the last line of standard output
    #[arg(long, value_name = "FORM", conflicts_with = "json")]
    pub(crate) timings: Option<TimingsForm>,
}

/// A seed, or none: as requests have it, -1 leaves it to whoever draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeedChoice(pub(crate) Option<u64>);

impl FromStr for SeedChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "-1" => Ok(Self(None)),
            _ => text.parse().map(|seed| Self(Some(seed))).map_err(|_| {
                format!("must be a whole number from 0 to {}, or -1 for any seed", u64::MAX)
            }),
        }
    }
}

/// A size; where it is nearly one, the error says which would do.
pub(super) fn size(text: &str) -> Result<Size, String> {
    text.parse().map_err(|error: InvalidSize| {
        let side = |side: &str| {
            let side: u64 = side.parse().ok()?;
            let multiple = u64::from(Size::MULTIPLE_PX);
            let nearest = (side.saturating_add(multiple / 2)) / multiple * multiple;
            Some(nearest.clamp(multiple, Size::MAX_SIDE_PX.into()))
        };
        let nearest =
            text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
        match nearest {
            Some((width, height)) => format!("{error}; {width}x{height} would do"),
            None => error.to_string(),
        }
    })
}

fn guidance(text: &str) -> Result<f32, String> {
    let scale = text.parse::<f64>().map_err(|_| "must be a number such as 3.5".to_owned())?;
    match protocol::Guidance::new(scale) {
        Ok(scale) => Ok(scale.get()),
        Err(_) => Err(format!("must be from 0 to {}", protocol::Guidance::MAX)),
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TimingsForm {
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_get_advice_that_works() {
        assert_eq!("-1".parse(), Ok(SeedChoice(None)));
        assert_eq!("18446744073709551615".parse(), Ok(SeedChoice(Some(u64::MAX))));
        assert!("-2".parse::<SeedChoice>().unwrap_err().contains("-1 for any seed"));
        for (wrong, advice) in
            [("1000x1000", "1008x1008"), ("0x9", "16x16"), ("99999x16", "8192x16")]
        {
            let said = size(wrong).unwrap_err();
            assert!(said.contains(advice), "{said}");
            assert!(size(advice).is_ok());
        }
        assert!(size("big").unwrap_err().contains("1024x768"));
        assert_eq!(guidance("3.5"), Ok(3.5));
        assert!(guidance("nan").is_err() && guidance("31").is_err());
    }
}
