//! The types of a rule's value: lists, digests, permissions, needs.

use serde::{Deserialize, Deserializer, de};

use crate::{
    encoding::{hex, unhex_array},
    platform::Platform,
};

/// Whether something must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    Required,
    Optional,
}

/// Whether something may be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Permit {
    Allow,
    Refuse,
}

/// What this verifier cannot appraise yet, and a policy has to say that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum NotAppraised {
    #[serde(rename = "not appraised")]
    NotAppraised,
}

/// Which values are trusted: these, or, written out, `"any"`.
#[derive(Debug, Clone)]
pub(crate) enum Allow<T> {
    Any,
    Only(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Allow<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<T> {
            Word(String),
            List(Vec<T>),
        }
        match Form::deserialize(deserializer)? {
            Form::Word(word) if word == "any" => Ok(Self::Any),
            Form::Word(_) => Err(de::Error::custom("must be a list, or \"any\"")),
            Form::List(list) => Ok(Self::Only(list)),
        }
    }
}

/// A platform by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlatformName(pub(crate) Platform);

impl<'de> Deserialize<'de> for PlatformName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let platform = Platform::from_name(&name);
        platform.map(Self).ok_or_else(|| de::Error::custom("must be tdx or snp"))
    }
}

/// `N` bytes in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex_array(&text);
        bytes.map(Self).ok_or_else(|| {
            de::Error::custom(format!("must be {} lower-case hexadecimal digits", 2 * N))
        })
    }
}

impl<const N: usize> std::fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}
