//! Which LoRA, and how much of it.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::FileDigest;

/// A LoRA that a model is to be merged with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lora {
    /// A safetensors file.
    pub file: PathBuf,
    /// How much of it.
    pub weight: LoraWeight,
    /// Which bytes it must be made of, where somebody said.
    pub sha256: Option<FileDigest>,
}

/// `FILE`, or `FILE:WEIGHT`; the weight is 1 where none is told.
impl FromStr for Lora {
    type Err = InvalidLora;

    fn from_str(text: &str) -> Result<Self, InvalidLora> {
        let (file, weight) = match text.rsplit_once(':') {
            None => (text, LoraWeight::ONE),
            Some((file, weight)) => (file, weight.parse()?),
        };
        if file.is_empty() {
            return Err(InvalidLora::NoFile);
        }
        Ok(Self { file: file.into(), weight, sha256: None })
    }
}

/// How much of a LoRA is merged: 1 as it was trained, 0 nothing, less than 0 its contrary.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct LoraWeight(f64);

impl LoraWeight {
    /// As it was trained.
    pub const ONE: Self = Self(1.0);

    /// The largest, either way: far beyond what leaves anything of an image.
    pub const MOST: f64 = 100.0;

    /// # Errors
    /// Where it is no number, or larger than [`LoraWeight::MOST`] either way.
    pub fn new(weight: f64) -> Result<Self, InvalidLora> {
        // Not a number is in no range.
        if !(-Self::MOST..=Self::MOST).contains(&weight) {
            return Err(InvalidLora::Range { weight });
        }
        // One zero, so that equal weights print alike.
        Ok(Self(if weight == 0.0 { 0.0 } else { weight }))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A weight is a number, so it equals itself.
impl PartialEq for LoraWeight {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for LoraWeight {}

impl FromStr for LoraWeight {
    type Err = InvalidLora;

    fn from_str(text: &str) -> Result<Self, InvalidLora> {
        let weight = text.trim().parse();
        Self::new(weight.map_err(|_| InvalidLora::NoNumber { text: text.to_owned() })?)
    }
}

/// The shortest decimal that is this number: manifests name it so.
impl fmt::Display for LoraWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<f64> for LoraWeight {
    type Error = InvalidLora;

    fn try_from(weight: f64) -> Result<Self, InvalidLora> {
        Self::new(weight)
    }
}

impl From<LoraWeight> for f64 {
    fn from(weight: LoraWeight) -> Self {
        weight.0
    }
}

/// Why a LoRA cannot be meant so.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum InvalidLora {
    /// No file is named.
    #[error("must be FILE:WEIGHT, and names no file")]
    NoFile,
    /// What follows the last colon is no number.
    #[error("must be FILE:WEIGHT, and {text:?} is no number")]
    NoNumber {
        /// What follows.
        text: String,
    },
    /// A weight that is no number, or too large.
    #[error("a weight must be from -{} to {}, not {weight}", LoraWeight::MOST, LoraWeight::MOST)]
    Range {
        /// The weight.
        weight: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_weight_are_told_apart() {
        let lora = |text: &str| text.parse::<Lora>();
        let file = |text: &str| lora(text).map(|lora| (lora.file, lora.weight.get()));
        assert_eq!(file("a/b.safetensors"), Ok(("a/b.safetensors".into(), 1.0)));
        assert_eq!(file("a:b.safetensors:-0.5"), Ok(("a:b.safetensors".into(), -0.5)));
        assert_eq!(lora(":1"), Err(InvalidLora::NoFile));
        assert_eq!(lora(""), Err(InvalidLora::NoFile));
        for text in ["a:", "a:b", "a:1,5", "a:0x1"] {
            assert!(matches!(lora(text), Err(InvalidLora::NoNumber { .. })), "{text}");
        }
        for text in ["a:nan", "a:inf", "a:-inf", "a:1e3"] {
            assert!(matches!(lora(text), Err(InvalidLora::Range { .. })), "{text}");
        }
    }

    #[test]
    fn equal_weights_print_alike() {
        let shown = |weight| LoraWeight::new(weight).unwrap().to_string();
        assert_eq!([shown(-0.0), shown(0.80), shown(1.0)], ["0", "0.8", "1"]);
    }
}
